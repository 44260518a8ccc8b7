//! One reader: it looks once in a while, with one waker or another.

use std::{
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Waker},
};

use futures_util::{FutureExt, Stream, StreamExt};

use super::super::super::{Batch, Delivery, Subscription};
use super::{
    event::{Event, ReaderId, Seen, Told, Via, opened},
    plan::Dice,
    stage::{Recorder, Stage},
};

pub(super) struct Actor {
    pub(super) id: ReaderId,
    pub(super) via: Via,
    pub(super) subscription: Subscription,
    pub(super) paused: bool,
    /// Number of its newest waker.
    waker: u64,
}

impl Actor {
    pub(super) const fn new(id: ReaderId, via: Via, subscription: Subscription) -> Self {
        Self {
            id,
            via,
            subscription,
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
        let event = match self.via {
            Via::Batch => self.read_batch(told, context),
            _ => self.read_stream(told, context),
        };
        let reader = self.id;
        let event = event.unwrap_or(Event::Waiting { reader, told });
        let more = !matches!(event, Event::Waiting { .. } | Event::Ended { .. });
        stage.record(event);
        more
    }

    fn read_stream(&mut self, told: Told, context: &mut Context<'_>) -> Option<Event> {
        let (reader, subscription) = (self.id, &mut self.subscription);
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

    fn read_batch(&mut self, told: Told, context: &mut Context<'_>) -> Option<Event> {
        let (reader, subscription) = (self.id, &mut self.subscription);
        let mut frames = Vec::new();
        let batch = match told {
            Told::Waker(_) => ready(pin!(subscription.next_batch(&mut frames)).poll(context)),
            Told::Nobody => subscription.next_batch(&mut frames).now_or_never(),
            Told::AsBefore => subscription.try_batch(&mut frames),
        };
        Some(match batch? {
            Batch::Frames => Event::Batch {
                reader,
                seen: opened(&frames),
            },
            Batch::Lagged { from, to } => Event::Lagged { reader, from, to },
            Batch::Ended => Event::Ended { reader },
        })
    }
}

fn ready<T>(poll: Poll<T>) -> Option<T> {
    match poll {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}
