//! A client's TLS, by which a test replaces the frames of its packets.

use std::{any::Any, sync::Mutex};

use bytes::BytesMut;
use quinn_proto::{
    ConnectError, ConnectionId, Side, TransportError,
    crypto::{self, CryptoError, ExportKeyingMaterialError, KeyPair, Keys, PacketKey},
    transport_parameters::TransportParameters,
};

use super::*;

/// The frames that the client's packets have instead of its own, where they are no longer than these.
#[derive(Clone, Default)]
pub(super) struct Replaced(Arc<Mutex<Option<&'static [u8]>>>);

impl Replaced {
    pub(super) fn set(&self, frames: Option<&'static [u8]>) {
        *self.0.lock().unwrap() = frames;
    }

    pub(super) fn wrap(&self, config: quinn::crypto::rustls::QuicClientConfig) -> Client {
        Client(Arc::new(config), self.clone())
    }
}

pub(super) struct Client(Arc<quinn::crypto::rustls::QuicClientConfig>, Replaced);

impl crypto::ClientConfig for Client {
    fn start_session(
        self: Arc<Self>,
        version: u32,
        name: &str,
        parameters: &TransportParameters,
    ) -> Result<Box<dyn crypto::Session>, ConnectError> {
        let session = Arc::clone(&self.0).start_session(version, name, parameters)?;
        Ok(Box::new(Session(session, self.1.clone())))
    }
}

struct Session(Box<dyn crypto::Session>, Replaced);

struct Sealing(Box<dyn PacketKey>, Replaced);

impl crypto::Session for Session {
    fn initial_keys(&self, id: &ConnectionId, side: Side) -> Keys {
        self.0.initial_keys(id, side)
    }

    fn handshake_data(&self) -> Option<Box<dyn Any>> {
        self.0.handshake_data()
    }

    fn peer_identity(&self) -> Option<Box<dyn Any>> {
        self.0.peer_identity()
    }

    fn early_crypto(&self) -> Option<(Box<dyn crypto::HeaderKey>, Box<dyn PacketKey>)> {
        self.0.early_crypto()
    }

    fn early_data_accepted(&self) -> Option<bool> {
        self.0.early_data_accepted()
    }

    fn is_handshaking(&self) -> bool {
        self.0.is_handshaking()
    }

    fn read_handshake(&mut self, bytes: &[u8]) -> Result<bool, TransportError> {
        self.0.read_handshake(bytes)
    }

    fn transport_parameters(&self) -> Result<Option<TransportParameters>, TransportError> {
        self.0.transport_parameters()
    }

    fn write_handshake(&mut self, buffer: &mut Vec<u8>) -> Option<Keys> {
        let keys = self.0.write_handshake(buffer)?;
        Some(Keys {
            header: keys.header,
            packet: KeyPair {
                local: Box::new(Sealing(keys.packet.local, self.1.clone())),
                remote: keys.packet.remote,
            },
        })
    }

    fn next_1rtt_keys(&mut self) -> Option<KeyPair<Box<dyn PacketKey>>> {
        self.0.next_1rtt_keys()
    }

    fn is_valid_retry(&self, id: &ConnectionId, header: &[u8], payload: &[u8]) -> bool {
        self.0.is_valid_retry(id, header, payload)
    }

    fn export_keying_material(
        &self,
        output: &mut [u8],
        label: &[u8],
        context: &[u8],
    ) -> Result<(), ExportKeyingMaterialError> {
        self.0.export_keying_material(output, label, context)
    }
}

impl PacketKey for Sealing {
    fn encrypt(&self, packet: u64, buffer: &mut [u8], header: usize) {
        let end = buffer.len() - self.0.tag_len();
        if let Some(frames) = *self.1.0.lock().unwrap()
            && buffer[0] & 0x80 == 0
        {
            let payload = &mut buffer[header..end];
            payload.fill(0);
            // What is too short for them is padding.
            if let Some(place) = payload.get_mut(..frames.len()) {
                place.copy_from_slice(frames);
            }
        }
        self.0.encrypt(packet, buffer, header);
    }

    fn decrypt(
        &self,
        packet: u64,
        header: &[u8],
        payload: &mut BytesMut,
    ) -> Result<(), CryptoError> {
        self.0.decrypt(packet, header, payload)
    }

    fn tag_len(&self) -> usize {
        self.0.tag_len()
    }

    fn confidentiality_limit(&self) -> u64 {
        self.0.confidentiality_limit()
    }

    fn integrity_limit(&self) -> u64 {
        self.0.integrity_limit()
    }
}
