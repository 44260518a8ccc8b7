//! WebSockets, for networks that let no UDP through (PROTOCOL §2.4): the handshake, and how a connection runs over one.

use std::{future::Future, net::SocketAddr, time::Duration};

use quinn_proto::Side;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::{WebSocketStream, tungstenite::protocol::WebSocketConfig};

use super::{
    Connection, Kind,
    mux::{self, Config, RECORD, Times},
    quiet::quietly,
};

/// QMux in its second draft, and in it our protocol.
const PROTOCOL: &str = "qmux-02.tidings.v1";
/// Bytes that a socket is read by: each connection keeps as many.
const READ_BUFFER: usize = 4 * 1024;

fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .max_message_size(Some(RECORD))
        .max_frame_size(Some(RECORD))
        .read_buffer_size(READ_BUFFER)
        // What waits, waits where it can still be chosen.
        .write_buffer_size(0)
        // A record, and answers to pings of a peer that reads nothing: of more the newest stays.
        .max_write_buffer_size(2 * RECORD)
}

/// One side of a connection over an open WebSocket, and what moves its bytes, to be polled until it is ready.
fn run<S>(
    socket: WebSocketStream<S>,
    side: Side,
    peer: SocketAddr,
    bounds: Config,
    times: Times,
) -> (Connection, impl Future<Output = ()> + use<S>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let shared = mux::Shared::new(side, peer, bounds, times.idle);
    let connection = Connection(Kind::Mux(mux::Connection::new(shared.clone())));
    (connection, mux::pump(socket, shared, times))
}

#[cfg(feature = "server")]
pub(crate) use server::{accept, judge};

#[cfg(feature = "server")]
mod server {
    use bytes::Bytes;
    use http::{HeaderMap, HeaderValue, Method, StatusCode, header, request::Parts};
    use tokio_tungstenite::tungstenite::{handshake::derive_accept_key, protocol::Role};

    use super::*;
    use crate::{
        transport::{Allowed, listener},
        wire::WEBTRANSPORT_PATH,
    };

    /// As over QUIC, but for the streams of HTTP/3.
    const BOUNDS: Config = Config {
        bidi_streams: listener::BIDI_STREAMS as u64,
        uni_streams: 0,
        window: listener::RECEIVE_WINDOW as u64,
        stream_window: listener::STREAM_RECEIVE_WINDOW as u64,
    };

