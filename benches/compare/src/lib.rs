//! What `benches/compare/run` measures with: floors that only send bytes, and one client for every peer.
//!
//! - [`options`] says what a load is to do, [`schedule`] when each publication is due, [`stamp`] how that is told in its bytes;
//! - [`record`] checks every delivery and counts it, [`process`] reads what the server used, [`meter`] between two moments, [`report`] is the result;
//! - the `peer_*` modules each drive the connections to one kind of server, on one thread, and feed the recorder.
//!
//! Only ratios between peers of one run mean something: they saw the same machine at the same time.

pub mod clock;
pub mod datagram;
pub mod floor;
pub mod meter;
pub mod options;
pub mod peer_floor_tls;
pub mod peer_moq;
pub mod peer_mqtt;
pub mod peer_nats;
pub mod peer_tidings;
pub mod peer_udp;
pub mod peer_websocket;
pub mod peer_zenoh;
pub mod process;
pub mod quic;
pub mod quic_stream;
pub mod record;
pub mod report;
pub mod schedule;
pub mod socket;
pub mod stamp;
pub mod stream_load;
pub mod tcp;
pub mod tls;
pub mod webtransport;
pub mod wire;
