//! The HTTP request with which a client opened its connection.

use std::fmt;

use http::{HeaderMap, header};

/// The HTTP request of a WebTransport CONNECT or of a WebSocket (PROTOCOL §2.2, §2.4); raw QUIC has none.
///
/// It has at most 16 KiB: a larger one is refused before authentication. A native client sends what it likes in it; a browser
/// states [`origin`](Self::origin) truthfully, and sends cookies with a WebSocket but not with WebTransport.
///
/// `Debug` prints the path and the names of the headers, never the query or a value.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Request {
    path: String,
    query: Option<String>,
    headers: HeaderMap,
}

impl Request {
    /// A request without headers, for tests of an authenticator. `path_and_query` is split at the first `?`.
    #[must_use]
    pub fn new(path_and_query: &str) -> Self {
        let (path, query) = match path_and_query.split_once('?') {
            Some((path, query)) => (path, Some(query.to_owned())),
            None => (path_and_query, None),
        };
        Self {
            path: path.to_owned(),
            query,
            headers: HeaderMap::new(),
        }
    }

    /// The same request with one more header. A name or a value that HTTP does not allow is left out.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        let name = header::HeaderName::try_from(name);
        let value = header::HeaderValue::try_from(value);
        if let (Ok(name), Ok(value)) = (name, value) {
            self.headers.append(name, value);
        }
        self
    }

    pub(crate) const fn from_parts(
        path: String,
        query: Option<String>,
        headers: HeaderMap,
    ) -> Self {
        Self {
            path,
            query,
            headers,
        }
    }

    /// Path of the URL, percent-encoded as it was sent.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Query of the URL without the `?`, percent-encoded as it was sent; `None` where the URL has none.
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        self.query.as_deref()
    }

    /// First value of a parameter of the query, decoded as `application/x-www-form-urlencoded`.
    #[must_use]
    pub fn query_parameter(&self, name: &str) -> Option<String> {
        let query = self.query.as_deref()?.as_bytes();
        url::form_urlencoded::parse(query)
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.into_owned())
    }

    /// Origin of the page that connects; `None` where no page does. [`Origins`](crate::server::Origins) were judged before.
    #[must_use]
    pub fn origin(&self) -> Option<&str> {
        self.header(header::ORIGIN.as_str())
    }

    /// First value of a header; `None` where there is none, or where it is not visible ASCII. Names are compared without regard
    /// to case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Every header, in no particular order; those whose values are not visible ASCII are left out.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        let headers = self.headers.iter();
        headers.filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)))
    }

    /// Value of the first cookie with this name, as it was sent: neither decoded nor unquoted. Names are compared exactly.
    #[must_use]
    pub fn cookie(&self, name: &str) -> Option<&str> {
        // HTTP/2 and HTTP/3 may send one field for each cookie (RFC 9114 §4.2.1).
        let fields = self.headers.get_all(header::COOKIE).into_iter();
        fields
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(';'))
            .filter_map(|pair| pair.trim().split_once('='))
            .find(|(key, _)| key.trim_end() == name)
            .map(|(_, value)| value.trim_start())
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.headers.keys().map(|name| name.as_str()).collect();
        f.debug_struct("Request")
            .field("path", &self.path)
            .field("query", &self.query.as_ref().map(|_| "[redacted]"))
            .field("headers", &names)
            .finish()
    }
}
