//! Who may have a session of WebTransport: judges the HTTP/3 CONNECT (PROTOCOL §2.2).

use web_transport_quinn::{
    http::{StatusCode, header},
    proto::{ConnectRequest, ConnectResponse},
};

use super::{
    Connection, Upgrade, driver, http3::Request, listener::HandshakeError, origin::Allowed,
};
use crate::wire::{SUBPROTOCOL, WEBTRANSPORT_PATH};

/// PROTOCOL §2.2.
pub(super) async fn accept(
    connection: driver::Connection,
    origins: &Allowed,
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

fn judge(request: &ConnectRequest, origins: &Allowed) -> Result<(), (StatusCode, String)> {
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
