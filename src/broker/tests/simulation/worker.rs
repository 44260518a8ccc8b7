//! Workers: each has an audience, and polls it once in a while or as soon as it is called.
//!
//! What other threads would do meanwhile is done from within: whoever is told may publish in its turn, and a call may be
//! answered before whoever called goes on.

use std::{
    sync::Arc,
    task::{Context, Wake, Waker},
};

use super::super::super::{Audience, Due};
use super::{
    event::Event,
    plan::Plan,
    stage::{Stage, State},
};

pub(super) struct Worker {
    audience: Audience,
    /// The newest, and its number.
    waker: Option<(Waker, u64)>,
    /// A poll is under way. There is one at a time.
    polling: bool,
}

impl Worker {
    pub(super) fn all(plan: &Plan) -> Vec<Self> {
        let worker = |_| Self {
            audience: Audience::new(),
            waker: None,
            polling: false,
        };
        (0..plan.audiences).map(worker).collect()
    }
}

impl Stage {
    pub(super) fn audience(&self, number: usize) -> Audience {
        self.lock().workers[number].audience.clone()
    }

    /// A worker comes round, with another waker at times.
    pub(super) fn poll(&self, number: usize) {
        let (audience, waker) = {
            let state = &mut *self.lock();
            let another = state.dice.percent(30);
            let worker = &mut state.workers[number];
            if another || worker.waker.is_none() {
                let next = worker.waker.as_ref().map_or(1, |(_, newest)| newest + 1);
                let call = Call {
                    stage: self.clone(),
                    audience: number,
                    waker: next,
                };
                worker.waker = Some((Waker::from(Arc::new(call)), next));
            }
            let (waker, newest) = worker.waker.clone().expect("it was made");
            worker.polling = true;
            let audience = worker.audience.clone();
            let amid = state.publishing();
            state.events.push(Event::Polling {
                audience: number,
                waker: newest,
                amid,
            });
            (audience, waker)
        };
        audience.poll(&Context::from_waker(&waker));
        let mut state = self.lock();
        state.workers[number].polling = false;
        state.events.push(Event::Polled { audience: number });
    }

    /// Who is told in the name of readers. Their key is their number.
    pub(super) fn bell(&self, names: usize) -> Arc<dyn Due> {
        Arc::new(Bell {
            stage: self.clone(),
            names,
        })
    }
}

impl State {
    /// Whether it is time for somebody else to do something within a call of the broker.
    fn interferes(&mut self) -> bool {
        self.budget > 0 && self.dice.percent(30)
    }
}

/// Writes down that a worker was called.
struct Call {
    stage: Stage,
    audience: usize,
    waker: u64,
}

impl Wake for Call {
    fn wake(self: Arc<Self>) {
        let at_once = {
            let mut state = self.stage.lock();
            let at_once = state.interferes() && !state.workers[self.audience].polling;
            state.events.push(Event::Called {
                audience: self.audience,
                waker: self.waker,
                at_once,
            });
            at_once
        };
        if at_once {
            self.stage.poll(self.audience);
        }
    }
}

/// Writes down who is told.
struct Bell {
    stage: Stage,
    names: usize,
}

impl Due for Bell {
    fn due(&self, key: u32) {
        let name = {
            let mut state = self.stage.lock();
            state.events.push(Event::Due {
                reader: key as usize,
            });
            if !state.interferes() {
                return;
            }
            state.budget -= 1;
            state.amid_telling += 1;
            state.dice.below(self.names)
        };
        self.stage.publish(name, 0);
    }
}
