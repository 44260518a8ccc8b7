//! What one reader should see.

use super::{
    event::{Event, Key, Seen, Told, Via},
    model::{BATCH_BYTES, BATCH_COUNT, Log},
    violation::{Kind, Verdict, broken},
};
use crate::wire::{Offset, Timestamp};

#[derive(Debug)]
pub(super) struct Reader {
    pub(super) log: Key,
    pub(super) via: Via,
    /// Offset after which it began.
    start: Offset,
    /// What it must see next.
    next: Offset,
    /// Last offset of the batch that it hands out, which it holds even when the log does not.
    in_hand: Offset,
    time: Timestamp,
    /// The waker to be told.
    waiting: Option<u64>,
    /// There is something since it began to wait or, for an audience's reader, since it was told or had read all.
    owed: bool,
    /// The poll that is under way should tell it.
    promised: bool,
    /// That poll did.
    told: bool,
    /// What it looks for: the newest alone, or none that is older.
    wants: Option<(bool, u64)>,
}

impl Reader {
    pub(super) const fn new(log: Key, via: Via, start: Offset) -> Self {
        Self {
            log,
            via,
            start,
            next: start + 1,
            in_hand: 0,
            time: 0,
            waiting: None,
            owed: false,
            promised: false,
            told: false,
            wants: None,
        }
    }

    /// Something was accepted, or its log was closed.
    pub(super) const fn owe(&mut self) {
        self.owed = self.waiting.is_some() || self.audience().is_some();
    }

    pub(super) fn woken(&mut self, waker: u64) {
        if self.waiting == Some(waker) {
            self.waiting = None;
            self.owed = false;
        }
    }

    pub(super) const fn audience(&self) -> Option<usize> {
        match self.via {
            Via::Audience(audience) => Some(audience),
            Via::Stream | Via::Batch | Via::Listener => None,
        }
    }

    /// Its audience is polled; what is published meanwhile is for the next time.
    pub(super) const fn polling(&mut self, amid: bool) {
        self.promised = self.owed && !amid;
        self.told = false;
    }

    pub(super) fn due(&mut self) -> Verdict {
        if self.told {
            return broken(Kind::ToldTwice, format!("it was at {}", self.next));
        }
        self.told = true;
        self.promised = false;
        self.owed = false;
        Ok(())
    }

    pub(super) fn polled(&self) -> Verdict {
        match self.promised {
            true => broken(Kind::LostWakeup, format!("{} is not told", self.next)),
            false => Ok(()),
        }
    }

    /// It does not wait any more. An audience's reader that has not read all is told nevertheless.
    fn moved(&mut self, log: &Log) {
        self.waiting = None;
        self.owed &= self.audience().is_some() && (self.next <= log.head() || log.closed);
    }

    /// Judges what the reader saw of its log.
    pub(super) fn saw(&mut self, log: &Log, event: &Event) -> Verdict {
        if let Event::Wants { newest, since, .. } = event {
            self.wants = Some((*newest, *since));
            return Ok(());
        }
        let wants = self.wants.take();
        let unwanted = wants.and_then(|wants| self.unwanted(log, wants));
        match event {
            Event::Batch { seen, .. } => {
                if let Some(to) = unwanted {
                    return broken(Kind::TooOld, format!("{seen:?}, unwanted up to {to}"));
                }
                self.batch(log, seen)?;
                match wants.is_some() && seen.len() > 1 {
                    true => broken(Kind::Batch, format!("{seen:?} for one")),
                    false => Ok(()),
                }
            }
            Event::Skipped { from, to, .. } => self.skipped(log, *from, *to, unwanted),
            Event::SteppedBack { .. } => {
                self.next -= 1;
                Ok(())
            }
            Event::Lagged { from, to, .. } if unwanted.is_some() => {
                broken(Kind::LaggedTooMuch, format!("{from}-{to} are unwanted"))
            }
            Event::Handed { seen, .. } => {
                let offset = seen.0.offset;
                self.expect(log, offset)?;
                if offset > self.in_hand {
                    self.held(log, offset)?;
                    self.in_hand = log.batch_end(offset);
                }
                self.take(log, seen)
            }
            Event::Lagged { from, to, .. } => self.lagged(log, *from, *to),
            Event::Waiting { told, .. } => self.waits(log, *told),
            Event::Ended { .. } => {
                self.at_head(log)?;
                self.waiting = None;
                self.owed = false;
                match log.closed {
                    true => Ok(()),
                    false => broken(Kind::EndedEarly, "nobody closed the log"),
                }
            }
            _ => Ok(()),
        }
    }

