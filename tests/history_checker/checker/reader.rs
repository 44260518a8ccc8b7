//! What one reader saw, in its order.

use std::collections::BTreeSet;

use tidings::wire::{Epoch, Offset, Position};

use super::{
    super::record::{Event, ReaderId},
    Checker, Kind,
};

#[derive(Debug, Default)]
pub(super) struct Reader {
    /// The last position that it was given or told of.
    at: Option<Position>,
    /// Just resumed, and told that nothing is missing.
    recovered: bool,
    /// What surely stood in its log when it was cut off.
    cut: Option<(Epoch, Offset)>,
    /// Passed over, and yet to come: reported already.
    late: BTreeSet<Offset>,
    /// Told as missed.
    missed: Vec<(Epoch, Offset, Offset)>,
}

impl Reader {
    pub(super) fn saw(
        &mut self,
        checker: &mut Checker,
        at: usize,
        event: &Event,
        history: &[Event],
    ) {
        match event {
            Event::Subscribed { position, .. } => self.at = Some(*position),
            Event::Cut { .. } => {
                let here = self.at.map(|here| here.epoch);
                self.cut = here.map(|epoch| (epoch, checker.reached(epoch)));
                self.recovered = false;
            }
            Event::Resumed {
                before,
                after,
                recovered,
                ..
            } => self.resumed(checker, at, *before, *after, *recovered),
            Event::Delivered {
                reader,
                position,
                text,
            } => {
                checker.delivered(at, *position, text);
                self.delivered(checker, at, *reader, *position, history);
            }
            Event::Lagged { from, to, .. } => {
                self.told(checker, at, *from, *to, Kind::FalselyLagged);
            }
            Event::Skipped { from, to, .. } => {
                if !checker.promise.skips {
                    let what = format!("{from} to {to} in a channel that leaves nothing out");
                    checker.broken(at, Kind::FalselySkipped, what);
                }
                self.told(checker, at, *from, *to, Kind::FalselySkipped);
            }
            Event::Finished { .. } => self.finished(checker, at),
            _ => {}
        }
    }

    fn resumed(
        &mut self,
        checker: &mut Checker,
        at: usize,
        before: Position,
        after: Position,
        recovered: bool,
    ) {
        let what = format!("{before} to {after}, recovered: {recovered}");
        if self.at != Some(before) {
            checker.broken(
                at,
                Kind::WrongSeam,
                format!("{what}; it was at {:?}", self.at),
            );
        }
        let kept = checker.promise.kept;
        let same = before.epoch == after.epoch;
        if recovered {
            let cut = self.cut.filter(|(epoch, _)| *epoch == before.epoch);
            let fell = cut.is_some_and(|(_, head)| head.saturating_sub(before.offset) > kept);
            if before != after || fell {
                checker.broken(at, Kind::FalselyRecovered, what);
            }
        } else if same && after.offset < before.offset {
            checker.broken(at, Kind::WrongSeam, what);
        } else if same && checker.bound(before.epoch).saturating_sub(before.offset) <= kept {
            checker.broken(at, Kind::FalselyDenied, what);
        } else if checker.epochs.is_before(after.epoch, before.epoch) {
            checker.broken(at, Kind::StaleEpoch, what);
        }
        self.at = Some(after);
        self.recovered = recovered;
        self.cut = None;
        self.late.clear();
    }

    fn delivered(
        &mut self,
        checker: &mut Checker,
        index: usize,
        id: ReaderId,
        position: Position,
        history: &[Event],
    ) {
        let Some(at) = self.at else {
            self.at = Some(position);
            return checker.broken(index, Kind::WrongSeam, "delivered and not subscribed");
        };
        let what = format!("{position}, it was at {at}");
        if position.epoch != at.epoch {
            self.at = Some(position);
            self.late.clear();
            let kind = match checker.epochs.is_before(position.epoch, at.epoch) {
                true => Kind::StaleEpoch,
                false => Kind::Gap,
            };
            return checker.broken(index, kind, what);
        }
        let (offset, due) = (position.offset, at.offset + 1);
        if offset < due {
            if self.late.remove(&offset) {
                return;
            }
            let told = self.missed.iter().any(|(epoch, from, to)| {
                *epoch == position.epoch && (*from..=*to).contains(&offset)
            });
            let kind = if told {
                Kind::FalselyLagged
            } else {
                Kind::Duplicate
            };
            return checker.broken(index, kind, what);
        }
        if offset > due {
            let late = arrives_later(id, at.epoch, due, &history[index..]);
            let kind = match (late, self.recovered) {
                (true, _) => Kind::Disorder,
                (false, true) => Kind::FalselyRecovered,
                (false, false) => Kind::Gap,
            };
            if late {
                self.late.extend(due..offset);
            }
            checker.broken(index, kind, what);
        }
        self.at = Some(position);
        self.recovered = false;
    }

    /// It was told that these will not come.
    fn told(&mut self, checker: &mut Checker, index: usize, from: Offset, to: Offset, kind: Kind) {
        let Some(at) = &mut self.at else {
            return checker.broken(index, Kind::WrongSeam, "told and not subscribed");
        };
        let what = format!("{from} to {to}, it was at {at}");
        let bound = checker.bound(at.epoch);
        let kept = checker.promise.kept;
        if from > at.offset + 1 {
            checker.broken(index, Kind::Gap, what);
        } else if from <= at.offset || to < from || to > bound {
            checker.broken(index, kind, what);
        } else if kind == Kind::FalselyLagged && to.saturating_add(kept) > bound {
            checker.broken(index, kind, format!("{what}; the head is {bound} at most"));
        }
        self.missed.push((at.epoch, from, to));
        at.offset = to.max(at.offset);
        self.recovered = false;
    }

    fn finished(&self, checker: &mut Checker, index: usize) {
        let Some(at) = self.at else {
            return checker.broken(index, Kind::Lost, "finished and never subscribed");
        };
        let head = checker.reached(at.epoch);
        if head > at.offset {
            let what = format!("{} to {head} of {}", at.offset + 1, at.epoch);
            checker.broken(index, Kind::Lost, what);
        }
        if let Some(newest) = checker.epochs.newest()
            && checker.epochs.is_before(at.epoch, newest)
        {
            checker.broken(
                index,
                Kind::Lost,
                format!("{newest}, it is in {}", at.epoch),
            );
        }
    }
}

/// Whether this reader gets an offset after it should have, without being told of a break before.
fn arrives_later(id: ReaderId, epoch: Epoch, due: Offset, rest: &[Event]) -> bool {
    rest.iter()
        .take_while(|event| !matches!(event, Event::Resumed { reader, .. } if *reader == id))
        .any(|event| {
            matches!(event, Event::Delivered { reader, position, .. }
                if *reader == id && position.epoch == epoch && position.offset == due)
        })
}
