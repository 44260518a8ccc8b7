//! Connections that come, authenticate, subscribe and go: `--connections` of them, after a warm-up of a tenth.

use anyhow::{Result, bail, ensure};

use super::{
    Fleet, NAP, STUCK,
    session::{Session, Sink},
};
use crate::{clock, meter::Meter, options::Options, report::Report};

/// Handshakes in a hundred that may be of the other kind before a run is void.
const OTHERS: u64 = 2;

pub(super) fn run(options: &Options) -> Result<Report> {
    let mut fleet = Fleet::new(options)?;
    let mut visits = Visits(0);
    // The first ones have no ticket yet.
    let warmup = (options.connections / 10).max(2 * options.parallel);
    pass(&mut fleet, &mut visits, options, warmup)?;
    let (meter, full) = (Meter::start(options.server())?, fleet.tls.full());
    visits.0 = 0;
    pass(&mut fleet, &mut visits, options, options.connections)?;
    let mut report = meter.report(options.connections as u64)?;
    let full = fleet.tls.full() - full;
    let (wrong, what) = if options.resume {
        (full, "full")
    } else {
        (options.connections as u64 - full, "resumed")
    };
    if wrong * 100 > options.connections as u64 * OTHERS {
        report.void.push(format!("{wrong} handshakes were {what}"));
    }
    Ok(report)
}

/// Connects and closes `count` times.
fn pass(fleet: &mut Fleet, visits: &mut Visits, options: &Options, count: usize) -> Result<()> {
    visits.0 = 0;
    let mut dialed = 0;
    let (mut last, mut since) = (0, clock::now());
    while visits.0 < count {
        while dialed < count && dialed < visits.0 + options.parallel {
            fleet.dial(dialed, options.channels)?;
            dialed += 1;
        }
        fleet.cycle(clock::now() + NAP, visits)?;
        if visits.0 > last {
            (last, since) = (visits.0, clock::now());
        }
        ensure!(
            clock::now() < since + STUCK,
            "only {last} of {count} sessions were ready, and then none for 10 s"
        );
    }
    Ok(())
}

/// Sessions that were ready.
struct Visits(usize);

impl Sink for Visits {
    fn ready(&mut self, session: &mut Session) -> Result<()> {
        session.is_over = true;
        self.0 += 1;
        Ok(())
    }

    fn publication(&mut self, session: usize, _: &[u8]) -> Result<()> {
        bail!("session {session} was sent a publication that nobody made")
    }
}