    /// Last offset of what is due and not wanted.
    fn unwanted(&self, log: &Log, (newest, since): (bool, u64)) -> Option<Offset> {
        if newest && self.next < log.head() {
            return Some(log.head() - 1);
        }
        // What is not held any more is told as `Lagged`.
        match self.next < log.first() {
            true => None,
            false => log.too_old(self.next, since),
        }
    }

    fn skipped(
        &mut self,
        log: &Log,
        from: Offset,
        to: Offset,
        unwanted: Option<Offset>,
    ) -> Verdict {
        if from > self.next {
            let next = self.next;
            return broken(Kind::Gap, format!("{from}-{to} in the place of {next}"));
        }
        if from < self.next || unwanted != Some(to) {
            let next = self.next;
            let what = format!("{from}-{to}; it was at {next}, unwanted up to {unwanted:?}");
            return broken(Kind::SkippedWrongly, what);
        }
        self.next = to + 1;
        self.moved(log);
        Ok(())
    }

    fn batch(&mut self, log: &Log, seen: &[Seen]) -> Verdict {
        if seen.is_empty() {
            return broken(Kind::Batch, "empty");
        }
        if let Some(pair) = seen
            .windows(2)
            .find(|pair| pair[0].0.offset > pair[1].0.offset)
        {
            return broken(Kind::OutOfOrder, format!("{pair:?}"));
        }
        let first = self.next;
        for seen in seen {
            self.expect(log, seen.0.offset)?;
            self.held(log, seen.0.offset)?;
            self.take(log, seen)?;
        }
        let (count, bytes) = (self.next - first, log.size(first, self.next - 1));
        if count > BATCH_COUNT || count > 1 && bytes > BATCH_BYTES {
            return broken(Kind::Batch, format!("{count} of {bytes} bytes"));
        }
        Ok(())
    }

    fn expect(&self, log: &Log, offset: Offset) -> Verdict {
        let (next, start, head) = (self.next, self.start, log.head());
        if offset <= start {
            broken(Kind::BeforeJoin, format!("{offset}, it began at {start}"))
        } else if offset < next {
            broken(Kind::Duplicate, format!("{offset}, it was at {next}"))
        } else if offset > head {
            broken(Kind::NotPublished, format!("{offset}, the head is {head}"))
        } else if offset > next {
            broken(Kind::Gap, format!("{offset} in the place of {next}"))
        } else {
            Ok(())
        }
    }

    fn held(&self, log: &Log, offset: Offset) -> Verdict {
        if offset < log.first() {
            let first = log.first();
            return broken(Kind::HeldTooLong, format!("{offset}, trimmed to {first}"));
        }
        Ok(())
    }

    fn take(&mut self, log: &Log, seen: &Seen) -> Verdict {
        let (seen, sent) = (&seen.0, log.at(seen.0.offset));
        if (&seen.message, &seen.publisher) != (&sent.message, &sent.publisher) {
            return broken(Kind::WrongPayload, format!("at {}", seen.offset));
        }
        if seen.time != sent.time || seen.time < self.time {
            let (time, right, before) = (seen.time, sent.time, self.time);
            return broken(Kind::WrongTime, format!("{time}, {right} after {before}"));
        }
        self.time = seen.time;
        self.next = seen.offset + 1;
        self.moved(log);
        Ok(())
    }

    fn lagged(&mut self, log: &Log, from: Offset, to: Offset) -> Verdict {
        let (next, first) = (self.next, log.first());
        let what = format!("{from}-{to}; it was at {next}, the log begins at {first}");
        if from < next || to >= first || next <= self.in_hand {
            return broken(Kind::LaggedTooMuch, what);
        }
        if from > next || to + 1 < first {
            return broken(Kind::LaggedTooLittle, what);
        }
        self.next = to + 1;
        self.moved(log);
        Ok(())
    }

    fn waits(&mut self, log: &Log, told: Told) -> Verdict {
        self.at_head(log)?;
        if log.closed {
            return broken(Kind::NotEnded, "it waits at the end of a closed log");
        }
        if told != Told::AsBefore {
            self.moved(log);
        }
        if let Told::Waker(waker) = told {
            self.waiting = Some(waker);
        }
        Ok(())
    }

    fn at_head(&self, log: &Log) -> Verdict {
        let (next, head) = (self.next, log.head());
        if next <= head {
            return broken(
                Kind::Missed,
                format!("it was at {next}, the head is {head}"),
            );
        }
        Ok(())
    }

    /// When no call is under way: told of what there is, or, as a listener, at the head. `awake`: its audience will be polled.
    pub(super) fn settled(&self, log: &Log, awake: bool) -> Verdict {
        if self.owed && !awake {
            let next = self.next;
            return broken(Kind::LostWakeup, format!("it waits for {next}"));
        }
        match self.via {
            Via::Listener => self.at_head(log),
            Via::Stream | Via::Batch | Via::Audience(_) => Ok(()),
        }
    }
}
