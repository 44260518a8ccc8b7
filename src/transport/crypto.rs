//! TLS on the server's side of a QUIC connection. quinn-proto's own session keeps all that rustls needed for the handshake, and
//! the keys of a key update that few connections live to see: 4 KiB of each that is idle. This one keeps neither.

use std::{
    any::Any,
    io::Cursor,
    sync::{Arc, OnceLock},
};

use super::padding;
use bytes::BytesMut;
use quinn_proto::{
    ConnectionId, Side, TransportError, TransportErrorCode,
    crypto::{
        self, CryptoError, ExportKeyingMaterialError, KeyPair, Keys, PacketKey, UnsupportedVersion,
        rustls::QuicServerConfig,
    },
    transport_parameters::TransportParameters,
};
use rustls::quic::{KeyChange, PacketKeySet, Secrets, ServerConnection, Version};

/// The version of QUIC that we speak (RFC 9000 §15).
pub(super) const QUIC_V1: u32 = 1;

/// For all connections of a listener.
pub(super) struct ServerCrypto {
    tls: Arc<rustls::ServerConfig>,
    /// For what has no state.
    quic: Arc<QuicServerConfig>,
}

impl ServerCrypto {
    pub(super) fn new(tls: rustls::ServerConfig) -> Result<Self, rustls::Error> {
        let tls = Arc::new(tls);
        // What fails now would fail for every connection.
        ServerConnection::new(Arc::clone(&tls), Version::V1, Vec::new())?;
        let quic = QuicServerConfig::try_from(Arc::clone(&tls))
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        Ok(Self {
            tls,
            quic: Arc::new(quic),
        })
    }
}

impl crypto::ServerConfig for ServerCrypto {
    fn initial_keys(&self, version: u32, id: &ConnectionId) -> Result<Keys, UnsupportedVersion> {
        self.quic.initial_keys(version, id)
    }

    fn retry_tag(&self, version: u32, original: &ConnectionId, packet: &[u8]) -> [u8; 16] {
        self.quic.retry_tag(version, original, packet)
    }

    fn start_session(
        self: Arc<Self>,
        version: u32,
        parameters: &TransportParameters,
    ) -> Box<dyn crypto::Session> {
        debug_assert_eq!(version, QUIC_V1, "the endpoint lets nothing else through");
        let mut ours = Vec::new();
        parameters.write(&mut ours);
        let tls = ServerConnection::new(Arc::clone(&self.tls), Version::V1, ours);
        Box::new(Session {
            config: self,
            tls: tls.ok().map(Box::new),
            protocol: None,
            update: None,
            update_is_told: false,
        })
    }
}

struct Session {
    config: Arc<ServerCrypto>,
    /// Until the handshake is over.
    tls: Option<Box<ServerConnection>>,
    protocol: Option<Box<[u8]>>,
    /// The keys that the next key update puts to use.
    update: Option<Arc<Update>>,
    /// quinn-proto has them.
    update_is_told: bool,
}

/// The keys of one key update (RFC 9001 §6), derived when the first packet needs them.
struct Update {
    secrets: Secrets,
    derived: OnceLock<Box<Derived>>,
}

struct Derived {
    keys: PacketKeySet,
    /// Of the update after this one.
    secrets: Secrets,
}

impl Update {
    fn new(secrets: Secrets) -> Arc<Self> {
        Arc::new(Self {
            secrets,
            derived: OnceLock::new(),
        })
    }

    fn derived(&self) -> &Derived {
        self.derived.get_or_init(|| {
            let mut secrets = self.secrets.clone();
            let keys = secrets.next_packet_keys();
            Box::new(Derived { keys, secrets })
        })
    }
}

struct Local(Arc<Update>);

struct Remote(Arc<Update>);

