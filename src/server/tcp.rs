//! A client that came over TCP: it opens a WebSocket, or asks for something that is not here (PROTOCOL §2.4).

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
#[cfg(feature = "web")]
use http::Method;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::{
    body::Incoming,
    server::conn::http1,
    service::service_fn,
    upgrade::{OnUpgrade, Parts},
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::host;
use super::worker::{Common, HANDSHAKES, SHUTTING_DOWN, serve_one};
use crate::{
    session::Home,
    transport::{
        Allowed, Caller, Upgrade,
        peer_log::{Excerpt, throttled},
        websocket,
    },
    wire::Code,
};

/// Most bytes that a connection buffers, and so the longest head of a request.
const BUFFER: usize = 16 * 1024;
/// A connection that opens no WebSocket lives no longer.
const LIFETIME: Duration = Duration::from_secs(60);

/// The body of an answer.
pub(super) type Body = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// From the first byte to the last.
pub(super) async fn one(caller: Caller, common: Common, home: Arc<Home>, over: CancellationToken) {
    let peer = caller.peer;
    let prefix = caller.prefix();
    let tcp = Arc::clone(&common.tcp);
    let open = async {
        let (socket, permit, open) = match caller.secure(tcp.deadline).await {
            Ok(secured) => secured,
            Err(error) => {
                let error = error.to_string();
                throttled!(HANDSHAKES, info, %peer, error = %Excerpt(&error), "no connection");
                return None;
            }
        };
        let (socket, already, upgrade) = Box::pin(converse(socket, peer, &tcp)).await?;
        Some((socket, already, upgrade, permit, open))
    };
    // Who comes while the server leaves comes back, here or elsewhere.
    let Some(Some((socket, already, upgrade, permit, _open))) =
        home.drain.run_until_cancelled(open).await
    else {
        return;
    };
    let (connection, pump) = websocket::accept(socket, already, peer, tcp.idle).await;
    let session = async {
        let last = connection.clone();
        let served = serve_one(connection, permit, Some(upgrade), prefix, common, home);
        if over.run_until_cancelled(served).await.is_none() {
            last.close_and_linger(Code::GOING_AWAY, SHUTTING_DOWN).await;
        }
    };
    tokio::join!(pump, session);
}

/// Bounds of a conversation before there is a session.
#[derive(Debug)]
pub(super) struct Config {
    pub(super) origins: Allowed,
    pub(super) deadline: Duration,
    pub(super) idle: Duration,
}

/// Answers requests until one opens a WebSocket: then the socket is given back, with what was read of it already.
async fn converse<S>(
    socket: S,
    peer: SocketAddr,
    config: &Arc<Config>,
) -> Option<(S, Bytes, Upgrade)>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let opened = Arc::new(Mutex::new(None));
    let service = service_fn(|request| {
        let answer = answer(request, peer, &config.origins, &opened);
        async move { Ok::<_, Infallible>(answer) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(config.deadline)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(socket), service)
        .with_upgrades();
    if let Ok(Err(error)) = timeout(LIFETIME, connection).await {
        tracing::debug!(%error, "the connection broke");
    }
    let (opened, request) = opened
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take()?;
    let Parts { io, read_buf, .. } = opened.await.ok()?.downcast::<TokioIo<S>>().ok()?;
    Some((io.into_inner(), read_buf, request))
}

fn answer(
    mut request: Request<Incoming>,
    peer: SocketAddr,
    origins: &Allowed,
    opened: &Mutex<Option<(OnUpgrade, Upgrade)>>,
) -> Response<Body> {
    let upgrade = hyper::upgrade::on(&mut request);
    let (head, _) = request.into_parts();
    if let Err(reason) = host::check(head.version, &head.headers) {
        tracing::debug!(reason, "a bad request");
        return refuse(StatusCode::BAD_REQUEST, reason.to_owned());
    }
    #[cfg(feature = "web")]
    if let Some(file) = super::assets::find(head.uri.path())
        && file.is_sdk()
    {
        const METHODS: HeaderValue = HeaderValue::from_static("GET,HEAD,OPTIONS");
        let status = match head.method {
            Method::GET | Method::HEAD => None,
            Method::OPTIONS => Some(StatusCode::NO_CONTENT),
            _ => Some(StatusCode::METHOD_NOT_ALLOWED),
        };
        if let Some(status) = status {
            let mut response = refuse(status, String::new());
            response.headers_mut().insert(header::ALLOW, METHODS);
            return response;
        }
        let whole = |bytes| {
            Full::new(bytes)
                .map_err(|never| match never {})
                .boxed_unsync()
        };
        let mut response = file.answer(&head.headers).map(whole);
        // Its place among those on their way to a session is free at once.
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
        return response;
    }
    match websocket::judge(&head, origins) {
        Ok(headers) => {
            let request = Upgrade::new(head.uri.path(), head.uri.query(), head.headers);
            *opened.lock().unwrap_or_else(PoisonError::into_inner) = Some((upgrade, request));
            let mut response = respond(StatusCode::SWITCHING_PROTOCOLS, String::new());
            *response.headers_mut() = headers;
            response
        }
        Err((status, reason)) => {
            throttled!(HANDSHAKES, info, %peer, %status, reason = %Excerpt(&reason), "no WebSocket");
            let mut response = refuse(status, reason);
            let headers = response.headers_mut();
            if status == StatusCode::UPGRADE_REQUIRED {
                headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
            }
            if status == StatusCode::METHOD_NOT_ALLOWED {
                headers.insert(header::ALLOW, HeaderValue::from_static("GET"));
            }
            response
        }
    }
}

/// An answer with which the connection ends.
fn refuse(status: StatusCode, mut reason: String) -> Response<Body> {
    if !reason.is_empty() {
        reason.push('\n');
    }
    let mut response = respond(status, reason);
    let close = HeaderValue::from_static("close");
    response.headers_mut().insert(header::CONNECTION, close);
    response
}

fn respond(status: StatusCode, text: String) -> Response<Body> {
    let body = Full::new(Bytes::from(text)).map_err(|never| match never {});
    let mut response = Response::new(body.boxed_unsync());
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}
