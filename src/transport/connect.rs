//! Who may have a session of WebTransport: judges the HTTP/3 CONNECT (PROTOCOL §2.2).

use web_transport_quinn::{
    http::{HeaderValue, StatusCode, header},
    proto::{ConnectRequest, ConnectResponse},
};

use super::{Connection, Upgrade, driver, http3::Request, listener::HandshakeError};
use crate::wire::{SUBPROTOCOL, WEBTRANSPORT_PATH};

/// Which pages may connect over WebTransport and WebSockets. A request without `Origin` comes from no page and is not judged by it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origins {
    /// Every page.
    Any,
    /// Pages with one of these origins, such as `https://example.org` or `http://localhost:8080`. An entry that ends in `:*`
    /// takes every port.
    List(Vec<String>),
}

impl Origins {
    /// Why a request with this `Origin` is refused, if it is.
    pub(super) fn judge(&self, origin: Option<&HeaderValue>) -> Result<(), String> {
        match origin {
            Some(origin) if !origin.to_str().is_ok_and(|origin| self.allow(origin)) => {
                Err(format!("origin {origin:?} is not on the list"))
            }
            _ => Ok(()),
        }
    }

    fn allow(&self, origin: &str) -> bool {
        let Self::List(list) = self else { return true };
        list.iter().any(|entry| match entry.strip_suffix(":*") {
            Some(host) => origin.strip_prefix(host).is_some_and(|port| {
                port.is_empty()
                    || port.strip_prefix(':').is_some_and(|port| {
                        !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit())
                    })
            }),
            None => entry.eq_ignore_ascii_case(origin),
        })
    }
}

/// PROTOCOL §2.2.
pub(super) async fn accept(
    connection: driver::Connection,
    origins: &Origins,
) -> Result<(Connection, Upgrade), HandshakeError> {
    let mut request = Request::accept(connection)
        .await
        .map_err(HandshakeError::WebTransport)?;
    if let Err((status, reason)) = judge(&request.connect, origins) {
        request.reject(status).await;
        return Err(HandshakeError::Refused {
            status: status.as_u16(),
            reason,
        });
    }
    let response = if request.connect.protocols.is_empty() {
        ConnectResponse::OK
    } else {
        ConnectResponse::OK.with_protocol(SUBPROTOCOL)
    };
    let headers = std::mem::take(&mut request.connect.headers);
    let url = &request.connect.url;
    let upgrade = Upgrade::new(url.path(), url.query(), headers);
    let session = request
        .respond(response)
        .await
        .map_err(HandshakeError::WebTransport)?;
    Ok((Connection::http3(session), upgrade))
}

fn judge(request: &ConnectRequest, origins: &Origins) -> Result<(), (StatusCode, String)> {
    if request.url.path() != WEBTRANSPORT_PATH {
        return Err((
            StatusCode::NOT_FOUND,
            format!("the path is not {WEBTRANSPORT_PATH}"),
        ));
    }
    origins
        .judge(request.headers.get(header::ORIGIN))
        .map_err(|reason| (StatusCode::FORBIDDEN, reason))?;
    if !request.protocols.is_empty() && !request.protocols.iter().any(|known| known == SUBPROTOCOL)
    {
        return Err((
            StatusCode::BAD_REQUEST,
            format!("no subprotocol {SUBPROTOCOL} was offered"),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::Origins;

    #[test]
    fn origins_match_whole_and_with_any_port() {
        let origins = Origins::List(vec![
            "https://example.org".into(),
            "http://localhost:*".into(),
        ]);
        for good in [
            "https://example.org",
            "http://localhost",
            "http://localhost:8080",
        ] {
            assert!(origins.allow(good), "{good}");
        }
        for bad in [
            "https://example.org.evil.example",
            "http://example.org",
            "https://example.org:8443",
            "http://localhost:",
            "http://localhost.evil.example",
            "http://localhost:80.evil.example",
            "null",
            "",
        ] {
            assert!(!origins.allow(bad), "{bad}");
        }
        assert!(Origins::Any.allow("https://evil.example"));
    }
}
