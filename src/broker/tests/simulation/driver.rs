//! Publishers, readers and everybody else, as the dice have it.

use super::super::super::{Broker, Poster};
use super::{
    actor::{Actor, Habit, Hand},
    attempts::{Attempt, WINDOW},
    event::{Event, Found, Key, ReaderId, Via},
    plan::{Dice, LONGEST_AGE, Plan},
    planted::Bug,
    stage::{Stage, name_of},
};
use crate::wire::{ChannelName, Position, Start};

/// Name of all private logs.
const PRIVATE: &str = "private";

pub(super) struct Driver {
    pub(super) stage: Stage,
    pub(super) broker: Broker,
    pub(super) plan: Plan,
    pub(super) dice: Dice,
    pub(super) bug: Option<Bug>,
    pub(super) actors: Vec<Actor>,
    /// A few publications with keys, to be tried again.
    pub(super) attempts: Vec<Attempt>,
    /// Keys that were thought of.
    pub(super) keys: u64,
    posters: Vec<(Key, Poster)>,
    /// Where readers stood that left, to come back: a few of them.
    absent: Vec<(usize, Position)>,
    /// One that left but for a planted bug.
    leaked: Option<Hand>,
    readers: ReaderId,
    privates: usize,
}

impl Driver {
    pub(super) fn new(mut dice: Dice, plan: Plan, bug: Option<Bug>) -> Self {
        let (stage, broker) = Stage::new(Dice::new(dice.roll()), &plan, bug);
        Self {
            stage,
            broker,
            plan,
            dice,
            bug,
            actors: Vec::new(),
            attempts: Vec::new(),
            keys: 0,
            posters: Vec::new(),
            absent: Vec::new(),
            leaked: None,
            readers: 0,
            privates: 0,
        }
    }

