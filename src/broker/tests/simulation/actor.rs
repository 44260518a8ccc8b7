//! One reader: it looks once in a while, with one waker or another, or without.

use std::{
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use futures_util::{FutureExt, Stream, StreamExt};

use super::super::super::{Batch, Delivery, Leave, Reader, Subscription};
use super::{
    event::{Event, Key, ReaderId, Seen, Told, Via, opened},
    plan::Dice,
    stage::{Recorder, Stage},
};
use crate::wire::{ChannelName, Position};

pub(super) struct Actor {
    pub(super) id: ReaderId,
    pub(super) via: Via,
    pub(super) hand: Hand,
    pub(super) habit: Habit,
    /// Where it was when it lagged and so was cut off.
    pub(super) cut: Option<Position>,
    pub(super) paused: bool,
    pub(super) log: Key,
    /// What it has seen last.
    pub(super) at: Position,
    /// Number of its newest waker.
    waker: u64,
}

/// What an audience's reader wants, as rules of channels have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Habit {
    All,
    /// The newest alone, at times.
    Newest,
    /// Nothing older than this many milliseconds.
    Fresh(u64),
    /// It ends when it lags.
    Cut,
}

/// What it reads with.
pub(super) enum Hand {
    Subscription(Subscription),
    Reader(Reader),
}

impl Hand {
    pub(super) fn channel(&self) -> &ChannelName {
        match self {
            Self::Subscription(subscription) => subscription.channel(),
            Self::Reader(reader) => reader.channel(),
        }
    }

    pub(super) fn position(&self) -> Position {
        match self {
            Self::Subscription(subscription) => subscription.position(),
            Self::Reader(reader) => reader.position(),
        }
    }

    pub(super) const fn recovered(&self) -> bool {
        match self {
            Self::Subscription(subscription) => subscription.recovered(),
            Self::Reader(reader) => reader.recovered(),
        }
    }
}

impl Actor {
    pub(super) fn new(id: ReaderId, log: Key, via: Via, hand: Hand) -> Self {
        Self {
            id,
            log,
            via,
            at: hand.position(),
            hand,
            habit: Habit::All,
            cut: None,
            paused: false,
            waker: 0,
        }
    }

    /// Reads until there is nothing.
    pub(super) fn drain(&mut self, dice: &mut Dice, stage: &Stage) {
        for _ in 0..100_000 {
            if !self.read(dice, stage) {
                return;
            }
        }
        panic!("a reader is never done");
    }

    /// Looks once, and says whether there was something.
    pub(super) fn read(&mut self, dice: &mut Dice, stage: &Stage) -> bool {
        let roll = dice.below(10);
        self.waker += u64::from(roll < 2);
        let told = match (roll, self.via) {
            (_, Via::Audience(_)) => Told::Reader,
            (2..4, _) => Told::Nobody,
            (7.., Via::Batch) => Told::AsBefore,
            _ => Told::Waker(self.waker),
        };
        let waker = Waker::from(Arc::new(Recorder {
            stage: stage.clone(),
            reader: self.id,
            waker: self.waker,
        }));
        let context = &mut Context::from_waker(&waker);
        let reader = self.id;
        let event = match (&mut self.hand, self.via) {
            (Hand::Subscription(subscription), Via::Batch) => {
                read_batch(reader, subscription, told, context)
            }
            (Hand::Subscription(subscription), _) => {
                read_stream(reader, subscription, told, context)
            }
            (Hand::Reader(hand), _) => {
                let mut frames = Vec::new();
                let newest = self.habit == Habit::Newest && dice.percent(60);
                let batch = match self.habit {
                    Habit::All | Habit::Cut => hand.try_batch(&mut frames),
                    Habit::Newest | Habit::Fresh(_) => {
                        stage.record(wants(reader, newest, self.habit, stage));
                        let leave = match newest {
                            true => Leave::AllButNewest,
                            false => Leave::Nothing,
                        };
                        hand.try_one(leave, &mut frames)
                    }
                };
                batch.map(|batch| found(reader, batch, &frames))
            }
        };
        let event = event.unwrap_or(Event::Waiting { reader, told });
        match &event {
            Event::Batch { seen, .. } => self.saw(seen.last()),
            Event::Handed { seen, .. } => self.saw(Some(seen)),
            Event::Lagged { to, .. } => {
                if self.habit == Habit::Cut {
                    self.cut = Some(self.at);
                }
                self.at.offset = *to;
            }
            Event::Skipped { to, .. } => self.at.offset = *to,
            _ => {}
        }
        let more = !matches!(event, Event::Waiting { .. } | Event::Ended { .. });
        let one = matches!(&event, Event::Batch { seen, .. } if seen.len() == 1);
        stage.record(event);
        // What it could not write after all.
        if let (true, Hand::Reader(hand), Habit::Newest | Habit::Fresh(_)) =
            (one && dice.percent(20), &mut self.hand, self.habit)
        {
            hand.step_back();
            self.at.offset -= 1;
            stage.record(Event::SteppedBack { reader });
        }
        more && self.cut.is_none()
    }

    fn saw(&mut self, last: Option<&Seen>) {
        if let Some(seen) = last {
            self.at.offset = seen.0.offset;
        }
    }
}

fn wants(reader: ReaderId, newest: bool, habit: Habit, stage: &Stage) -> Event {
    let since = match habit {
        Habit::Fresh(age) => stage.lock().uptime.saturating_sub(age),
        _ => 0,
    };
    Event::Wants {
        reader,
        newest,
        since,
    }
}

fn read_stream(
    reader: ReaderId,
    subscription: &mut Subscription,
    told: Told,
    context: &mut Context<'_>,
) -> Option<Event> {
    let delivery = match told {
        Told::Waker(_) => ready(Pin::new(subscription).poll_next(context)),
        _ => subscription.next().now_or_never(),
    };
    Some(match delivery? {
        Some(Delivery::Publication(publication)) => Event::Handed {
            reader,
            seen: Seen(publication),
        },
        Some(Delivery::Lagged { from, to }) => Event::Lagged { reader, from, to },
        None => Event::Ended { reader },
    })
}

fn read_batch(
    reader: ReaderId,
    subscription: &mut Subscription,
    told: Told,
    context: &mut Context<'_>,
) -> Option<Event> {
    let mut frames = Vec::new();
    let batch = match told {
        Told::Waker(_) => ready(pin!(subscription.next_batch(&mut frames)).poll(context)),
        Told::Nobody => subscription.next_batch(&mut frames).now_or_never(),
        Told::AsBefore | Told::Reader => subscription.try_batch(&mut frames),
    };
    Some(found(reader, batch?, &frames))
}

fn found(reader: ReaderId, batch: Batch, frames: &[Bytes]) -> Event {
    match batch {
        Batch::Frames => Event::Batch {
            reader,
            seen: opened(frames),
        },
        Batch::Lagged { from, to } => Event::Lagged { reader, from, to },
        Batch::Skipped { from, to } => Event::Skipped { reader, from, to },
        Batch::Own { .. } => unreachable!("nobody reads for a session here"),
        Batch::Ended => Event::Ended { reader },
    }
}

fn ready<T>(poll: Poll<T>) -> Option<T> {
    match poll {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}
