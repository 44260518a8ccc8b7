//! What is remembered of a log's publications beside their frames: who is not to be sent them, and which of them were superseded. Only
//! those stand here of which there is something to say.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use crate::wire::Offset;

/// What is said of a publication when it is published.
#[derive(Debug, Clone, Default)]
pub(super) struct Mark {
    /// The session that is not sent it.
    pub(super) exclude: Option<u64>,
    /// Which state it is: the next with the same supersedes it.
    pub(super) conflation_key: Option<Arc<str>>,
}

impl Mark {
    pub(super) const fn is_empty(&self) -> bool {
        self.exclude.is_none() && self.conflation_key.is_none()
    }

    /// Bytes that it takes beside the frame.
    pub(super) fn bytes(&self) -> usize {
        self.conflation_key.as_ref().map_or(0, |key| key.len())
    }
}

/// The marks of a log, in its order. As many as the log has publications, at most.
#[derive(Debug, Default)]
pub(super) struct Marks {
    marked: VecDeque<Marked>,
    /// The newest publication of each state.
    newest: HashMap<Arc<str>, Offset>,
}

#[derive(Debug)]
struct Marked {
    offset: Offset,
    mark: Mark,
    superseded: bool,
}

/// For whom marks are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct View {
    /// The session that reads, if one does.
    pub(super) session: Option<u64>,
    /// Superseded publications are not wanted.
    pub(super) conflated: bool,
}

/// What a reader does not get, from the offset on that it reads next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    /// What was superseded, up to this offset.
    Superseded(Offset),
    /// What it published itself, up to this offset.
    Own(Offset),
    /// Nothing before this offset; what is there is looked at then.
    Until(Offset),
}

impl Marks {
    /// The next publication.
    pub(super) fn push(&mut self, offset: Offset, mark: Mark) {
        if mark.is_empty() {
            return;
        }
        if let Some(key) = &mark.conflation_key
            && let Some(before) = self.newest.insert(Arc::clone(key), offset)
        {
            let index = self.index(before);
            if let Some(marked) = self.marked.get_mut(index) {
                marked.superseded = true;
            }
        }
        self.marked.push_back(Marked {
            offset,
            mark,
            superseded: false,
        });
    }

    /// Forgets what stands before this offset; the bytes of that.
    pub(super) fn trim(&mut self, first: Offset) -> usize {
        let mut bytes = 0;
        while self
            .marked
            .front()
            .is_some_and(|oldest| oldest.offset < first)
        {
            let Some(oldest) = self.marked.pop_front() else {
                break;
            };
            bytes += oldest.mark.bytes();
            if let Some(key) = oldest.mark.conflation_key
                && !oldest.superseded
            {
                self.newest.remove(&key);
            }
        }
        bytes
    }

    pub(super) fn len(&self) -> usize {
        self.marked.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.marked.is_empty()
    }

    /// What a reader is not given of the `most` publications that begin at `next`: no more than those are looked at.
    pub(super) fn left(&self, next: Offset, most: usize, view: View) -> Left {
        let end = next.saturating_add(most as Offset);
        let superseded = |marked: &Marked| view.conflated && marked.superseded;
        let own =
            |marked: &Marked| marked.mark.exclude.is_some() && marked.mark.exclude == view.session;
        let marked = self.marked.range(self.index(next)..self.index(end));
        let mut marked = marked.skip_while(|marked| !superseded(marked) && !own(marked));
        let Some(first) = marked.next() else {
            return Left::Until(end);
        };
        if first.offset > next {
            return Left::Until(first.offset);
        }
        // As far as it goes on without a break and for the same reason.
        let reason = superseded(first);
        let mut last = first.offset;
        for marked in marked {
            let same = superseded(marked) == reason && (reason || own(marked));
            if marked.offset != last + 1 || !same {
                break;
            }
            last = marked.offset;
        }
        match reason {
            true => Left::Superseded(last),
            false => Left::Own(last),
        }
    }

    fn index(&self, offset: Offset) -> usize {
        self.marked.partition_point(|marked| marked.offset < offset)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What one look after the other gives and leaves out of a log of `kept` publications.
    fn walk(
        marks: &Marks,
        (first, head): (Offset, Offset),
        most: usize,
        view: View,
    ) -> Vec<(Offset, &'static str)> {
        let mut found = Vec::new();
        let mut next = first;
        while next <= head {
            let (what, to) = match marks.left(next, most, view) {
                Left::Superseded(to) => ("superseded", to),
                Left::Own(to) => ("own", to),
                Left::Until(until) => ("given", (until - 1).min(head)),
            };
            assert!((next..=head).contains(&to), "{next} {to} {head}");
            assert!(to < next + most as Offset, "{next} {to} {most}");
            found.extend((next..=to).map(|offset| (offset, what)));
            next = to + 1;
        }
        found
    }

    proptest! {
        #[test]
        fn what_is_left_out_is_what_was_marked(
            published in prop::collection::vec((0..4_u64, 0..4_u8), 1..60),
            first in 1..60_u64,
            session in 0..4_u64,
            conflated: bool,
            most in 1..70_usize,
        ) {
            let mut marks = Marks::default();
            let head = published.len() as Offset;
            let first = first.min(head);
            for (offset, (exclude, key)) in (1..).zip(&published) {
                marks.push(offset, Mark {
                    exclude: (*exclude > 0).then_some(*exclude),
                    conflation_key: (*key > 0).then(|| key.to_string().into()),
                });
            }
            marks.trim(first);
            let view = View { session: (session > 0).then_some(session), conflated };
            let expected: Vec<_> = (1..)
                .zip(&published)
                .filter(|(offset, _)| *offset >= first)
                .map(|(offset, (exclude, key))| {
                    let later = &published[offset as usize..];
                    let superseded = *key > 0 && later.iter().any(|(_, other)| other == key);
                    (offset, match () {
                        () if conflated && superseded => "superseded",
                        () if session > 0 && *exclude == session => "own",
                        () => "given",
                    })
                })
                .collect();
            prop_assert_eq!(walk(&marks, (first, head), most, view), expected);
            marks.trim(head + 1);
            prop_assert!(marks.is_empty() && marks.newest.is_empty());
        }
    }
}