/// [`PacketKey`] by another one.
macro_rules! packet_key {
    ($of:ident, $key:ident) => {
        impl PacketKey for $of {
            fn encrypt(&self, packet: u64, buffer: &mut [u8], header: usize) {
                padding::encrypt(&self.0.derived().keys.$key, packet, buffer, header);
            }

            fn decrypt(
                &self,
                packet: u64,
                header: &[u8],
                payload: &mut BytesMut,
            ) -> Result<(), CryptoError> {
                PacketKey::decrypt(&self.0.derived().keys.$key, packet, header, payload)
            }

            fn tag_len(&self) -> usize {
                PacketKey::tag_len(&self.0.derived().keys.$key)
            }

            fn confidentiality_limit(&self) -> u64 {
                PacketKey::confidentiality_limit(&self.0.derived().keys.$key)
            }

            fn integrity_limit(&self) -> u64 {
                PacketKey::integrity_limit(&self.0.derived().keys.$key)
            }
        }
    };
}

/// The key of the packets that we send, after the handshake.
struct Sealing(Box<dyn rustls::quic::PacketKey>);

impl PacketKey for Sealing {
    fn encrypt(&self, packet: u64, buffer: &mut [u8], header: usize) {
        padding::encrypt(&self.0, packet, buffer, header);
    }

    fn decrypt(
        &self,
        packet: u64,
        header: &[u8],
        payload: &mut BytesMut,
    ) -> Result<(), CryptoError> {
        PacketKey::decrypt(&self.0, packet, header, payload)
    }

    fn tag_len(&self) -> usize {
        PacketKey::tag_len(&self.0)
    }

    fn confidentiality_limit(&self) -> u64 {
        PacketKey::confidentiality_limit(&self.0)
    }

    fn integrity_limit(&self) -> u64 {
        PacketKey::integrity_limit(&self.0)
    }
}

packet_key!(Local, local);
packet_key!(Remote, remote);

impl crypto::Session for Session {
    fn initial_keys(&self, id: &ConnectionId, side: Side) -> Keys {
        debug_assert_eq!(side, Side::Server);
        crypto::ServerConfig::initial_keys(&*self.config, QUIC_V1, id)
            .unwrap_or_else(|_| unreachable!("version 1 has initial keys"))
    }

    /// The protocol of ALPN, as a `Box<[u8]>`.
    fn handshake_data(&self) -> Option<Box<dyn Any>> {
        let protocol = self.protocol.clone()?;
        Some(Box::new(protocol))
    }

    /// We ask for no certificate.
    fn peer_identity(&self) -> Option<Box<dyn Any>> {
        None
    }

    fn early_crypto(&self) -> Option<(Box<dyn crypto::HeaderKey>, Box<dyn PacketKey>)> {
        None
    }

    fn early_data_accepted(&self) -> Option<bool> {
        None
    }

