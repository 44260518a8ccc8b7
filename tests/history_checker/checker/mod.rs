//! Judges the record of one channel by the promises of PROTOCOL.md, and by nothing else.
//!
//! The simulator's checker (`src/broker/tests/simulation/checker.rs`) knows every call of a broker in virtual time and predicts each
//! result. This one is for real servers and real networks: it knows only what clients saw, calls overlap, outcomes may stay unknown, and
//! servers die with what they had in memory. So it asks for nothing that a client cannot know, and each rule holds for every order in
//! which what overlaps may have happened.
#![allow(dead_code, reason = "each test binary uses a part")]

mod epochs;
mod reader;

use std::collections::{BTreeMap, HashMap, HashSet};

use tidings::wire::{Epoch, Offset, Position};

use super::record::{CallId, Event, ReaderId};
use epochs::Epochs;
use reader::Reader;

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Acknowledged, and a reader that waited for it never got it.
    Lost,
    /// A reader got an offset twice, or one from before its beginning.
    Duplicate,
    /// A reader got two in the wrong order, or what was published later stands before what was acknowledged earlier.
    Disorder,
    /// A reader was led past an offset, or into another log, without a word.
    Gap,
    /// A reader was told that nothing is missing, and something is.
    FalselyRecovered,
    /// A reader was told that something is missing, and the log had it.
    FalselyDenied,
    /// Delivered, and nobody published it, or not yet, or the server said that it refused it.
    Phantom,
    /// Two readers, or a reader and a publisher, know different messages at one position.
    WrongContent,
    /// Another epoch, and the server had not been restarted.
    EpochChanged,
    /// The same epoch, and the server had been restarted.
    EpochKept,
    /// A reader was led back into a log that was over.
    StaleEpoch,
    /// One message stands at two positions.
    StoredTwice,
    /// Acknowledged at another position than where it stands, or where another one does.
    Misplaced,
    /// An acknowledgement that says the wrong thing of whether the message stood there already.
    WrongDuplicate,
    /// A call to publish never came back.
    Unanswered,
    /// `Lagged` for what was not missing.
    FalselyLagged,
    /// `Skipped` in a channel whose rule leaves nothing out, or for what was not due.
    FalselySkipped,
    /// A reader continues elsewhere than where it was.
    WrongSeam,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Violation {
    pub(crate) kind: Kind,
    pub(crate) what: String,
    /// Index of the event that shows it.
    pub(crate) at: usize,
}

/// What the channel's rule promises.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Promise {
    /// Publications that its log keeps, whatever their age and size.
    pub(crate) kept: u64,
    /// Whether it may leave some out.
    pub(crate) skips: bool,
}

/// A call to publish, and what is known of it.
#[derive(Debug, Default)]
struct Call {
    key: Option<String>,
    text: String,
    invoked: usize,
    acknowledged: Option<(usize, Position)>,
    refused: bool,
    answered: bool,
}

pub(crate) struct Checker {
    promise: Promise,
    violations: Vec<Violation>,
    epochs: Epochs,
    calls: HashMap<CallId, Call>,
    /// Calls that published a text: several with one key, otherwise one.
    texts: HashMap<String, Vec<CallId>>,
    /// What is known to stand where.
    places: HashMap<Position, String>,
    stands: HashMap<(String, Epoch), Offset>,
    /// What some reader got.
    given: HashSet<Position>,
    /// Where in the record the highest that is acknowledged in each epoch rose, and to what.
    rises: HashMap<Epoch, Vec<(usize, Offset)>>,
    /// How far the second look came.
    now: usize,
    /// Calls that may have been carried out and have no acknowledgement, at this point of the record.
    open: u64,
}

/// Everything that is wrong with a record; empty is good.
pub(crate) fn check(history: &[Event], promise: Promise) -> Vec<Violation> {
    let mut checker = Checker::new(promise);
    // What is acknowledged later is known to those who judge what was delivered before.
    checker.look_at_calls(history);
    let mut readers = BTreeMap::<ReaderId, Reader>::new();
    for (at, event) in history.iter().enumerate() {
        checker.advance(at, event);
        if let Some(id) = event.reader() {
            readers
                .entry(id)
                .or_default()
                .saw(&mut checker, at, event, history);
        }
    }
    checker.epochs.judge(&mut checker.violations);
    checker.violations.sort_by_key(|violation| violation.at);
    checker.violations
}

