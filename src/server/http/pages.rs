//! The browser SDK, the console, and in development a page to try the server with.

use std::{net::IpAddr, sync::Arc};

use axum::{
    Json, Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, StatusCode, Uri, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde::Serialize;
use url::{Url, form_urlencoded};

use crate::{auth::TokenIssuer, server::assets, transport::Sha256, wire::UserId};

/// Validity of the tokens that the page in development is given.
const TOKEN: std::time::Duration = std::time::Duration::from_secs(15 * 60);

/// What the page in development needs, and everybody gets who reaches it.
pub(crate) struct Development {
    pub(crate) url: String,
    /// Where WebSockets are served without TLS: no browser can be told to trust a certificate for one.
    pub(crate) websocket: Option<String>,
    pub(crate) certificate: Sha256,
    pub(crate) issuer: TokenIssuer,
    pub(crate) api_key: String,
}

impl std::fmt::Debug for Development {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Development")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

/// The routes of pages; `/` and `/dev/…` in development only.
pub(in crate::server) fn router(development: Option<Development>) -> Router {
    let router = Router::new()
        .route(
            "/console",
            get(|headers| page("/pages/console.html", headers)),
        )
        .route("/sdk/{*path}", get(file))
        .route("/pages/{*path}", get(file));
    match development {
        None => router,
        Some(development) => {
            let inner = Router::new()
                .route("/dev/config", get(config))
                .route("/dev/token", get(token))
                .with_state(Arc::new(development));
            router
                .route("/", get(|headers| page("/pages/index.html", headers)))
                .merge(inner)
        }
    }
}

async fn page(path: &'static str, headers: HeaderMap) -> Response {
    serve(path, &headers)
}

async fn file(request: Request) -> Response {
    serve(request.uri().path(), request.headers())
}

fn serve(path: &str, headers: &HeaderMap) -> Response {
    match assets::find(path) {
        Some(file) => file.answer(headers).map(Body::from),
        None => (StatusCode::NOT_FOUND, format!("there is no {path} here\n")).into_response(),
    }
}

/// Where the page connects, and with what.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Config<'a> {
    url: &'a str,
    websocket: Option<&'a str>,
    certificate_hashes: [String; 1],
    api_key: &'a str,
}

async fn config(
    State(development): State<Arc<Development>>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    if let Err(refusal) = local(&uri, &headers) {
        return refusal.into_response();
    }
    let config = Config {
        url: &development.url,
        websocket: development.websocket.as_deref(),
        certificate_hashes: [development.certificate.to_string()],
        api_key: &development.api_key,
    };
    ([(header::CACHE_CONTROL, "no-store")], Json(config)).into_response()
}

async fn token(State(development): State<Arc<Development>>, request: Request) -> Response {
    if let Err(refusal) = local(request.uri(), request.headers()) {
        return refusal.into_response();
    }
    let query = request.uri().query().unwrap_or_default();
    let mut fields = form_urlencoded::parse(query.as_bytes());
    let user = fields
        .find(|(name, _)| name == "user")
        .map(|(_, user)| UserId::parse(&user));
    match user {
        Some(Ok(user)) => {
            let token = development.issuer.issue(&user, TOKEN);
            ([(header::CACHE_CONTROL, "no-store")], token).into_response()
        }
        Some(Err(error)) => (
            StatusCode::UNPROCESSABLE_ENTITY,
            format!("no user: {error}\n"),
        )
            .into_response(),
        None => (StatusCode::BAD_REQUEST, "who? ask with ?user=NAME\n").into_response(),
    }
}

/// A page of somebody else may have a name of its own for this machine; then it would be the same origin, and may not read a key.
fn local(uri: &Uri, headers: &HeaderMap) -> Result<(), (StatusCode, &'static str)> {
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    // RFC 9112 §3.2.2: an absolute request target says it.
    let host = uri.authority().map(|authority| authority.as_str()).or(host);
    let url = host.and_then(|host| Url::parse(&format!("http://{host}")).ok());
    let host = url.as_ref().and_then(Url::host_str).unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    if bare == "localhost" || bare.parse().is_ok_and(|ip: IpAddr| ip.is_loopback()) {
        return Ok(());
    }
    let reason = "this is told to pages of this machine alone: open it as http://localhost or http://127.0.0.1\n";
    Err((StatusCode::FORBIDDEN, reason))
}
