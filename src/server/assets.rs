//! The browser SDK and the pages, as `build.rs` made them of `web/`.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};

/// What is served under a path.
#[derive(Debug)]
pub(super) struct File {
    path: &'static str,
    kind: &'static str,
    etag: &'static str,
    content: &'static [u8],
}

static FILES: &[File] = &include!(concat!(env!("OUT_DIR"), "/assets.rs"));

/// Pages load what the server has and connect to where they are told, and to nothing else.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'self'; connect-src 'self' https: wss: ws:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
);

/// The file with this path.
pub(super) fn find(path: &str) -> Option<&'static File> {
    FILES.iter().find(|file| file.path == path)
}

impl File {
    /// Whether any page may load it: a module of the SDK.
    pub(super) fn is_sdk(&self) -> bool {
        self.path.starts_with("/sdk/")
    }

    /// The answer to a request with these headers. What the browser has already is not sent again.
    pub(super) fn answer(&self, request: &HeaderMap) -> Response<Bytes> {
        let known = request.get_all(header::IF_NONE_MATCH).iter();
        let known = known.filter_map(|value| value.to_str().ok());
        let fresh = known
            .flat_map(|value| value.split(','))
            .any(|etag| etag.trim() == self.etag);
        let body = if fresh { &[] } else { self.content };
        let mut response = Response::new(Bytes::from_static(body));
        if fresh {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        }
        let headers = response.headers_mut();
        let mut set = |name, value| headers.insert(name, HeaderValue::from_static(value));
        set(header::CONTENT_TYPE, self.kind);
        set(header::ETAG, self.etag);
        set(header::CACHE_CONTROL, "no-cache");
        set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
        if self.is_sdk() {
            set(header::ACCESS_CONTROL_ALLOW_ORIGIN, "*");
        }
        headers.insert(header::CONTENT_SECURITY_POLICY, POLICY);
        response
    }
}
