//! A WebSocket, over TCP (PROTOCOL §2.4).

use std::{io, net::SocketAddr};

use rustls::pki_types::ServerName;
use tokio::net::TcpSocket;
use tokio_rustls::TlsConnector;

use super::{DialError, Dialer, Target};
use crate::transport::{
    Connection,
    tls::{handshake_failure, plain},
    websocket,
};

impl Dialer {
    pub(super) async fn attempt_tcp(
        &self,
        address: SocketAddr,
        tls: Option<&TlsConnector>,
    ) -> Result<Connection, DialError> {
        let target = &self.target;
        let fail = |reason: String| DialError::Failed {
            host: target.host.clone(),
            reason,
        };
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4(),
            SocketAddr::V6(_) => TcpSocket::new_v6(),
        };
        let socket = socket.map_err(|error| fail(format!("no TCP socket: {error}")))?;
        // What is left of the connection for a minute keeps no server of this machine from its port.
        let _ = socket.set_reuseaddr(true);
        let socket = socket.connect(address).await;
        let socket = socket.map_err(|error| fail(error.to_string()))?;
        let _ = socket.set_nodelay(true);
        let (url, streams, every) = (&target.url, self.max_streams, self.keep_alive);
        let Some(tls) = tls else {
            let opened = websocket::connect(socket, url, address, streams, every, fail).await?;
            return Ok(opened);
        };
        let name = ServerName::try_from(target.host.clone());
        let name = name.map_err(|error| fail(error.to_string()))?;
        let secured = tls.connect(name, socket).await;
        let socket = secured.map_err(|error| untrusted(target, &error))?;
        websocket::connect(socket, url, address, streams, every, fail).await
    }
}

/// What became of a TLS handshake over TCP.
fn untrusted(target: &Target, error: &io::Error) -> DialError {
    let host = target.host.clone();
    let reason = plain(&handshake_failure(error)).to_owned();
    match error.get_ref().and_then(|error| error.downcast_ref()) {
        Some(rustls::Error::InvalidCertificate(_)) => DialError::Untrusted { host, reason },
        _ => DialError::Failed { host, reason },
    }
}
