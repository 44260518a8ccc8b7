//! The part of HTTP/3 that a WebTransport client needs before its first stream (PROTOCOL §2.2).

use std::net::SocketAddr;

use anyhow::{Context, Result};
use web_transport_proto::{ConnectError, ConnectRequest, ConnectResponse, Settings};

/// ALPN of HTTP/3.
pub const ALPN: &str = "h3";
/// What a bidirectional stream of the session begins with: the frame type of WebTransport, and the id of the session, which is
/// the number of its CONNECT stream, the first that the client opens.
pub const BIDI_HEAD: [u8; 3] = [0x40, 0x41, 0x00];
/// The same of a unidirectional stream.
pub const UNI_HEAD: [u8; 3] = [0x40, 0x54, 0x00];

/// What the client says on its HTTP/3 control stream, which it keeps open.
#[must_use]
pub fn settings() -> Vec<u8> {
    let (mut settings, mut out) = (Settings::default(), Vec::new());
    settings.enable_webtransport(1);
    settings.encode(&mut out);
    out
}

/// The CONNECT.
///
/// # Errors
/// The address makes no URL.
pub fn connect(address: SocketAddr) -> Result<Vec<u8>> {
    let url = url::Url::parse(&format!("https://{address}/tidings"))?;
    let mut out = Vec::new();
    let request = ConnectRequest::new(url).with_protocol("tidings.v1");
    request.encode(&mut out).context("encode a CONNECT")?;
    Ok(out)
}

/// Whether the answer has come whole.
///
/// # Errors
/// It is no 200.
pub fn is_accepted(mut answer: &[u8]) -> Result<bool> {
    match ConnectResponse::decode(&mut answer) {
        Ok(_) => Ok(true),
        Err(ConnectError::UnexpectedEnd) => Ok(false),
        Err(error) => Err(error).context("the answer to CONNECT"),
    }
}