/// Servers of which an epoch is known.
pub(crate) fn servers(history: &[Event]) -> usize {
    let mut checker = Checker::new(Promise {
        kept: 0,
        skips: false,
    });
    checker.look_at_calls(history);
    checker.epochs.servers()
}

impl Checker {
    fn new(promise: Promise) -> Self {
        Self {
            promise,
            violations: Vec::new(),
            epochs: Epochs::default(),
            calls: HashMap::new(),
            texts: HashMap::new(),
            places: HashMap::new(),
            stands: HashMap::new(),
            given: HashSet::new(),
            rises: HashMap::new(),
            now: 0,
            open: 0,
        }
    }

    fn look_at_calls(&mut self, history: &[Event]) {
        for (at, event) in history.iter().enumerate() {
            self.publishing(at, event);
        }
        self.unanswered(history.len());
    }

    fn broken(&mut self, at: usize, kind: Kind, what: impl Into<String>) {
        self.violations.push(Violation {
            kind,
            what: what.into(),
            at,
        });
    }

    /// The first look: what publishers know.
    fn publishing(&mut self, at: usize, event: &Event) {
        match event {
            Event::Started => self.epochs.started(),
            Event::Stopping => self.epochs.stopping(),
            Event::Invoked { call, key, text } => {
                self.calls.insert(
                    *call,
                    Call {
                        key: key.clone(),
                        text: text.clone(),
                        invoked: at,
                        ..Call::default()
                    },
                );
                self.texts.entry(text.clone()).or_default().push(*call);
                self.epochs.invoked(*call);
            }
            Event::Acknowledged {
                call,
                position,
                duplicate,
            } => self.acknowledged(at, *call, *position, *duplicate),
            Event::Unknown { call } => self.answered(*call, false),
            Event::Refused { call } => self.answered(*call, true),
            _ => {}
        }
    }

    fn answered(&mut self, call: CallId, refused: bool) {
        if let Some(call) = self.calls.get_mut(&call) {
            call.answered = true;
            call.refused = refused;
        }
    }

    fn acknowledged(&mut self, at: usize, id: CallId, position: Position, duplicate: bool) {
        let Some(call) = self.calls.get_mut(&id) else {
            return self.broken(at, Kind::Phantom, format!("{position} for nobody's call"));
        };
        call.answered = true;
        call.acknowledged = Some((at, position));
        let (text, invoked, keyed) = (call.text.clone(), call.invoked, call.key.is_some());
        self.epochs.acknowledged(at, id, position.epoch);
        let rises = self.rises.entry(position.epoch).or_default();
        if rises.last().is_none_or(|(_, head)| position.offset > *head) {
            rises.push((at, position.offset));
        }
        // Of calls with one key, the first stands for all; it alone cannot have stood there already, unless it was sent twice.
        let first = self.texts[&text][0] == id;
        // What was acknowledged before the call began stands before it.
        let floor = self.head_at(position.epoch, invoked);
        if first && position.offset <= floor {
            let what = format!("{text:?} at {position}, begun when {floor} was acknowledged");
            self.broken(at, Kind::Disorder, what);
        }
        if duplicate && !keyed {
            self.broken(at, Kind::WrongDuplicate, format!("{text:?} has no key"));
        }
        if !duplicate && self.stood(&text, id, position.epoch) {
            self.broken(at, Kind::WrongDuplicate, format!("{text:?} stood there"));
        }
        match self.place(position, &text) {
            Ok(()) => {}
            Err(Kind::WrongContent) => {
                let other = &self.places[&position];
                let what = format!("{text:?} at {position}, where {other:?} stands");
                self.broken(at, Kind::Misplaced, what);
            }
            Err(kind) => self.broken(at, kind, format!("{text:?} at {position} too")),
        }
    }

    /// Whether another call with this text was acknowledged in this epoch before this one began.
    fn stood(&self, text: &str, id: CallId, epoch: Epoch) -> bool {
        let invoked = self.calls[&id].invoked;
        self.texts[text].iter().any(|other| {
            let known = self.calls[other].acknowledged;
            *other != id
                && known.is_some_and(|(at, position)| at < invoked && position.epoch == epoch)
        })
    }

