//! What the broker and everybody around it share: virtual time, epochs, and the record of what happened.
//!
//! The broker reads its clock right before it appends. So an offered publication gets its place in the record when the clock
//! is read, and what listeners publish from within a call stands behind it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    task::Wake,
    time::Duration,
};

use super::super::super::{Broker, Config, Delivery, ListenerGuard, Poster, PublishError};
use super::{
    attempts::Once,
    event::{Event, Key, ReaderId, Seen, tagged},
    plan::{Dice, Plan},
    planted::Bug,
    worker::Worker,
};
use crate::wire::{ChannelName, Epoch, Message, Position, Publication, Timestamp, UserId};

#[derive(Clone)]
pub(super) struct Stage(Arc<Mutex<State>>);

pub(super) struct State {
    /// The time of day, which is set at times.
    pub(super) clock: Timestamp,
    /// The clock that is never set.
    pub(super) uptime: u64,
    pub(super) events: Vec<Event>,
    pub(super) guards: BTreeMap<ReaderId, ListenerGuard>,
    /// What the next reading of the clock by a publisher does first: time goes on this far, and channels are evicted between
    /// the publisher's look-up and its use.
    pub(super) interruption: Option<u64>,
    /// Publications that listeners may still make in this step.
    pub(super) budget: usize,
    /// Publications made by listeners.
    pub(super) nested: u64,
    /// Publications whose channel was evicted after it was looked up.
    pub(super) raced: u64,
    /// Publications made while readers were told.
    pub(super) amid_telling: u64,
    pub(super) workers: Vec<Worker>,
    pub(super) dice: Dice,
    tags: u64,
    /// Calls to publish that are under way, the innermost last.
    offers: Vec<Offer>,
    sweeping: bool,
    /// The newest epoch.
    drawn: Option<Epoch>,
    pub(super) broker: Option<Broker>,
    /// What brokers are made with.
    config: Option<Config>,
}

impl State {
    /// Whether a call to publish is under way.
    pub(super) const fn publishing(&self) -> bool {
        !self.offers.is_empty()
    }
}

struct Offer {
    once: Option<Once>,
    log: Key,
    publisher: Option<UserId>,
    message: Message,
    now: Timestamp,
    at_uptime: u64,
    /// Its place in the record.
    at: Option<usize>,
}

impl Stage {
    pub(super) fn new(mut dice: Dice, plan: &Plan, bug: Option<Bug>) -> (Self, Broker) {
        let mut epochs = Dice::new(dice.roll());
        let stage = Self(Arc::new(Mutex::new(State {
            clock: 1_000_000,
            uptime: 1_000,
            events: Vec::new(),
            guards: BTreeMap::new(),
            interruption: None,
            budget: 0,
            nested: 0,
            raced: 0,
            amid_telling: 0,
            workers: Worker::all(plan),
            dice,
            tags: 0,
            offers: Vec::new(),
            sweeping: false,
            drawn: None,
            broker: None,
            config: None,
        })));
        let [clock, uptime, drawn, made] = std::array::from_fn(|_| stage.clone());
        let epochs = Mutex::new(move || Epoch(epochs.roll()));
        let mut config = Config {
            max_channels: plan.max_channels,
            max_message: plan.max_message,
            idle: Duration::from_millis(plan.idle),
            retention: {
                let plan = plan.clone();
                Arc::new(move |name| {
                    let log = key_of(name);
                    made.made(log);
                    plan.retention(log)
                })
            },
            presence: Arc::new(|_| None),
            clock: Arc::new(move || clock.now()),
            uptime: Arc::new(move || uptime.lock().uptime),
            epochs: Arc::new(move || {
                let epoch = epochs.lock().unwrap()();
                drawn.lock().drawn = Some(epoch);
                epoch
            }),
            ..Config::default()
        };
        if let Some(bug) = bug {
            bug.misconfigure(&mut config);
        }
        stage.lock().config = Some(config);
        let broker = stage.open();
        (stage, broker)
    }