    fn is_handshaking(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.is_handshaking())
    }

    fn read_handshake(&mut self, bytes: &[u8]) -> Result<bool, TransportError> {
        let error = |code, reason: String| TransportError {
            code,
            frame: None,
            reason,
        };
        let Some(tls) = &mut self.tls else {
            // RFC 9001 §6: a client has nothing to say in TLS after its handshake.
            let reason = "TLS message after the handshake".to_owned();
            return Err(error(TransportErrorCode::PROTOCOL_VIOLATION, reason));
        };
        tls.read_hs(bytes).map_err(|failure| {
            let code = tls
                .alert()
                .map_or(TransportErrorCode::PROTOCOL_VIOLATION, |alert| {
                    TransportErrorCode::crypto(alert.into())
                });
            error(code, failure.to_string())
        })?;
        if self.protocol.is_none()
            && let Some(protocol) = tls.alpn_protocol()
        {
            self.protocol = Some(protocol.into());
            return Ok(true);
        }
        Ok(false)
    }

    fn transport_parameters(&self) -> Result<Option<TransportParameters>, TransportError> {
        let theirs = self
            .tls
            .as_ref()
            .and_then(|tls| tls.quic_transport_parameters());
        theirs
            .map(|theirs| TransportParameters::read(Side::Server, &mut Cursor::new(theirs)))
            .transpose()
            .map_err(Into::into)
    }

    fn write_handshake(&mut self, buffer: &mut Vec<u8>) -> Option<Keys> {
        let tls = self.tls.as_mut()?;
        let keys = match tls.write_hs(buffer) {
            Some(KeyChange::Handshake { keys }) => keys,
            Some(KeyChange::OneRtt { keys, next }) => {
                self.update = Some(Update::new(next));
                keys
            }
            None => {
                // All is written, the ticket too.
                if !tls.is_handshaking() {
                    self.tls = None;
                }
                return None;
            }
        };
        Some(Keys {
            header: KeyPair {
                local: Box::new(keys.local.header),
                remote: Box::new(keys.remote.header),
            },
            packet: KeyPair {
                local: Box::new(Sealing(keys.local.packet)),
                remote: Box::new(keys.remote.packet),
            },
        })
    }

    /// First called for the keys of the first update, then each time that keys are put to use, for those after them.
    fn next_1rtt_keys(&mut self) -> Option<KeyPair<Box<dyn PacketKey>>> {
        let update = self.update.as_mut()?;
        if self.update_is_told {
            // The keys that were told are about to be used.
            *update = Update::new(update.derived().secrets.clone());
        }
        self.update_is_told = true;
        Some(KeyPair {
            local: Box::new(Local(Arc::clone(update))),
            remote: Box::new(Remote(Arc::clone(update))),
        })
    }

    /// Only clients are sent a Retry.
    fn is_valid_retry(&self, _: &ConnectionId, _: &[u8], _: &[u8]) -> bool {
        false
    }

    fn export_keying_material(
        &self,
        _: &mut [u8],
        _: &[u8],
        _: &[u8],
    ) -> Result<(), ExportKeyingMaterialError> {
        Err(ExportKeyingMaterialError)
    }
}

#[cfg(all(test, feature = "client"))]
#[allow(clippy::unwrap_used, reason = "helpers of tests")]
mod tests {
    use std::time::{Duration, SystemTime};

    use quinn_proto::crypto::{ClientConfig as _, ServerConfig as _};

    use super::*;
    use crate::{
        transport::{
            Trust,
            tls::{Certificate, CertificateStore, client_crypto, server_crypto},
        },
        wire::ALPN,
    };

    /// What both sides have when the handshake is over.
    struct Done {
        server: Box<dyn crypto::Session>,
        client: Box<dyn crypto::Session>,
        keys: [Keys; 2],
    }

    /// With a certificate, whose PEM text it returns.
    fn server() -> (Arc<ServerCrypto>, String) {
        let day = Duration::from_secs(86_400);
        let (certificate, chain, _) =
            Certificate::self_signed(&["localhost"], SystemTime::now(), day).unwrap();
        let store = Arc::new(CertificateStore::new(certificate));
        let server = ServerCrypto::new(server_crypto(store).unwrap()).unwrap();
        (Arc::new(server), chain)
    }

    fn handshake() -> Done {
        let (server, chain) = server();
        let trust = Trust::Pem(chain.into_bytes());
        let client = client_crypto(&trust, ALPN.as_bytes()).unwrap();
        let client = quinn_proto::crypto::rustls::QuicClientConfig::try_from(client).unwrap();
        let none = TransportParameters::read(Side::Client, &mut Cursor::new([])).unwrap();
        let mut client = Arc::new(client)
            .start_session(QUIC_V1, "localhost", &none)
            .unwrap();
        let mut server = server.start_session(QUIC_V1, &none);
        let mut keys: [Vec<Keys>; 2] = [Vec::new(), Vec::new()];
        assert!(server.is_handshaking());
        while client.is_handshaking() || server.is_handshaking() {
            let before = keys[0].len() + keys[1].len();
            pass(&mut client, &mut server, &mut keys[0]);
            pass(&mut server, &mut client, &mut keys[1]);
            let on = keys[0].len() + keys[1].len() > before || !server.is_handshaking();
            assert!(on, "the handshake stands still");
        }
        Done {
            server,
            client,
            keys: keys.map(|mut keys| keys.pop().unwrap()),
        }
    }

