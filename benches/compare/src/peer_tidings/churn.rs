//! Subscriptions that come and go on open connections, each to a channel that is new: what one costs, and that nothing is left.

use anyhow::{Result, bail};

use super::{
    Fleet, NAP,
    session::{Answer, Session, Sink},
};
use crate::{
    clock,
    meter::{MemoryMeter, Meter},
    options::Options,
    report::Report,
    wire,
};

pub(super) fn run(options: &Options) -> Result<Report> {
    let mut fleet = Fleet::new(options)?;
    let mut churn = Churn::default();
    let size = (options.connections, 0, options.parallel);
    fleet.connect(size, &mut churn, |churn| churn.ready)?;
    let server = options.server();
    let start = clock::now();
    let measured = start + clock::seconds(options.pace.warmup);
    let end = measured + clock::seconds(options.pace.duration);
    run_until(&mut fleet, &mut churn, measured)?;
    let memory = server.map(MemoryMeter::start).transpose()?;
    let (meter, pairs) = (Meter::start(server)?, churn.pairs);
    run_until(&mut fleet, &mut churn, end)?;
    let mut report = meter.report(churn.pairs - pairs)?;
    let memory = memory.map(|memory| memory.report(options.connections));
    report.memory = memory.transpose()?;
    Ok(report)
}

fn run_until(fleet: &mut Fleet, churn: &mut Churn, end: clock::Nanos) -> Result<()> {
    while clock::now() < end {
        fleet.cycle(end.min(clock::now() + NAP), churn)?;
    }
    Ok(())
}

#[derive(Default)]
struct Churn {
    ready: usize,
    requests: u64,
    /// Subscriptions that were made and ended.
    pairs: u64,
}

impl Churn {
    fn subscribe(&mut self, session: &mut Session) {
        self.requests += 1;
        let channel = wire::channel(self.requests);
        session.say(&wire::subscribe(self.requests, &channel));
    }
}

impl Sink for Churn {
    fn ready(&mut self, session: &mut Session) -> Result<()> {
        self.ready += 1;
        self.subscribe(session);
        Ok(())
    }

    fn publication(&mut self, session: usize, _: &[u8]) -> Result<()> {
        bail!("session {session} was sent a publication that nobody made")
    }

    fn answer(&mut self, session: &mut Session, answer: Answer) -> Result<()> {
        match answer {
            Answer::Subscribed { subscription } => {
                self.requests += 1;
                session.say(&wire::unsubscribe(self.requests, subscription));
            }
            Answer::Unsubscribed => {
                self.pairs += 1;
                self.subscribe(session);
            }
            Answer::Published => {}
        }
        Ok(())
    }
}
