//! Publications to `--channels` channels in turn, that nobody reads: what a publication costs, and what a channel holds.

use anyhow::{Result, bail, ensure};

use super::{
    Fleet, NAP, STUCK,
    session::{Answer, Session, Sink},
};
use crate::{
    clock::{self, Nanos, SECOND},
    meter::{MemoryMeter, Meter},
    options::Options,
    report::Report,
    stamp::Stamp,
    wire,
};

/// Publications that wait for an answer while the channels are made.
const OUTSTANDING: u64 = 256;
/// Silence before memory is read.
const QUIET: Nanos = SECOND;

pub(super) fn run(options: &Options) -> Result<Report> {
    let mut fleet = Fleet::new(options)?;
    let mut answers = Answers::default();
    let publisher = fleet.dial(0, 0)?;
    while !answers.is_ready {
        fleet.cycle(clock::now() + NAP, &mut answers)?;
    }
    let server = options.server();
    let mut memory = server.map(MemoryMeter::start).transpose()?;
    let mut session = Publisher {
        connection: publisher,
        options,
        published: 0,
    };
    make_channels(&mut fleet, &mut answers, &mut session)?;
    fleet.settle(QUIET, &mut answers)?;
    memory.as_mut().map_or(Ok(()), MemoryMeter::connected)?;

    let start = clock::now() + NAP;
    let mut schedule = options.pace.schedule(start);
    let measured = start + clock::seconds(options.pace.warmup);
    let end = measured + clock::seconds(options.pace.duration);
    let mut meter: Option<(Meter, u64)> = None;
    let mut report = loop {
        let now = clock::now();
        if meter.is_none() && now >= measured {
            meter = Some((Meter::start(server)?, answers.published));
        }
        while schedule.take(now).is_some() {
            session.publish(&mut fleet, options.pace.group)?;
        }
        if let Some((meter, published)) = meter.as_ref().filter(|_| now >= end) {
            break meter.report(answers.published - published)?;
        }
        let next = schedule.next().unwrap_or(end).min(now + NAP);
        fleet.cycle(next, &mut answers)?;
    };
    wait_for_all(&mut fleet, &mut answers, &session)?;
    if schedule.is_behind() {
        let late = schedule.latest() / 1_000_000;
        let reason = format!("the publisher was up to {late} ms late");
        report.client_bound.push(reason);
    }
    report.offered = Some(options.pace.group as f64 * 1e6 / options.pace.interval_us as f64);
    let memory = memory.map(|memory| memory.report(options.channels));
    report.memory = memory.transpose()?;
    Ok(report)
}

/// One publication in each channel.
fn make_channels(
    fleet: &mut Fleet,
    answers: &mut Answers,
    publisher: &mut Publisher<'_>,
) -> Result<()> {
    let count = publisher.options.channels as u64;
    while publisher.published < count {
        let room = OUTSTANDING - (publisher.published - answers.published);
        publisher.publish(fleet, room.min(count - publisher.published))?;
        fleet.cycle(clock::now() + NAP, answers)?;
    }
    wait_for_all(fleet, answers, publisher)
}

fn wait_for_all(fleet: &mut Fleet, answers: &mut Answers, publisher: &Publisher<'_>) -> Result<()> {
    let patience = clock::now() + STUCK;
    while answers.published < publisher.published {
        fleet.cycle(clock::now() + NAP, answers)?;
        ensure!(
            clock::now() < patience,
            "{} of {} publications were answered in 10 s",
            answers.published,
            publisher.published
        );
    }
    Ok(())
}

struct Publisher<'a> {
    connection: usize,
    options: &'a Options,
    published: u64,
}

impl Publisher<'_> {
    /// To the next `count` channels in turn.
    fn publish(&mut self, fleet: &mut Fleet, count: u64) -> Result<()> {
        let mut words = Vec::new();
        for _ in 0..count {
            let channel = self.published % self.options.channels as u64;
            let stamp = Stamp {
                sequence: self.published,
                intended: 0,
                channel: u32::try_from(channel)?,
            };
            let payload = stamp.payload(self.options.pace.size);
            let name = wire::channel(channel);
            words.extend(wire::publish(self.published, &name, &payload));
            self.published += 1;
        }
        fleet.say(self.connection, &words)
    }
}

#[derive(Default)]
struct Answers {
    is_ready: bool,
    published: u64,
}

impl Sink for Answers {
    fn ready(&mut self, _: &mut Session) -> Result<()> {
        self.is_ready = true;
        Ok(())
    }

    fn publication(&mut self, session: usize, _: &[u8]) -> Result<()> {
        bail!("session {session} was sent a publication that it did not subscribe to")
    }

    fn answer(&mut self, _: &mut Session, answer: Answer) -> Result<()> {
        self.published += u64::from(answer == Answer::Published);
        Ok(())
    }
}
