//! How a raw client connects.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use quinn::{
    ClientConfig, Connection, ConnectionError, Endpoint, TransportConfig, VarInt,
    crypto::rustls::QuicClientConfig,
};
use rustls::{
    DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use tidings::{
    client::Transport,
    testing::TestServer,
    wire::{ALPN, SUBPROTOCOL, frame::Welcome},
};
use web_transport_quinn::{
    ClientError, ConnectError, Session,
    proto::{self, ConnectRequest},
};

use super::{Raw, Refusal, closed, hello};

/// How to connect.
#[derive(Clone)]
pub(crate) struct Dial {
    pub(crate) transport: Transport,
    address: SocketAddr,
    alpn: Vec<Vec<u8>>,
    /// Unidirectional streams that the server may open.
    streams: u32,
    /// Bytes of each stream that the server may send unread.
    window: u32,
    /// The same for all streams together.
    total: VarInt,
    datagrams: bool,
}

/// What the server takes for HTTP/3 of the streams that a client permits: one, for its SETTINGS.
const HTTP3_STREAMS: u32 = 1;

impl Dial {
    pub(crate) fn new(server: &TestServer, transport: Transport) -> Self {
        Self::at(server.address(), transport)
    }

    pub(crate) fn at(address: SocketAddr, transport: Transport) -> Self {
        let alpn = match transport {
            Transport::Quic => ALPN,
            Transport::WebTransport => web_transport_quinn::ALPN,
            other => panic!("no raw client speaks {other}; see `websocket.rs`"),
        };
        Self {
            transport,
            address,
            alpn: vec![alpn.into()],
            streams: 100 + HTTP3_STREAMS,
            window: 1 << 20,
            total: VarInt::MAX,
            datagrams: true,
        }
    }

    pub(crate) fn to(mut self, address: SocketAddr) -> Self {
        self.address = address;
        self
    }

    pub(crate) fn alpn(mut self, alpn: &[&str]) -> Self {
        self.alpn = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        self
    }

    /// Permits so many streams, beside those that HTTP/3 needs.
    pub(crate) fn streams(mut self, streams: u32) -> Self {
        self.streams = match self.transport {
            Transport::Quic => streams,
            _ => streams + HTTP3_STREAMS,
        };
        self
    }

    /// Permits no stream at all, even where HTTP/3 needs some.
    pub(crate) fn no_streams(mut self) -> Self {
        self.streams = 0;
        self
    }

    pub(crate) fn window(mut self, bytes: u32) -> Self {
        self.window = bytes;
        self
    }

    /// Takes no QUIC datagrams.
    pub(crate) fn no_datagrams(mut self) -> Self {
        self.datagrams = false;
        self
    }

    /// Takes so many bytes unread on all streams together: as a slow link does, it makes the server's streams share.
    pub(crate) fn total(mut self, bytes: u32) -> Self {
        self.total = bytes.into();
        self
    }

    /// The QUIC handshake alone.
    pub(crate) async fn quic(&self) -> Result<Connection, ConnectionError> {
        // The connection keeps the endpoint alive.
        let endpoint = Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        self.quic_from(&endpoint).await
    }

    /// The same, from an endpoint of the caller's.
    pub(crate) async fn quic_from(
        &self,
        endpoint: &Endpoint,
    ) -> Result<Connection, ConnectionError> {
        let alpn: Vec<_> = self.alpn.iter().map(Vec::as_slice).collect();
        let crypto = client_crypto(&alpn);
        let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(crypto).unwrap()));
        let mut settings = TransportConfig::default();
        settings
            .max_concurrent_uni_streams(VarInt::from_u32(self.streams))
            .stream_receive_window(VarInt::from_u32(self.window))
            .receive_window(self.total);
        if !self.datagrams {
            settings.datagram_receive_buffer_size(None);
        }
        config.transport_config(Arc::new(settings));
        endpoint
            .connect_with(config, self.address, "localhost")
            .unwrap()
            .await
    }

    /// A good CONNECT of WebTransport, to be spoilt.
    pub(crate) fn request(&self) -> ConnectRequest {
        let url = format!("https://{}/tidings", self.address);
        ConnectRequest::new(url::Url::parse(&url).unwrap()).with_protocol(SUBPROTOCOL)
    }

    /// QUIC and this CONNECT. The error is the status.
    pub(crate) async fn connect(&self, request: ConnectRequest) -> Result<Session, u16> {
        self.connect_on(self.quic().await.unwrap(), request).await
    }

    async fn connect_on(
        &self,
        connection: Connection,
        request: ConnectRequest,
    ) -> Result<Session, u16> {
        match Session::connect(connection, request).await {
            Ok(session) => Ok(session),
            Err(ClientError::HttpError(ConnectError::ProtoError(
                proto::ConnectError::WrongStatus(Some(status)),
            ))) => Err(status.as_u16()),
            Err(error) => panic!("neither accepted nor refused by status: {error:?}"),
        }
    }

    /// Everything before the control stream.
    pub(crate) async fn session(&self) -> Session {
        self.session_on(self.quic().await.unwrap()).await
    }

    async fn session_on(&self, connection: Connection) -> Session {
        match self.transport {
            Transport::Quic => Session::raw(connection),
            _ => self.connect_on(connection, self.request()).await.unwrap(),
        }
    }

    /// What the server says to this token.
    pub(crate) async fn refused(&self, token: Option<String>) -> Refusal {
        let mut raw = self.open().await;
        raw.send(hello(token)).await;
        raw.closed().await
    }

    /// The same, with a control stream, on which nothing is written yet.
    pub(crate) async fn open(&self) -> Raw {
        self.open_on(self.quic().await.unwrap()).await
    }

    /// The same, where QUIC's handshake is done.
    pub(crate) async fn open_on(&self, connection: Connection) -> Raw {
        let session = self.session_on(connection).await;
        Raw::open(session).await.unwrap()
    }

    /// The same, with a server that may say no at once.
    pub(crate) async fn try_open(&self) -> Result<Raw, Refusal> {
        let session = self.session().await;
        let opened = Raw::open(session.clone()).await;
        match opened {
            Ok(raw) => Ok(raw),
            Err(_) => Err(closed(&session).await),
        }
    }

    /// The same, welcomed.
    pub(crate) async fn welcomed(&self, token: String) -> (Raw, Welcome) {
        let mut raw = self.open().await;
        let welcome = raw.greet(token).await;
        (raw, welcome)
    }
}

/// TLS with whoever is there.
pub(crate) fn client_crypto(alpn: &[impl AsRef<[u8]>]) -> rustls::ClientConfig {
    let mut crypto = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AcceptAnything))
        .with_no_client_auth();
    crypto.alpn_protocols = alpn.iter().map(|name| name.as_ref().to_vec()).collect();
    crypto
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// These tests are not about certificates.
#[derive(Debug)]
struct AcceptAnything;

impl ServerCertVerifier for AcceptAnything {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}
