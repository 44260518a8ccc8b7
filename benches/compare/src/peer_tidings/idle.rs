//! Memory of the server with connections that do nothing.

use anyhow::{Context, Result, bail};

use super::{
    Fleet,
    session::{Session, Sink},
};
use crate::{
    clock,
    meter::{MemoryMeter, Meter},
    options::Options,
    report::Report,
};

pub(super) fn run(options: &Options) -> Result<Report> {
    let mut fleet = Fleet::new(options)?;
    let server = options.server();
    let server = server.context("mode idle needs --server-pid, to read its memory")?;
    let mut memory = MemoryMeter::start(server)?;
    let meter = Meter::start(Some(server))?;
    let mut silence = Silence(0);
    let size = (options.connections, options.channels, options.parallel);
    fleet.connect(size, &mut silence, |silence| silence.0)?;
    let mut report = meter.report(options.connections as u64)?;
    fleet.settle(clock::seconds(options.settle), &mut silence)?;
    memory.connected()?;
    report.memory = Some(memory.report(options.connections)?);
    // Whether the client was busy does not change what the server holds.
    report.client_bound.clear();
    Ok(report)
}

/// Nothing is published.
struct Silence(usize);

impl Sink for Silence {
    fn ready(&mut self, _: &mut Session) -> Result<()> {
        self.0 += 1;
        Ok(())
    }

    fn publication(&mut self, session: usize, _: &[u8]) -> Result<()> {
        bail!("session {session} was sent a publication that nobody made")
    }
}