    /// Does something and names it.
    pub(super) fn step(&mut self) -> &'static str {
        self.stage.lock().budget = 4;
        match self.dice.below(100) {
            0..31 => self.publish(),
            31..36 => self.post(),
            36..58 => self.read_some(),
            58..62 => self.drain_one(),
            62..69 => self.serve(),
            69..77 => self.join(),
            77..81 => self.leave(),
            81..84 => self.pause(),
            84..87 => self.listen(),
            87..89 => self.stop_listening(),
            89..91 => self.open_private(),
            91..92 => self.close_private(),
            92..95 => self.jump(),
            95..97 => self.sweep(),
            97..98 => self.restart(),
            _ => self.publish_amid_eviction(),
        }
    }

    /// The end of every seed: one thing after the other until there is none.
    pub(super) fn finish(&mut self, phase: usize) -> Option<&'static str> {
        self.stage.lock().budget = 0;
        Some(match phase {
            0 => {
                for audience in 0..self.plan.audiences {
                    self.stage.poll(audience);
                }
                "serve all"
            }
            1 => {
                for index in 0..self.actors.len() {
                    self.actors[index].drain(&mut self.dice, &self.stage);
                }
                "drain all"
            }
            2 => {
                self.leave_all();
                "leave all"
            }
            3 => {
                // Keys and what is retained hold up the end of a channel.
                let keys = if self.plan.keys { WINDOW + 1 } else { 0 };
                self.stage.pass(keys.max(LONGEST_AGE + 1));
                self.stage.sweep();
                self.stage.pass(self.plan.idle);
                self.stage.sweep();
                self.stage.record(Event::Over);
                "empty"
            }
            4 => {
                for name in 0..self.plan.names {
                    self.stage.publish(name, 0);
                }
                "begin again"
            }
            _ => return None,
        })
    }

    pub(super) fn leave_all(&mut self) {
        while !self.actors.is_empty() {
            self.leave();
        }
        while !self.stage.lock().guards.is_empty() {
            self.stop_listening();
        }
        while !self.posters.is_empty() {
            self.close_private();
        }
    }

    fn publish(&mut self) -> &'static str {
        if self.plan.keys && self.dice.percent(40) {
            return self.attempt();
        }
        let name = self.dice.below(self.plan.names);
        let burst = match self.dice.below(30) {
            0 if self.plan.large == 0 => 100,
            roll => 1 + roll % 6,
        };
        for _ in 0..burst {
            let padding = self.padding();
            self.stage.publish(name, padding);
        }
        "publish"
    }

    fn padding(&mut self) -> usize {
        match self.dice.percent(self.plan.large) {
            true => self.dice.below(self.plan.max_message + 50),
            false => self.dice.below(60),
        }
    }

    fn publish_amid_eviction(&mut self) -> &'static str {
        let jump = self.dice.pick(&[self.plan.idle, self.plan.idle / 2]);
        self.stage.lock().interruption = Some(jump);
        let name = self.dice.below(self.plan.names);
        self.stage.publish(name, 0);
        self.stage.lock().interruption = None;
        "publish amid eviction"
    }

    fn post(&mut self) -> &'static str {
        for _ in 0..=self.dice.below(4) {
            let padding = self.padding();
            if !self.posters.is_empty() {
                let (log, poster) = &self.posters[self.dice.below(self.posters.len())];
                self.stage.post(*log, poster, padding);
            }
        }
        "post"
    }

    fn read_some(&mut self) -> &'static str {
        for _ in 0..=self.dice.below(4) {
            if let Some(index) = self.anybody().filter(|index| !self.actors[*index].paused) {
                self.actors[index].read(&mut self.dice, &self.stage);
                self.come_back(index);
            }
        }
        "read"
    }

    fn drain_one(&mut self) -> &'static str {
        if let Some(index) = self.anybody() {
            self.actors[index].drain(&mut self.dice, &self.stage);
            self.come_back(index);
        }
        "drain"
    }

    /// A worker comes round.
    fn serve(&mut self) -> &'static str {
        if self.plan.audiences > 0 {
            self.stage.poll(self.dice.below(self.plan.audiences));
        }
        "serve"
    }

    fn anybody(&mut self) -> Option<usize> {
        match self.actors.len() {
            0 => None,
            count => Some(self.dice.below(count)),
        }
    }

    fn join(&mut self) -> &'static str {
        if self.actors.len() < self.plan.readers {
            let (name, start) = self.draw_start();
            let via = self.draw_via();
            let habit = match via {
                Via::Audience(_) => self.draw_habit(),
                _ => Habit::All,
            };
            self.join_from(name, via, start, habit);
        }
        "join"
    }

    fn draw_via(&mut self) -> Via {
        match self.dice.pick(&self.plan.vias) {
            Via::Listener => Via::Stream,
            via => via,
        }
    }

    /// What the next reader is told by.
    pub(super) const fn key(&self) -> u32 {
        self.readers as u32 + 1
    }

    /// Where the next reader begins, and in which channel: at the head, where another left, elsewhere, or with the newest.
    fn draw_start(&mut self) -> (usize, Start) {
        let name = self.dice.below(self.plan.names);
        let roll = self.dice.below(10);
        if (4..9).contains(&roll) && !self.absent.is_empty() {
            let index = self.dice.below(self.absent.len());
            // Some come back more than once without anything between.
            let (name, mut position) = match roll {
                4..6 => self.absent.swap_remove(index),
                _ => self.absent[index],
            };
            if roll == 8 {
                let near = position.offset.saturating_sub(2) + self.dice.below(5) as u64;
                position.offset = self.dice.pick(&[0, near, near, u64::MAX]);
                position.epoch.0 ^= u64::from(self.dice.percent(20));
            }
            let start = match self.dice.percent(50) {
                true => Start::After(position),
                false => Start::AfterOrOldest(position),
            };
            return (name, start);
        }
        match roll {
            9 => (
                name,
                Start::Latest(self.dice.pick(&[0, 1, 3, 100, u64::MAX])),
            ),
            _ => (name, Start::Head),
        }
    }

    pub(super) fn seat(&mut self, log: Key, via: Via, start: Start, hand: Hand) {
        self.readers += 1;
        let actor = Actor::new(self.readers, log, via, hand);
        self.stage.record(Event::Joined {
            log,
            reader: actor.id,
            via: actor.via,
            start,
            position: actor.hand.position(),
            recovered: actor.hand.recovered(),
        });
        self.actors.push(actor);
    }

    fn leave(&mut self) -> &'static str {
        if let Some(index) = self.anybody() {
            let actor = self.actors.swap_remove(index);
            self.stage.record(Event::Left { reader: actor.id });
            if let Key::Hub(name) = actor.log {
                self.absent.push((name, actor.at));
                if self.absent.len() > 6 {
                    self.absent.swap_remove(self.dice.below(6));
                }
            }
            self.let_go(actor);
        }
        "leave"
    }

    /// Drops a reader that left, unless a planted bug keeps it.
    pub(super) fn let_go(&mut self, actor: Actor) {
        let of_hub = actor.hand.channel().as_str() != PRIVATE;
        let leaks = self.bug.is_some_and(|bug| bug.leaks(actor.via));
        if of_hub && self.leaked.is_none() && leaks {
            self.leaked = Some(actor.hand);
        }
    }

    fn pause(&mut self) -> &'static str {
        if let Some(index) = self.anybody() {
            self.actors[index].paused ^= true;
        }
        "pause or resume"
    }

    fn listen(&mut self) -> &'static str {
        if self.plan.vias.contains(&Via::Listener) && self.stage.lock().guards.len() < 4 {
            let (name, names) = (self.dice.below(self.plan.names), self.plan.names);
            self.readers += 1;
            let (log, reader, stage) = (Key::Hub(name), self.readers, self.stage.clone());
            let call = move |delivery| stage.hear(reader, names, delivery);
            let event = match self.broker.add_listener(&name_of(name), call) {
                Ok(guard) => {
                    let position = guard.channel.position();
                    self.stage.lock().guards.insert(reader, guard);
                    Event::Joined {
                        log,
                        reader,
                        via: Via::Listener,
                        start: Start::Head,
                        position,
                        recovered: false,
                    }
                }
                Err(_) => Event::JoinRefused { log },
            };
            self.stage.record(event);
        }
        "listen"
    }

    fn stop_listening(&mut self) -> &'static str {
        let ids: Vec<_> = self.stage.lock().guards.keys().copied().collect();
        if !ids.is_empty() {
            self.stage.remove_listener(self.dice.pick(&ids));
        }
        "stop listening"
    }

    fn open_private(&mut self) -> &'static str {
        if self.posters.len() < 3 {
            self.privates += 1;
            let log = Key::Private(self.privates);
            let poster = self.broker.private(&ChannelName::parse(PRIVATE).unwrap());
            let via = self.draw_via();
            let hand = match via {
                Via::Audience(number) => {
                    let audience = self.stage.audience(number);
                    let bell = self.stage.bell(self.plan.names);
                    let reader = poster.reader(&audience, &bell, self.key());
                    Hand::Reader(reader.expect("the log is open"))
                }
                _ => Hand::Subscription(poster.subscription()),
            };
            self.posters.push((log, poster));
            self.seat(log, via, Start::Head, hand);
        }
        "open a private log"
    }

    fn close_private(&mut self) -> &'static str {
        if !self.posters.is_empty() {
            let index = self.dice.below(self.posters.len());
            let (log, poster) = self.posters.swap_remove(index);
            self.stage.record(Event::Closed { log });
            drop(poster);
        }
        "close a private log"
    }

    fn jump(&mut self) -> &'static str {
        let idle = self.plan.idle;
        if self.plan.keys && self.dice.percent(10) {
            self.stage.pass(WINDOW + 1);
            return "jump over the window of keys";
        }
        let jump = self
            .dice
            .pick(&[1, 2, 5, 30, 200, 2_000, idle, idle + 1, LONGEST_AGE + 1]);
        // Time goes on, or somebody sets the clock.
        match self.dice.below(10) {
            0..2 => self.stage.lock().clock -= jump,
            2..4 => self.stage.lock().clock += jump,
            _ => self.stage.pass(jump),
        }
        "jump"
    }

    fn sweep(&mut self) -> &'static str {
        self.stage.sweep();
        "sweep"
    }

    /// What happened since the last time, with a look at the channels in which something did, and at one more.
    pub(super) fn observe(&mut self) -> Vec<Event> {
        let mut events = std::mem::take(&mut self.stage.lock().events);
        let mut keys = vec![Key::Hub(self.dice.below(self.plan.names))];
        for event in &events {
            match event {
                Event::Accepted { log, .. } if !keys.contains(log) => keys.push(*log),
                Event::Swept { .. } => keys.extend((0..self.plan.names).map(Key::Hub)),
                _ => {}
            }
        }
        for log in keys {
            let found = match log {
                Key::Hub(name) => {
                    let (broker, name) = (&self.broker, name_of(name));
                    broker.position(&name).map(|position| Found {
                        position,
                        readers: broker.readers(&name),
                        bytes: broker.retained_bytes(&name),
                    })
                }
                Key::Private(_) => {
                    let poster = self.posters.iter().find(|(key, _)| *key == log);
                    let channel = &poster.expect("it was posted to").1.channel;
                    Some(Found {
                        position: channel.position(),
                        readers: channel.readers(),
                        bytes: channel.bytes(),
                    })
                }
            };
            events.push(Event::Looked { log, found });
        }
        events.push(Event::Counted(self.broker.stats()));
        events
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.stage.clear();
    }
}
