//! Subscriptions whose publications travel as datagrams (PROTOCOL §5.6): the newest wins, and keyframes on the stream repeat it.
//!
//! Nothing waits here but one publication: the newest that the stream has not had. What finds no room on the network is read again, as
//! the newest of then.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::inner::Inner;
use crate::{
    auth::{Delivery, Keyframes, OnLag},
    broker::{Batch, Leave, Reader},
    transport::Streams,
    wire::{ChannelName, Start, datagram::Head},
};

/// Longest time between keyframes: every moment so far away can be named.
const LONGEST: Duration = Duration::from_secs(86_400);

/// What one subscription has sent by datagram and owes its stream.
pub(super) struct Datagrams {
    head: Head,
    keyframes: Keyframes,
    /// The newest publication, where the stream has not had it.
    newest: Option<Bytes>,
    /// Publications since the stream had one.
    since: u32,
    /// When the stream is to have the newest.
    next: Instant,
    /// The stream is to have the newest as soon as it takes it.
    owed: bool,
    /// There was no room: something newer may stand behind what is to be read.
    behind: bool,
    /// Nothing will follow.
    ended: bool,
}

/// What became of the next publication.
pub(super) enum Turn {
    /// It was sent, or is kept for the stream.
    Sent,
    /// It is for the stream, which is idle.
    Stream(Bytes),
    /// The network takes none now.
    Late,
    /// There is none.
    AtHead,
}

impl Datagrams {
    /// Of the subscription with this id. Where it `begins` with what was published before, its stream has that.
    pub(super) fn new(subscription: u64, mut keyframes: Keyframes, begins: bool) -> Box<Self> {
        keyframes.interval = keyframes.interval.min(LONGEST);
        Box::new(Self {
            head: Head::new(subscription),
            keyframes,
            newest: None,
            since: 0,
            // Subscriptions that begin together do not have all their keyframes at once.
            next: Instant::now() + keyframes.interval * (8 + subscription as u32 % 8) / 16,
            owed: begins,
            behind: true,
            ended: false,
        })
    }

    /// Sends the next publication, or the newest where there was no room. `scratch` is left as it was.
    pub(super) fn turn(
        &mut self,
        reader: &mut Reader,
        streams: &mut Streams<'_>,
        priority: i32,
        idle: bool,
        scratch: &mut Vec<Bytes>,
    ) -> Turn {
        let some = reader.reached().1 > 0;
        if some && !streams.has_room(priority) {
            self.behind = true;
            return Turn::Late;
        }
        let leave = match self.behind {
            true => Leave::AllButNewest,
            false => Leave::Nothing,
        };
        let frame = loop {
            match reader.try_one(leave, scratch) {
                Some(Batch::Frames) => break scratch.pop(),
                // The offset of what follows tells it.
                Some(Batch::Lagged { .. } | Batch::Skipped { .. } | Batch::Own { .. }) => {}
                Some(Batch::Ended) => {
                    self.ended = true;
                    break None;
                }
                None => break None,
            }
        };
        let behind = std::mem::take(&mut self.behind);
        let Some(frame) = frame else {
            return Turn::AtHead;
        };
        // Nobody has lost it yet who has only just come, and a network that takes little is not told the same twice.
        if idle && (self.owed || behind && self.is_due()) {
            streams.spend(frame.len());
            self.kept();
            return Turn::Stream(frame);
        }
        if streams.send_datagram(priority, self.head.as_bytes(), &frame) {
            self.since = self.since.saturating_add(1);
        } else if idle {
            self.kept();
            return Turn::Stream(frame);
        } else {
            self.owed = true;
        }
        self.newest = Some(frame);
        Turn::Sent
    }

    /// What an idle stream is to have now; at the `end`, whatever it has not had.
    pub(super) fn keyframe(&mut self, end: bool) -> Option<Bytes> {
        // Where there was no room, a newer one will take its place.
        if self.newest.is_none() || !(end || self.is_due() && !self.behind) {
            return None;
        }
        let newest = self.newest.take();
        self.kept();
        newest
    }

    /// Takes the place of a keyframe that the stream did not take in time; `false` where that is the newest there is.
    pub(super) const fn replaces(&mut self) -> bool {
        self.owed |= self.newest.is_some();
        self.newest.is_some()
    }

    /// When [`keyframe`](Self::keyframe) will have one.
    pub(super) fn due_at(&self) -> Option<Instant> {
        let waits = self.newest.is_some() && !self.behind;
        waits.then_some(self.next)
    }

    /// Nothing will follow in the channel.
    pub(super) const fn is_ended(&self) -> bool {
        self.ended
    }

    fn is_due(&self) -> bool {
        let enough = |messages: std::num::NonZeroU32| self.since >= messages.get();
        self.owed || self.keyframes.messages.is_some_and(enough) || Instant::now() >= self.next
    }

    /// The stream has the newest.
    fn kept(&mut self) {
        self.newest = None;
        (self.owed, self.since) = (false, 0);
        self.next = Instant::now() + self.keyframes.interval;
    }
}

/// What the rule of a channel says, as far as the client can have it.
pub(super) fn delivery(inner: &Inner, channel: &ChannelName) -> Delivery {
    let mut delivery = inner.context.rules.delivery(channel);
    if delivery.datagrams.is_some() && !inner.datagrams {
        delivery.datagrams = None;
        delivery.on_lag = OnLag::Latest;
    }
    delivery
}

/// Where a subscription to a channel of states begins that would begin at its head: with the state, if the session may know what is
/// kept.
pub(super) fn start(inner: &Inner, channel: &ChannelName, start: Start) -> Start {
    let rule = inner.context.rules.matching(channel);
    let Some(rule) = rule.filter(|rule| rule.delivery.datagrams.is_some()) else {
        return start;
    };
    let may_know = || {
        inner
            .context
            .rules
            .may_read_history(&inner.grant(), channel)
    };
    if start == Start::Head && (rule.history.is_none() || may_know()) {
        return Start::Latest(1);
    }
    start
}
