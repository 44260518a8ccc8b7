//! What every floor has in common: the lower bound for a server of its transport is one that has nothing to do but send.

use std::{thread, time::Duration};

use anyhow::Result;
use clap::Parser;

use crate::{
    clock::{self, Nanos, SECOND},
    options::Pace,
    schedule::Schedule,
    stamp::Stamp,
    wire,
};

/// Sends publications of its own to whoever connects, on a schedule, in frames of the size and form that Tidings puts on the
/// wire. It prints where it listens, and at its end a JSON object with what it sent
#[derive(Debug, Clone, Parser)]
pub struct Options {
    /// The port on 127.0.0.1; 0 takes a free one.
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    pub port: u16,
    /// Connections to wait for before the first publication; with 0 nothing is published.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub connections: usize,
    /// Channels that each connection is subscribed to.
    #[arg(long, value_name = "K", default_value_t = 1)]
    pub channels: usize,
    /// When publications are due.
    #[command(flatten)]
    pub pace: Pace,
}

/// Silence between the last connection and the first publication: acknowledgements and tickets of the handshakes pass.
const QUIET: Nanos = SECOND / 2;

impl Options {
    /// The schedule of a floor whose connections are all there.
    #[must_use]
    pub fn schedule(&self) -> Schedule {
        self.pace.schedule(clock::now() + QUIET)
    }

    /// The frames of a tick for each channel.
    #[must_use]
    pub fn frames(&self, tick: u64, intended: Nanos) -> Vec<Vec<Vec<u8>>> {
        let time = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
        let time = time.as_millis() as u64;
        let frame = |channel, step| {
            let stamp = Stamp {
                sequence: tick * self.pace.group + step + 1,
                intended,
                channel,
            };
            wire::publication(stamp.sequence, time, &stamp.payload(self.pace.size))
        };
        (0..self.channels as u32)
            .map(|channel| {
                (0..self.pace.group)
                    .map(|step| frame(channel, step))
                    .collect()
            })
            .collect()
    }
}

/// Calls `on_tick` with number and intended time of every tick, from a thread of its own that sleeps in between: timers of
/// tokio and of epoll are in milliseconds, and a floor must not be late by them. It ends when `on_tick` says false.
///
/// # Errors
/// There is no thread to be had.
pub fn tick(
    mut schedule: Schedule,
    mut on_tick: impl FnMut(u64, Nanos) -> bool + Send + 'static,
) -> Result<()> {
    thread::Builder::new().name("ticks".into()).spawn(move || {
        while let Some(next) = schedule.next() {
            thread::sleep(Duration::from_nanos(next.saturating_sub(clock::now())));
            while let Some((tick, intended)) = schedule.take(clock::now()) {
                if !on_tick(tick, intended) {
                    return;
                }
            }
        }
        // What a thread used is no longer seen once it has ended.
        drop(on_tick);
        loop {
            thread::park();
        }
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::wire::{Frames, Reader, kind};

    #[test]
    fn a_floor_sends_what_the_recorder_expects() {
        let arguments = "floor --channels 2 --group 3 --size 50";
        let options = Options::parse_from(arguments.split(' '));
        let frames = options.frames(4, 99);
        assert_eq!(frames.len(), 2);
        let mut seen = Vec::new();
        let read = Frames::default().read(&frames[1].concat(), |kind, body| {
            assert_eq!(kind, kind::PUBLICATION);
            let (offset, payload) = Reader(body).publication()?;
            assert_eq!(payload.len(), 50);
            seen.push((offset, Stamp::read(payload).unwrap()));
            Ok(())
        });
        read.unwrap();
        let stamp = |sequence| Stamp {
            sequence,
            intended: 99,
            channel: 1,
        };
        assert_eq!(seen, [13, 14, 15].map(|offset| (offset, stamp(offset))));
    }

    #[test]
    fn every_tick_is_told() {
        let (send, receive) = mpsc::channel();
        let start = clock::now();
        tick(Schedule::new(start, 1000, 3), move |tick, intended| {
            send.send((tick, intended)).is_ok()
        })
        .unwrap();
        let ticks: Vec<_> = receive.iter().collect();
        assert_eq!(ticks, [(0, start), (1, start + 1000), (2, start + 2000)]);
    }
}