    /// The connection over a socket that [`judge`] let in, of which some bytes were read already, and what moves its bytes, to be polled
    /// until it is ready.
    pub(crate) async fn accept<S>(
        socket: S,
        already: Bytes,
        peer: SocketAddr,
        idle: Duration,
    ) -> (Connection, impl Future<Output = ()> + use<S>)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        // A page that nobody sees has timers that are late by a minute; what it is asked it answers at once.
        let times = Times {
            idle,
            keep_alive: Some(idle / 3),
        };
        let (role, config) = (Role::Server, Some(config()));
        let socket = quietly(WebSocketStream::from_partially_read(
            socket,
            already.into(),
            role,
            config,
        ))
        .await;
        run(socket, Side::Server, peer, BOUNDS, times)
    }

    /// The headers of the answer 101 to a request for a WebSocket, or why there is none (PROTOCOL §2.4).
    pub(crate) fn judge(
        request: &Parts,
        origins: &Allowed,
    ) -> Result<HeaderMap, (StatusCode, String)> {
        let refuse = |status, reason: &str| Err((status, reason.to_owned()));
        if request.uri.path() != WEBTRANSPORT_PATH {
            let reason = format!("the path is not {WEBTRANSPORT_PATH}");
            return Err((StatusCode::NOT_FOUND, reason));
        }
        // HEAD is answered as GET without an upgrade is.
        if ![Method::GET, Method::HEAD].contains(&request.method) {
            let reason = format!(
                "a WebSocket is opened with GET, not with {}",
                request.method
            );
            return Err((StatusCode::METHOD_NOT_ALLOWED, reason));
        }
        let headers = &request.headers;
        let upgrade = names(headers, &header::CONNECTION, "upgrade")
            && names(headers, &header::UPGRADE, "websocket");
        if request.method != Method::GET || !upgrade {
            return refuse(
                StatusCode::UPGRADE_REQUIRED,
                "over TCP this is for WebSockets alone; QUIC and WebTransport come over UDP, on the same port",
            );
        }
        origins
            .judge(headers.get(header::ORIGIN))
            .map_err(|reason| (StatusCode::FORBIDDEN, reason))?;
        if !names(headers, &header::SEC_WEBSOCKET_VERSION, "13") {
            return refuse(StatusCode::BAD_REQUEST, "the WebSocket's version is not 13");
        }
        if !names(headers, &header::SEC_WEBSOCKET_PROTOCOL, PROTOCOL) {
            let reason = format!("no subprotocol {PROTOCOL} was offered");
            return Err((StatusCode::BAD_REQUEST, reason));
        }
        let Some(key) = headers.get(header::SEC_WEBSOCKET_KEY) else {
            return refuse(StatusCode::BAD_REQUEST, "there is no Sec-WebSocket-Key");
        };
        let Ok(key) = HeaderValue::from_str(&derive_accept_key(key.as_bytes())) else {
            return refuse(StatusCode::BAD_REQUEST, "the Sec-WebSocket-Key is none");
        };
        Ok(HeaderMap::from_iter([
            (header::CONNECTION, HeaderValue::from_static("upgrade")),
            (header::UPGRADE, HeaderValue::from_static("websocket")),
            (header::SEC_WEBSOCKET_ACCEPT, key),
            (
                header::SEC_WEBSOCKET_PROTOCOL,
                HeaderValue::from_static(PROTOCOL),
            ),
        ]))
    }

    /// Whether a header that lists names has this one.
    fn names(headers: &HeaderMap, header: &header::HeaderName, wanted: &str) -> bool {
        let values = headers.get_all(header).into_iter();
        let mut names = values
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','));
        names.any(|name| name.trim().eq_ignore_ascii_case(wanted))
    }
}

#[cfg(feature = "client")]
pub(super) use client::connect;

#[cfg(feature = "client")]
mod client {
    use http::header;
    use tokio_tungstenite::{
        client_async_with_config,
        tungstenite::{Error, client::IntoClientRequest, error::UrlError},
    };

    use super::*;
    use crate::transport::dial::{DialError, IDLE, STREAM_RECEIVE_WINDOW};

    /// Opens a WebSocket, and a connection over it that is served in a task of its own; `fail` makes an error of what went wrong.
    pub(in crate::transport) async fn connect<S>(
        socket: S,
        url: &url::Url,
        peer: SocketAddr,
        max_streams: u32,
        keep_alive: Duration,
        fail: impl Fn(String) -> DialError,
    ) -> Result<Connection, DialError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let request = url.as_str().into_client_request();
        let mut request = request.map_err(|error| fail(error.to_string()))?;
        let protocol = header::HeaderValue::from_static(PROTOCOL);
        request
            .headers_mut()
            .insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
        let opened = quietly(client_async_with_config(request, socket, Some(config()))).await;
        let (socket, _) = opened.map_err(|error| match error {
            Error::Http(response) => DialError::Refused(response.status().as_u16()),
            Error::Url(UrlError::NoHostName) => fail("the URL has no host".to_owned()),
            error => fail(error.to_string()),
        })?;
        let bounds = Config {
            bidi_streams: 0,
            uni_streams: max_streams.into(),
            // All of them unread hold up nobody, and not the control stream.
            window: u64::from(max_streams).saturating_add(1) * u64::from(STREAM_RECEIVE_WINDOW),
            stream_window: STREAM_RECEIVE_WINDOW.into(),
        };
        let times = Times {
            idle: IDLE,
            keep_alive: Some(keep_alive),
        };
        let (connection, pump) = run(socket, Side::Client, peer, bounds, times);
        // It ends by itself, a moment after the connection: when the last handle of that is dropped at the latest.
        tokio::spawn(pump);
        Ok(connection)
    }
}
