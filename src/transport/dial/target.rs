//! Where to connect, and why that failed.

use std::{net::SocketAddr, sync::Arc};

use url::Url;

use crate::{
    transport::{Transport, tls::InvalidTls},
    wire::WEBTRANSPORT_PATH,
};

/// Port of a URL without one.
const PORT: u16 = 4433;
/// A server's address: `quic://host[:port]`, or `https://host[:port][/tidings]` for WebTransport, or the same with `wss://` for a
/// WebSocket, with `ws://` for one without TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) transport: Transport,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) url: Url,
}

impl Target {
    pub(crate) fn parse(text: &str) -> Result<Self, DialError> {
        let fail = |reason: &str| DialError::Url {
            url: text.to_owned(),
            reason: reason.to_owned(),
        };
        let mut url = Url::parse(text).map_err(|error| fail(&error.to_string()))?;
        let transport = match url.scheme() {
            "quic" => Transport::Quic,
            "https" => Transport::WebTransport,
            "wss" | "ws" => Transport::WebSocket,
            _ => return Err(fail("the scheme is quic://, https://, wss:// or ws://")),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(fail("credentials go into the token, not into the URL"));
        }
        let host = url
            .host_str()
            .filter(|host| !host.is_empty())
            .ok_or_else(|| fail("it has no host"))?;
        let host = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        let port = match (transport, url.port()) {
            (_, Some(port)) => port,
            (Transport::Quic, None) => PORT,
            (_, None) => url.port_or_known_default().unwrap_or(443),
        };
        if transport != Transport::Quic && url.path() == "/" {
            url.set_path(WEBTRANSPORT_PATH);
        }
        Ok(Self {
            transport,
            host,
            port,
            url,
        })
    }

    pub(super) async fn resolve(&self) -> Result<Vec<SocketAddr>, DialError> {
        let fail = |reason: String| DialError::Resolve {
            host: self.host.clone(),
            reason,
        };
        let found: Vec<_> = tokio::net::lookup_host((self.host.as_str(), self.port))
            .await
            .map_err(|error| fail(error.to_string()))?
            .collect();
        if found.is_empty() {
            return Err(fail("no address".to_owned()));
        }
        Ok(found)
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Why there is no connection.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// The URL cannot be used.
    #[error("{url:?} is no address of a server: {reason}")]
    Url {
        /// The URL.
        url: String,
        /// What is wrong.
        reason: String,
    },
    /// The trust anchors cannot be used.
    #[error("{0}")]
    Tls(Arc<InvalidTls>),
    /// The name has no address.
    #[error("the name {host:?} cannot be resolved: {reason}")]
    Resolve {
        /// The name.
        host: String,
        /// Why.
        reason: String,
    },
    /// No address answered in time.
    #[error("no answer from {0} in time: is the server running, and does UDP get through?")]
    TimedOut(String),
    /// The certificate is not trusted.
    #[error("the certificate of {host} is not trusted: {reason}")]
    Untrusted {
        /// The server.
        host: String,
        /// Why.
        reason: String,
    },
    /// The HTTP/3 CONNECT was answered by another status than 200 (PROTOCOL §2.2), or the WebSocket's request by another than 101
    /// (PROTOCOL §2.4).
    #[error("the server refused the session with HTTP {0}")]
    Refused(u16),
    /// Anything else.
    #[error("cannot connect to {host}: {reason}")]
    Failed {
        /// The server.
        host: String,
        /// Why.
        reason: String,
    },
}

impl DialError {
    /// How much it says about the server.
    pub(super) const fn weight(&self) -> u8 {
        match self {
            Self::Untrusted { .. } | Self::Refused(_) => 2,
            Self::TimedOut(_) => 0,
            _ => 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scheme_picks_the_transport_and_the_default_port() {
        let quic = Target::parse("quic://example.org").unwrap();
        assert_eq!(
            (quic.transport, quic.port, quic.host.as_str()),
            (Transport::Quic, 4433, "example.org")
        );
        let web = Target::parse("https://[::1]:4433").unwrap();
        assert_eq!(
            (web.transport, web.port, web.host.as_str()),
            (Transport::WebTransport, 4433, "::1")
        );
        assert_eq!(web.url.path(), "/tidings");
        assert_eq!(Target::parse("https://example.org").unwrap().port, 443);
    }

    #[test]
    fn a_url_that_cannot_be_used_says_why() {
        for (url, wanted) in [
            ("example.org", "relative URL"),
            ("http://example.org", "quic://, https://"),
            ("quic://u:p@example.org", "token"),
            ("quic://", "no host"),
        ] {
            let error = Target::parse(url).unwrap_err().to_string();
            assert!(
                error.contains(wanted) && error.contains(url),
                "{url}: {error}"
            );
        }
    }
}
