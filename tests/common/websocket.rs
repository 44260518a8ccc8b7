//! WebSockets by hand.

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use futures_util::StreamExt;
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{self, client::IntoClientRequest},
};

use super::raw::client_crypto;

pub(crate) const PROTOCOL: &str = "qmux-02.tidings.v1";

pub(crate) async fn secure(address: SocketAddr) -> TlsStream<TcpStream> {
    let socket = TcpStream::connect(address).await.unwrap();
    secure_on(socket).await.unwrap()
}

async fn secure_on(socket: TcpStream) -> std::io::Result<TlsStream<TcpStream>> {
    let connector = TlsConnector::from(Arc::new(client_crypto(&["http/1.1"])));
    let name = ServerName::try_from("localhost").unwrap();
    connector.connect(name, socket).await
}

pub(crate) async fn open(address: SocketAddr) -> WebSocketStream<TlsStream<TcpStream>> {
    let socket = TcpStream::connect(address).await.unwrap();
    open_on(socket, address).await.unwrap()
}

/// The same over a connection of the caller's, to a server that may say no.
pub(crate) async fn open_on(
    socket: TcpStream,
    address: SocketAddr,
) -> Result<WebSocketStream<TlsStream<TcpStream>>, tungstenite::Error> {
    let url = format!("wss://{address}/tidings");
    let mut request = url.into_client_request().unwrap();
    let headers = request.headers_mut();
    headers.insert("sec-websocket-protocol", PROTOCOL.parse().unwrap());
    let (socket, response) = client_async(request, secure_on(socket).await?).await?;
    assert_eq!(response.headers()["sec-websocket-protocol"], PROTOCOL);
    Ok(socket)
}

/// The record with which a connection begins.
pub(crate) fn parameters(all: &[u8]) -> tungstenite::Message {
    let kind = 0xff51_5330_0d0a_0d0a_u64.to_be_bytes();
    let length = u8::try_from(all.len()).unwrap();
    tungstenite::Message::binary([&kind[..], &[length], all].concat())
}

/// A record with these bytes of the control stream.
pub(crate) fn on_control(bytes: &[u8]) -> tungstenite::Message {
    let length = 0x4000 | u16::try_from(bytes.len()).unwrap();
    tungstenite::Message::binary([&[0x0a, 0x00][..], &length.to_be_bytes(), bytes].concat())
}

/// The last before the end.
pub(crate) async fn last_record<S>(socket: &mut WebSocketStream<S>) -> Bytes
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut last = Bytes::new();
    while let Some(Ok(came)) = socket.next().await {
        if let tungstenite::Message::Binary(record) = came {
            last = record;
        }
    }
    last
}