    /// Takes note that a text stands somewhere.
    fn place(&mut self, position: Position, text: &str) -> Result<(), Kind> {
        let known = self
            .places
            .entry(position)
            .or_insert_with(|| text.to_owned());
        if known != text {
            return Err(Kind::WrongContent);
        }
        let stands = self
            .stands
            .entry((text.to_owned(), position.epoch))
            .or_insert(position.offset);
        match *stands == position.offset {
            true => Ok(()),
            false => Err(Kind::StoredTwice),
        }
    }

    fn unanswered(&mut self, end: usize) {
        let mut open: Vec<_> = self
            .calls
            .values()
            .filter(|call| !call.answered)
            .map(|call| call.text.clone())
            .collect();
        open.sort();
        for text in open {
            self.broken(end, Kind::Unanswered, format!("{text:?}"));
        }
    }

    /// The second look, at what readers saw: where the record stands.
    fn advance(&mut self, at: usize, event: &Event) {
        self.now = at;
        match event {
            Event::Invoked { .. } => self.open += 1,
            Event::Acknowledged { .. } | Event::Refused { .. } => {
                self.open = self.open.saturating_sub(1);
            }
            // It counts as open for ever.
            _ => {}
        }
    }

    /// The highest that is acknowledged so far: the log has had it.
    fn reached(&self, epoch: Epoch) -> Offset {
        self.head_at(epoch, self.now)
    }

    /// The highest that was acknowledged when the record was this long.
    fn head_at(&self, epoch: Epoch, index: usize) -> Offset {
        let Some(rises) = self.rises.get(&epoch) else {
            return 0;
        };
        let before = rises.partition_point(|(at, _)| *at < index);
        before.checked_sub(1).map_or(0, |last| rises[last].1)
    }

    /// Beyond this no publication can stand so far.
    fn bound(&self, epoch: Epoch) -> Offset {
        self.reached(epoch).saturating_add(self.open)
    }

    /// Judges a delivery by itself, whatever its reader saw before.
    fn delivered(&mut self, at: usize, position: Position, text: &str) {
        let Some(calls) = self.texts.get(text) else {
            return self.broken(at, Kind::Phantom, format!("{text:?} at {position}"));
        };
        let calls: Vec<_> = calls.iter().map(|call| &self.calls[call]).collect();
        let begun = calls.iter().map(|call| call.invoked).min();
        if begun.is_none_or(|begun| begun > at) {
            let what = format!("{text:?} at {position} before it was published");
            return self.broken(at, Kind::Phantom, what);
        }
        if calls.iter().all(|call| call.refused) {
            let what = format!("{text:?} at {position} was refused");
            return self.broken(at, Kind::Phantom, what);
        }
        let floor = self.head_at(position.epoch, calls[0].invoked);
        let acknowledged: Vec<_> = calls
            .iter()
            .filter_map(|call| Some(call.acknowledged?.1))
            .collect();
        // Nobody tries again what was acknowledged: it does not come into the log of a later server.
        let later = acknowledged
            .iter()
            .find(|known| calls.len() == 1 && self.epochs.is_before(known.epoch, position.epoch));
        if let Some(known) = later {
            let what = format!("{text:?} at {position}, acknowledged at {known}");
            return self.broken(at, Kind::StoredTwice, what);
        }
        let elsewhere = acknowledged
            .iter()
            .find(|known| known.epoch == position.epoch && known.offset != position.offset);
        // Unless it stands there, too.
        let elsewhere = elsewhere
            .copied()
            .filter(|known| !self.given.contains(known));
        self.given.insert(position);
        if position.offset <= floor && acknowledged.is_empty() {
            let what = format!("{text:?} at {position}, begun when {floor} was acknowledged");
            self.broken(at, Kind::Disorder, what);
        }
        match (self.place(position, text), elsewhere) {
            (Ok(()), _) => {}
            (Err(Kind::WrongContent), _) => {
                let other = &self.places[&position];
                let what = format!("{text:?} at {position}, where {other:?} stands");
                self.broken(at, Kind::WrongContent, what);
            }
            (Err(_), Some(known)) => {
                let what = format!("{text:?} at {position}, acknowledged at {known}");
                self.broken(at, Kind::Misplaced, what);
            }
            (Err(kind), None) => self.broken(at, kind, format!("{text:?} at {position} too")),
        }
    }
}
