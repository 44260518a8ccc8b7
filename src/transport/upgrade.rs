//! The HTTP request with which a client opened its connection, for whoever authenticates it.

use http::HeaderMap;

/// The request of a WebTransport CONNECT or of a WebSocket (PROTOCOL §2.2, §2.4).
///
/// Its size is bounded by the transport: the head of a WebSocket's request and the decoded field section of a CONNECT have 16 KiB at most.
pub(crate) struct Upgrade {
    pub(crate) path: String,
    pub(crate) query: Option<String>,
    pub(crate) headers: HeaderMap,
}

impl Upgrade {
    pub(crate) fn new(path: &str, query: Option<&str>, headers: HeaderMap) -> Self {
        Self {
            path: path.to_owned(),
            query: query.map(str::to_owned),
            headers,
        }
    }
}

impl std::fmt::Debug for Upgrade {
    /// Neither the query nor a header: both may hold secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upgrade")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}
