//! Deliveries on a schedule.

use anyhow::Result;

use super::{
    Fleet, NAP,
    session::{Answer, Session, Sink},
};
use crate::{
    clock::{self, Nanos, SECOND},
    options::{Options, Pace, Peer},
    record::Recorder,
    report::Report,
    schedule::Schedule,
    stamp::Stamp,
    wire,
};

/// Silence between the last subscription and the first publication: acknowledgements and tickets of the handshakes pass.
const QUIET: Nanos = SECOND / 2;

pub(super) fn run(options: &Options) -> Result<Report> {
    let mut fleet = Fleet::new(options)?;
    let mut deliveries = Deliveries {
        recorder: Recorder::new(options)?,
        ready: 0,
    };
    let size = (options.connections, options.channels, options.parallel);
    fleet.connect(size, &mut deliveries, |deliveries| deliveries.ready)?;
    let mut publisher = None;
    if options.peer != Peer::FloorQuinn {
        let connection = fleet.dial(options.connections, 0)?;
        while deliveries.ready == options.connections {
            fleet.cycle(clock::now() + NAP, &mut deliveries)?;
        }
        fleet.settle(QUIET, &mut deliveries)?;
        let start = clock::now() + NAP;
        deliveries.recorder.begin(start);
        publisher = Some(Publisher {
            connection,
            schedule: options.pace.schedule(start),
            pace: options.pace.clone(),
            channels: options.channels,
            requests: 0,
        });
    }
    deliveries.recorder.connected()?;
    loop {
        let now = clock::now();
        // What answers the publisher delivers nothing.
        let answers = publisher.as_ref().map_or(0, |publisher: &Publisher| {
            fleet.engine.datagrams_of(publisher.connection)
        });
        let datagrams = fleet.engine.datagrams() - answers;
        if deliveries.recorder.observe(now, datagrams)? {
            stall(&mut fleet, &mut deliveries, options);
        }
        if let Some(publisher) = &mut publisher {
            publisher.publish(now, &mut fleet)?;
        }
        if deliveries.recorder.is_complete(now) {
            break;
        }
        let tick = publisher.as_ref().and_then(|p| p.schedule.next());
        let next = [tick, deliveries.recorder.next()];
        let next = next.into_iter().flatten().min();
        let until = next.map_or(now + NAP, |next| next.min(now + NAP));
        fleet.cycle(until, &mut deliveries)?;
    }
    let schedule = publisher.map(|publisher| publisher.schedule);
    Ok(deliveries.recorder.report(schedule.as_ref()))
}

/// Some readers stop.
fn stall(fleet: &mut Fleet, deliveries: &mut Deliveries, options: &Options) {
    for slot in fleet.engine.slots() {
        if slot.app.index < options.stalled {
            slot.app.stalled = true;
            deliveries.recorder.ignore(slot.app.index);
        }
    }
}

struct Deliveries {
    recorder: Recorder,
    ready: usize,
}

impl Sink for Deliveries {
    fn ready(&mut self, _: &mut Session) -> Result<()> {
        self.ready += 1;
        Ok(())
    }

    fn publication(&mut self, session: usize, payload: &[u8]) -> Result<()> {
        self.recorder.received(session, payload, clock::now());
        Ok(())
    }

    fn answer(&mut self, _: &mut Session, _: Answer) -> Result<()> {
        Ok(())
    }
}

/// The session that publishes.
struct Publisher {
    connection: usize,
    schedule: Schedule,
    pace: Pace,
    channels: usize,
    requests: u64,
}

impl Publisher {
    /// What is due, in one write a tick.
    fn publish(&mut self, now: Nanos, fleet: &mut Fleet) -> Result<()> {
        while let Some((tick, intended)) = self.schedule.take(now) {
            let mut words = Vec::new();
            for step in 0..self.pace.group {
                for channel in 0..self.channels {
                    let stamp = Stamp {
                        sequence: tick * self.pace.group + step + 1,
                        intended,
                        channel: u32::try_from(channel)?,
                    };
                    let payload = stamp.payload(self.pace.size);
                    let name = wire::channel(channel as u64);
                    words.extend(wire::publish(self.requests, &name, &payload));
                    self.requests += 1;
                }
            }
            fleet.say(self.connection, &words)?;
        }
        Ok(())
    }
}
