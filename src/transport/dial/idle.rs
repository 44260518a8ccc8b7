//! The server's idle timeout, which is in its transport parameters (RFC 9000 §18.2). quinn does not tell it, but TLS carries it.

use std::{
    any::Any,
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::{Buf, Bytes};
use quinn::crypto::rustls::QuicClientConfig;
use quinn_proto::{
    ConnectError, ConnectionId, Side, TransportError, VarInt,
    coding::Codec,
    crypto::{self, ExportKeyingMaterialError, HeaderKey, KeyPair, Keys, PacketKey},
    transport_parameters::TransportParameters,
};

/// Where the timeout is found when the handshake is over.
pub(super) type PeerIdle = Arc<OnceLock<Duration>>;

/// TLS of one connection, which leaves the server's idle timeout.
pub(super) struct Crypto {
    pub(super) config: Arc<QuicClientConfig>,
    pub(super) idle: PeerIdle,
}

struct Session {
    inner: Box<dyn crypto::Session>,
    idle: PeerIdle,
}

impl crypto::ClientConfig for Crypto {
    fn start_session(
        self: Arc<Self>,
        version: u32,
        server_name: &str,
        parameters: &TransportParameters,
    ) -> Result<Box<dyn crypto::Session>, ConnectError> {
        let inner = Arc::clone(&self.config).start_session(version, server_name, parameters)?;
        Ok(Box::new(Session {
            inner,
            idle: Arc::clone(&self.idle),
        }))
    }
}

impl crypto::Session for Session {
    fn transport_parameters(&self) -> Result<Option<TransportParameters>, TransportError> {
        let parameters = self.inner.transport_parameters()?;
        if let Some(parameters) = &parameters {
            let mut encoded = Vec::new();
            parameters.write(&mut encoded);
            if let Some(idle) = max_idle_timeout(encoded.into()) {
                let _ = self.idle.set(idle);
            }
        }
        Ok(parameters)
    }

    fn initial_keys(&self, id: &ConnectionId, side: Side) -> Keys {
        self.inner.initial_keys(id, side)
    }

    fn handshake_data(&self) -> Option<Box<dyn Any>> {
        self.inner.handshake_data()
    }

    fn peer_identity(&self) -> Option<Box<dyn Any>> {
        self.inner.peer_identity()
    }

    fn early_crypto(&self) -> Option<(Box<dyn HeaderKey>, Box<dyn PacketKey>)> {
        self.inner.early_crypto()
    }

    fn early_data_accepted(&self) -> Option<bool> {
        self.inner.early_data_accepted()
    }

    fn is_handshaking(&self) -> bool {
        self.inner.is_handshaking()
    }

    fn read_handshake(&mut self, bytes: &[u8]) -> Result<bool, TransportError> {
        self.inner.read_handshake(bytes)
    }

    fn write_handshake(&mut self, buffer: &mut Vec<u8>) -> Option<Keys> {
        self.inner.write_handshake(buffer)
    }

    fn next_1rtt_keys(&mut self) -> Option<KeyPair<Box<dyn PacketKey>>> {
        self.inner.next_1rtt_keys()
    }

    fn is_valid_retry(&self, id: &ConnectionId, header: &[u8], payload: &[u8]) -> bool {
        self.inner.is_valid_retry(id, header, payload)
    }

    fn export_keying_material(
        &self,
        output: &mut [u8],
        label: &[u8],
        context: &[u8],
    ) -> Result<(), ExportKeyingMaterialError> {
        self.inner.export_keying_material(output, label, context)
    }
}

/// The idle timeout in encoded transport parameters, where there is one.
fn max_idle_timeout(mut parameters: Bytes) -> Option<Duration> {
    const MAX_IDLE_TIMEOUT: u64 = 0x01;
    while parameters.has_remaining() {
        let id = integer(&mut parameters)?;
        let length = usize::try_from(integer(&mut parameters)?).ok()?;
        if parameters.remaining() < length {
            return None;
        }
        let mut value = parameters.split_to(length);
        if id == MAX_IDLE_TIMEOUT {
            let milliseconds = integer(&mut value)?;
            return (milliseconds > 0).then(|| Duration::from_millis(milliseconds));
        }
    }
    None
}

fn integer(bytes: &mut Bytes) -> Option<u64> {
    VarInt::decode(bytes).ok().map(VarInt::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_timeout_is_found_among_transport_parameters() {
        let found = |bytes: &'static [u8]| max_idle_timeout(Bytes::from_static(bytes));
        let second = Some(Duration::from_secs(1));
        assert_eq!(found(&[0x01, 2, 0x43, 0xe8]), second);
        assert_eq!(
            found(&[
                0x0c, 0, 0x40, 0x44, 3, 1, 2, 3, 0x01, 2, 0x43, 0xe8, 0x03, 1, 9
            ]),
            second
        );
        for without in [
            &[][..],
            &[0x01, 1, 0],
            &[0x0c, 0],
            &[0x0c, 9, 0x01],
            &[0x01, 2, 0x43],
            &[0x40],
        ] {
            assert_eq!(found(without), None, "{without:?}");
        }
    }
}