    /// Takes what one side has to say to the other.
    fn pass(
        from: &mut Box<dyn crypto::Session>,
        to: &mut Box<dyn crypto::Session>,
        keys: &mut Vec<Keys>,
    ) {
        loop {
            let mut said = Vec::new();
            let new = from.write_handshake(&mut said);
            let over = new.is_none() && said.is_empty();
            keys.extend(new);
            if over {
                return;
            }
            if !said.is_empty() {
                to.read_handshake(&said).unwrap();
            }
        }
    }

    /// Whether `opener` opens what `sealer` sealed.
    fn fits(sealer: &dyn PacketKey, opener: &dyn PacketKey) -> bool {
        let header = b"header";
        let mut packet = [&header[..], b"payload", &[0; 16]].concat();
        sealer.encrypt(7, &mut packet, header.len());
        let mut payload = BytesMut::from(&packet[header.len()..]);
        opener.decrypt(7, header, &mut payload).is_ok() && payload[..] == b"payload"[..]
    }

    #[test]
    fn keys_are_the_same_on_both_sides_over_three_updates() {
        let Done {
            mut server,
            mut client,
            keys: [clients, servers],
        } = handshake();
        let (mut clients, mut servers) = (clients.packet, servers.packet);
        for update in 0..4 {
            assert!(fits(&*servers.local, &*clients.remote), "{update}");
            let (new_clients, new_servers) = (
                client.next_1rtt_keys().unwrap(),
                server.next_1rtt_keys().unwrap(),
            );
            assert!(!fits(&*servers.local, &*new_clients.remote), "{update}");
            if update != 1 {
                assert!(fits(&*clients.local, &*servers.remote), "{update}");
            }
            (clients, servers) = (new_clients, new_servers);
        }
    }

    #[test]
    fn nothing_of_the_handshake_is_left_and_nothing_more_is_taken() {
        let Done { mut server, .. } = handshake();
        let protocol = server.handshake_data().unwrap();
        let protocol = protocol.downcast::<Box<[u8]>>().unwrap();
        assert_eq!(**protocol, *ALPN.as_bytes());
        assert!(server.transport_parameters().unwrap().is_none());
        let error = server.read_handshake(&[24, 0, 0, 1, 0]).unwrap_err();
        assert_eq!(error.code, TransportErrorCode::PROTOCOL_VIOLATION);
    }

    /// A ClientHello that offers these suites, and what the server makes of it.
    fn offer(suites: &[rustls::SupportedCipherSuite]) -> Result<bool, TransportError> {
        let (server, _) = server();
        let none = TransportParameters::read(Side::Client, &mut Cursor::new([])).unwrap();
        let provider = rustls::crypto::CryptoProvider {
            cipher_suites: suites.to_vec(),
            ..rustls::crypto::aws_lc_rs::default_provider()
        };
        let mut client = rustls::ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        client.alpn_protocols = vec![ALPN.into()];
        let name = "localhost".try_into().unwrap();
        let client = Arc::new(client);
        let mut client =
            rustls::quic::ClientConnection::new(client, Version::V1, name, Vec::new()).unwrap();
        let mut hello = Vec::new();
        assert!(client.write_hs(&mut hello).is_none());
        server.start_session(QUIC_V1, &none).read_handshake(&hello)
    }

    #[test]
    fn aes_256_is_not_spoken_even_with_who_prefers_it() {
        use rustls::crypto::aws_lc_rs::cipher_suite::{
            TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256,
        };
        for spoken in [TLS13_AES_128_GCM_SHA256, TLS13_CHACHA20_POLY1305_SHA256] {
            offer(&[TLS13_AES_256_GCM_SHA384, spoken]).unwrap();
        }
        offer(&[TLS13_AES_256_GCM_SHA384]).unwrap_err();
    }
}