    /// Another broker in the place of the one before, with nothing in it.
    pub(super) fn open(&self) -> Broker {
        let mut state = self.lock();
        let config = state.config.clone().expect("it is on stage");
        let broker = Broker::new(config);
        state.broker = Some(broker.clone());
        broker
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub(super) fn record(&self, event: Event) {
        self.lock().events.push(event);
    }

    /// The broker asks for the retention of a log: it makes one, and has drawn its epoch.
    fn made(&self, log: Key) {
        let mut state = self.lock();
        if let (Key::Hub(_), Some(epoch)) = (log, state.drawn) {
            state.events.push(Event::Made { log, epoch });
        }
    }

    /// The broker's clock.
    fn now(&self) -> Timestamp {
        let interruption = {
            let state = self.lock();
            if state.sweeping || state.offers.is_empty() {
                return state.clock;
            }
            drop(state);
            self.lock().interruption.take()
        };
        if let Some(jump) = interruption {
            self.sweep();
            self.pass(jump);
            self.sweep();
        }
        let state = &mut *self.lock();
        let offer = state.offers.last_mut().expect("somebody publishes");
        state.raced += u64::from(offer.at.is_some());
        if offer.once.is_some() {
            state.events.push(Event::Nothing);
        }
        offer.at = Some(state.events.len());
        offer.now = state.clock;
        offer.at_uptime = state.uptime;
        state.events.push(Event::Nothing);
        state.clock
    }

    pub(super) fn pass(&self, milliseconds: u64) {
        let mut state = self.lock();
        state.clock += milliseconds;
        state.uptime += milliseconds;
    }

    pub(super) fn sweep(&self) {
        let (broker, now) = {
            let mut state = self.lock();
            state.sweeping = true;
            (state.broker.clone().expect("it is on stage"), state.uptime)
        };
        let evicted = broker.sweep();
        let mut state = self.lock();
        state.sweeping = false;
        state.events.push(Event::Swept { now, evicted });
    }

    pub(super) fn publish(&self, name: usize, padding: usize) {
        let broker = self.lock().broker.clone().expect("it is on stage");
        let (publisher, message) = self.offer(Key::Hub(name), padding);
        let result = broker.publish(&name_of(name), publisher.as_ref(), &message);
        self.settle(result.map(|position| (position, false)));
    }

    pub(super) fn post(&self, log: Key, poster: &Poster, padding: usize) {
        let (publisher, message) = self.offer(log, padding);
        let result = poster.post(publisher.as_ref().map(UserId::as_str), &message);
        self.settle(result.map(|position| (position, false)));
    }

    /// The number of a message that no other has.
    pub(super) fn tag(&self) -> u64 {
        let mut state = self.lock();
        state.tags += 1;
        state.tags
    }

    fn offer(&self, log: Key, padding: usize) -> (Option<UserId>, Message) {
        let message = tagged(self.tag(), padding);
        let publisher = self.lock().dice.pick(&[None, Some("ann"), Some("bob")]);
        let publisher = publisher.map(|name| UserId::parse(name).unwrap());
        self.offer_as(log, publisher.clone(), message.clone(), None);
        (publisher, message)
    }

    /// A publication is about to be offered.
    pub(super) fn offer_as(
        &self,
        log: Key,
        publisher: Option<UserId>,
        message: Message,
        once: Option<Once>,
    ) {
        self.lock().offers.push(Offer {
            once,
            log,
            publisher,
            message,
            now: 0,
            at_uptime: 0,
            at: None,
        });
    }

    /// What became of it, and whether it stood there already.
    pub(super) fn settle(&self, result: Result<(Position, bool), PublishError>) {
        let mut state = self.lock();
        let offer = state.offers.pop().expect("it was offered");
        if let (Some(once), Some(at)) = (offer.once, offer.at) {
            state.events[at - 1] = Event::Keyed(once);
        }
        match result {
            Ok((position, true)) => {
                let at = offer.at.expect("a publisher reads the clock");
                state.events[at] = Event::Duplicate {
                    log: offer.log,
                    epoch: position.epoch,
                    offset: position.offset,
                };
            }
            Ok((position, false)) => {
                let at = offer.at.expect("a publisher reads the clock");
                state.events[at] = Event::Accepted {
                    log: offer.log,
                    epoch: position.epoch,
                    sent: Seen(Publication {
                        offset: position.offset,
                        time: offer.now,
                        publisher: offer.publisher.map(|name| name.as_str().to_owned()),
                        message: offer.message,
                    }),
                    at: offer.at_uptime,
                };
            }
            Err(error) => {
                let refused = Event::Refused {
                    log: offer.log,
                    size: offer.message.size(),
                    error,
                };
                match offer.at {
                    Some(at) => state.events[at] = refused,
                    None => state.events.push(refused),
                }
            }
        }
    }

    /// What a listener does. At times it publishes in its turn, sweeps, or makes a listener go, itself perhaps.
    pub(super) fn hear(&self, reader: ReaderId, names: usize, delivery: Delivery) {
        let mut state = self.lock();
        state.events.push(match delivery {
            Delivery::Publication(publication) => Event::Handed {
                reader,
                seen: Seen(publication),
            },
            Delivery::Lagged { from, to } => Event::Lagged { reader, from, to },
        });
        if state.budget == 0 {
            return;
        }
        let (roll, name) = (state.dice.below(100), state.dice.below(names));
        match roll {
            0..30 => {
                state.budget -= 1;
                state.nested += 1;
                drop(state);
                self.publish(name, 0);
            }
            30..32 => {
                let ids: Vec<_> = state.guards.keys().copied().collect();
                let id = state.dice.pick(&ids);
                drop(state);
                self.remove_listener(id);
            }
            32..34 => {
                drop(state);
                self.sweep();
            }
            _ => {}
        }
    }

    pub(super) fn remove_listener(&self, reader: ReaderId) {
        let guard = {
            let mut state = self.lock();
            state.events.push(Event::Left { reader });
            state.guards.remove(&reader)
        };
        drop(guard);
    }

    /// Lets go of the broker and of the workers' wakers, which hold the stage.
    pub(super) fn clear(&self) {
        let (broker, config, guards, workers) = {
            let state = &mut *self.lock();
            let guards = std::mem::take(&mut state.guards);
            let workers = std::mem::take(&mut state.workers);
            (state.broker.take(), state.config.take(), guards, workers)
        };
        drop((broker, config, guards, workers));
    }
}

/// Writes down that it was woken.
pub(super) struct Recorder {
    pub(super) stage: Stage,
    pub(super) reader: ReaderId,
    pub(super) waker: u64,
}

impl Wake for Recorder {
    fn wake(self: Arc<Self>) {
        self.stage.record(Event::Woken {
            reader: self.reader,
            waker: self.waker,
        });
    }
}

pub(super) fn name_of(name: usize) -> ChannelName {
    ChannelName::parse(&format!("c{name}")).unwrap()
}

/// The names of private logs have no number.
fn key_of(name: &ChannelName) -> Key {
    name.as_str()
        .strip_prefix('c')
        .and_then(|name| name.parse().ok())
        .map_or(Key::Private(0), Key::Hub)
}
