//! The result of a load: one JSON object.

use serde::Serialize;

/// What a load found. A figure that its mode does not measure is absent.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// Why the figures mean nothing: a gap, a duplicate, disorder, a delivery that did not come. Empty where they are good.
    pub void: Vec<String>,
    /// Why the load, and not the server, may be what was measured. Empty where it was not.
    pub client_bound: Vec<String>,
    /// Length of the measured time.
    pub seconds: f64,
    /// Deliveries (or handshakes, publications) in it.
    pub deliveries: u64,
    /// Per second, as they came.
    pub rate: f64,
    /// Per second, as they were intended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offered: Option<f64>,
    /// Whether what was intended was reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reached: Option<bool>,
    /// Microseconds of the server's CPU per delivery (or handshake, publication).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_us: Option<f64>,
    /// Part of the measured time that the server was on a CPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_busy: Option<f64>,
    /// The same of the load.
    pub client_busy: f64,
    /// From intended sending to arrival.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency: Option<Latency>,
    /// Memory of the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Memory>,
    /// UDP datagrams that came in the measured time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub datagrams: Option<u64>,
    /// Deliveries per UDP datagram.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_datagram: Option<f64>,
}

/// In microseconds.
#[derive(Debug, Serialize)]
#[allow(missing_docs, reason = "they are what they are called")]
pub struct Latency {
    pub mean: f64,
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
}

/// In bytes.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Memory {
    /// Of the server before the first connection.
    pub before: u64,
    /// When all were connected and had settled.
    pub connected: u64,
    /// At the end.
    pub end: u64,
    /// What was added until all were connected, per connection.
    pub per_connection: f64,
}
