//! What a server and its load used between two moments.

use std::io;

use crate::{
    clock::{self, Nanos, SECOND},
    process::Process,
    report::{Memory, Report},
};

/// Above this part of its core the load itself may be what is measured.
const BUSY: f64 = 0.9;

/// A moment, and what was used until then.
#[derive(Debug, Clone, Copy)]
pub struct Meter {
    server: Option<Process>,
    at: Nanos,
    server_cpu: Nanos,
    client_cpu: Nanos,
}

impl Meter {
    /// Now.
    ///
    /// # Errors
    /// The server's process is gone.
    pub fn start(server: Option<Process>) -> io::Result<Self> {
        Ok(Self {
            server,
            at: clock::now(),
            server_cpu: server.map_or(Ok(0), Process::cpu)?,
            client_cpu: Process::own().cpu()?,
        })
    }

    /// What `count` deliveries (or handshakes, publications) since then took.
    ///
    /// # Errors
    /// The server's process is gone.
    pub fn report(&self, count: u64) -> io::Result<Report> {
        let end = Self::start(self.server)?;
        let length = (end.at - self.at) as f64;
        let server = (end.server_cpu.saturating_sub(self.server_cpu)) as f64;
        let mut report = Report {
            seconds: length / SECOND as f64,
            deliveries: count,
            rate: count as f64 * SECOND as f64 / length,
            server_us: self.server.map(|_| server / 1000.0 / count.max(1) as f64),
            server_busy: self.server.map(|_| server / length),
            client_busy: (end.client_cpu - self.client_cpu) as f64 / length,
            ..Report::default()
        };
        if report.client_busy > BUSY {
            let percent = report.client_busy * 100.0;
            report
                .client_bound
                .push(format!("the load's core was {percent:.0} % busy"));
        }
        Ok(report)
    }
}

/// The server's memory at three moments.
#[derive(Debug, Clone, Copy)]
pub struct MemoryMeter {
    server: Process,
    before: u64,
    connected: u64,
}

impl MemoryMeter {
    /// Before the first connection.
    ///
    /// # Errors
    /// The server's process is gone.
    pub fn start(server: Process) -> io::Result<Self> {
        let before = server.memory()?;
        Ok(Self {
            server,
            before,
            connected: before,
        })
    }

    /// All are connected.
    ///
    /// # Errors
    /// The server's process is gone.
    pub fn connected(&mut self) -> io::Result<()> {
        self.connected = self.server.memory()?;
        Ok(())
    }

    /// At the end.
    ///
    /// # Errors
    /// The server's process is gone.
    pub fn report(&self, connections: usize) -> io::Result<Memory> {
        let (before, connected) = (self.before, self.connected);
        Ok(Memory {
            before,
            connected,
            end: self.server.memory()?,
            per_connection: (connected as f64 - before as f64) / connections.max(1) as f64,
        })
    }
}
