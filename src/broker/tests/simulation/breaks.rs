//! Readers that are cut off because they lag and come back at once, and a broker in the place of another one.

use super::{
    actor::{Actor, Habit, Hand},
    driver::Driver,
    event::{Event, Key, Via},
    stage::name_of,
};
use crate::wire::{Position, Start};

/// Milliseconds after which a publication is worth nothing to a reader.
const AGES: [u64; 4] = [0, 3, 40, 2_000];

impl Driver {
    /// A new reader of an audience wants everything, or what some rule would have it want.
    pub(super) fn draw_habit(&mut self) -> Habit {
        match self.dice.below(8) {
            0..4 => Habit::All,
            4 => Habit::Newest,
            5 => Habit::Fresh(self.dice.pick(&AGES)),
            _ => Habit::Cut,
        }
    }

    /// Takes the place of a reader that lagged, from where it was before: as a client does that is told to begin anew.
    pub(super) fn come_back(&mut self, index: usize) {
        let Some(position) = self.actors[index].cut.take() else {
            return;
        };
        let (log, via) = (self.actors[index].log, self.actors[index].via);
        let actor = self.actors.swap_remove(index);
        self.stage.record(Event::Left { reader: actor.id });
        self.let_go(actor);
        if let Key::Hub(name) = log {
            self.join_from(name, via, Start::After(position), Habit::Cut);
        }
    }

    pub(super) fn join_from(&mut self, name: usize, via: Via, start: Start, habit: Habit) {
        let channel = name_of(name);
        let hand = match via {
            Via::Audience(number) => {
                let audience = self.stage.audience(number);
                let bell = self.stage.bell(self.plan.names);
                let reader = self
                    .broker
                    .read(&channel, None, &audience, &bell, self.key(), start);
                reader.map(|reader| {
                    Hand::Reader(match habit {
                        Habit::Fresh(age) => {
                            let age = std::time::Duration::from_millis(age);
                            self.broker.expiring(reader, age)
                        }
                        _ => reader,
                    })
                })
            }
            _ => {
                let subscribed = self.broker.subscribe_from(&channel, start);
                subscribed.map(Hand::Subscription)
            }
        };
        let log = Key::Hub(name);
        match hand {
            Ok(hand) => {
                self.seat(log, via, start, hand);
                self.newest_actor().habit = habit;
            }
            Err(_) => self.stage.record(Event::JoinRefused { log }),
        }
    }

    fn newest_actor(&mut self) -> &mut Actor {
        self.actors.last_mut().expect("it was seated")
    }

    /// Everybody leaves, another broker comes, and some continue where they were.
    pub(super) fn restart(&mut self) -> &'static str {
        if !self.plan.restarts || self.bug.is_some_and(|bug| !bug.survives_restarts()) {
            return "sweep no more";
        }
        let back: Vec<_> = self.actors.iter().map(place).collect();
        self.leave_all();
        self.broker = self.stage.open();
        self.stage.record(Event::Restarted);
        for (log, via, position) in back.into_iter().take(4) {
            if let (Key::Hub(name), true) = (log, self.dice.percent(60)) {
                let habit = match via {
                    Via::Audience(_) => self.draw_habit(),
                    _ => Habit::All,
                };
                self.join_from(name, via, Start::After(position), habit);
            }
        }
        "restart"
    }
}

fn place(actor: &Actor) -> (Key, Via, Position) {
    (actor.log, actor.via, actor.at)
}
