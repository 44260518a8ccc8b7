//! Connections: accepted up to a bound, beyond which one of strangers ends for each new one, served under deadlines, joined at the end.
//!
//! `axum::serve` bounds neither the time that a head takes nor the number of connections, so this is hyper by hand.

use std::{convert::Infallible, io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::Request,
    http::{HeaderValue, StatusCode, header},
    response::Response,
};
use hyper::{body::Incoming, server::conn::http1};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::{JoinError, JoinSet},
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::transport::sockets;

use super::{
    ApiKey, Config,
    admission::{Admission, Admitted},
};

/// Most bytes that a connection buffers, and so the longest head: a longer one is answered with 431.
const BUFFER: usize = 32 * 1024;
/// Connections that were evicted and have not ended, at most.
const ENDING: usize = 64;
/// Pause after the operating system refused to accept: it has no file descriptor or memory left, and asking again at once
/// would only burn the processor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);

pub(super) async fn serve(
    listener: TcpListener,
    router: Router,
    key: ApiKey,
    config: Config,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let address = listener.local_addr()?;
    tracing::info!(%address, "the HTTP API listens");
    // It is the bound and the owner: dropped with this future, it ends every connection.
    let mut connections = JoinSet::new();
    let admission = Admission::default();
    // One that found no room.
    let mut waiting: Option<(TcpStream, SocketAddr)> = None;
    loop {
        if let Some((stream, peer)) = waiting.take_if(|_| admission.make_room(config.connections)) {
            let span = tracing::info_span!("http", %peer);
            let service = Service {
                inner: TowerToHyperService::new(router.clone()),
                over: Instant::now() + config.age,
                key: key.clone(),
                admitted: Arc::new(admission.admit(peer.ip())),
            };
            let conversation = converse(stream, service, config.clone(), shutdown.clone());
            connections.spawn(conversation.instrument(span));
        }
        // Those that are evicted end at once, but not before their tasks have their turn.
        let ready = waiting.is_none() && connections.len() < config.connections + ENDING;
        tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            Some(joined) = connections.join_next() => log_panic(joined),
            accepted = accept(&listener), if ready => waiting = Some(accepted),
        }
    }
    // Who comes from now on is refused by the operating system.
    drop((listener, waiting));
    while let Some(joined) = connections.join_next().await {
        log_panic(joined);
    }
    tracing::info!(%address, "the HTTP API is closed");
    Ok(())
}

/// The next connection. Cancel safe: a pause that is cut short only means an earlier attempt.
async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => return (stream, sockets::canonical(peer)),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
                ) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept an HTTP connection, trying again");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// A connection from its first request to its last.
async fn converse(
    stream: TcpStream,
    service: Service,
    config: Config,
    shutdown: CancellationToken,
) {
    // Answers are small and each is waited for. A failure shows again at the first read.
    let _ = stream.set_nodelay(true);
    let evicted = service.admitted.evicted.clone();
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(config.head)
            .max_buf_size(BUFFER)
            .serve_connection(TokioIo::new(stream), service)
    );
    let ended = tokio::select! {
        ended = connection.as_mut() => Ok(ended),
        ended = timeout(config.lifetime(), std::future::pending()) => ended,
        () = evicted.cancelled() => {
            return tracing::debug!("the connection was ended to make room for another");
        }
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            timeout(config.grace, connection).await
        }
    };
    match ended {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "the connection broke"),
        Err(_) => tracing::debug!("the connection was cut off: its time was over"),
    }
}

/// The router for one connection. It tells an old one to close with its next answer, which a client cannot mistake for a failure, and
/// notes what admission control asks.
struct Service {
    inner: TowerToHyperService<Router>,
    over: Instant,
    key: ApiKey,
    admitted: Arc<Admitted>,
}

impl hyper::service::Service<Request<Incoming>> for Service {
    type Response = Response;
    type Error = Infallible;
    type Future = futures_util::future::BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let authenticated = self.key.check(request.headers()).is_ok();
        self.admitted.begin_request(authenticated);
        let answer = self.inner.call(request);
        let over = self.over;
        let admitted = Arc::clone(&self.admitted);
        Box::pin(async move {
            let mut response = answer.await?;
            admitted.end_request();
            allow_options(&mut response);
            // RFC 9110 §8.6: it would be the length of the answer 200, and not that of this one, which the router sets for HEAD.
            if response.status() == StatusCode::NOT_MODIFIED {
                response.headers_mut().remove(header::CONTENT_LENGTH);
            }
            if Instant::now() >= over {
                response
                    .headers_mut()
                    .insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Ok(response)
        })
    }
}

/// Adds `OPTIONS` to the methods of a path, which its router lists last of all.
fn allow_options(response: &mut Response) {
    let allowed = response.headers().get(header::ALLOW);
    if let Some(allowed) = allowed.and_then(|allowed| allowed.to_str().ok())
        && !allowed.contains("OPTIONS")
        && let Ok(allowed) = HeaderValue::try_from(format!("{allowed},OPTIONS"))
    {
        response.headers_mut().insert(header::ALLOW, allowed);
    }
}

fn log_panic(joined: Result<(), JoinError>) {
    if let Err(error) = joined {
        tracing::error!(%error, "the task of an HTTP connection failed");
    }
}
