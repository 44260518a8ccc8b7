//! A subscription as user code holds it.

use std::{
    fmt,
    pin::Pin,
    sync::{Arc, PoisonError},
    task::{Context, Poll},
};

use futures_util::{Stream, StreamExt, stream};

use super::{
    Shared, VIOLATIONS,
    lane::Frames,
    mailbox::{Feed, Incoming},
    registry::{Claim, Registry},
};
use crate::{
    transport::peer_log::throttled,
    wire::{
        ChannelName, Code, Offset, Position, Publication, Retry, codec::RawFrame, frame::Frame,
    },
};

/// What a subscription gives.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The next publication.
    Publication(Publication),
    /// This reader was too slow: the server no longer has these offsets, both ends included.
    Lagged {
        /// First offset missed.
        from: Offset,
        /// Last offset missed.
        to: Offset,
    },
    /// The server left these offsets out, both ends included, as the channel's rule says: they were too old, or newer ones made them
    /// worthless. The newest state follows, where there is one. Of a channel whose publications travel as datagrams (PROTOCOL §5.6) this
    /// also stands for what the network lost: gaps are its nature, and [`Event::missed`] counts them.
    Skipped {
        /// First offset left out.
        from: Offset,
        /// Last offset left out.
        to: Offset,
    },
    /// The connection broke and was made again. What was published in between follows, where the server still has all of it: then both
    /// positions are the same, and [`Event::missed`] is 0. Otherwise it is missing.
    Break {
        /// The last position before the break: of the last publication, or where the subscription began.
        before: Position,
        /// Where the subscription goes on: the next publication has the next offset.
        after: Position,
    },
    /// The subscription is over; nothing follows.
    End {
        /// Why, for programs.
        code: Code,
        /// Why, for people.
        reason: String,
    },
}

impl Event {
    /// How many publications this event says are missing; `None` where that cannot be known, because the channel's log began
    /// anew.
    #[must_use]
    pub fn missed(&self) -> Option<u64> {
        match self {
            Self::Lagged { from, to } | Self::Skipped { from, to } => {
                Some(to.saturating_sub(*from).saturating_add(1))
            }
            Self::Break { before, after } if before.epoch == after.epoch => {
                Some(after.offset.saturating_sub(before.offset))
            }
            Self::Break { .. } => None,
            Self::Publication(_) | Self::End { .. } => Some(0),
        }
    }
}

/// A subscription of a [`Client`](super::Client): a [`Stream`] of [`Event`]s that ends after [`Event::End`].
///
/// It reads its QUIC stream itself: a subscription that is not polled makes the server stop writing this channel, after 256 KiB, and
/// holds up no other. Dropping it unsubscribes. [`next`](Self::next) is cancel safe.
pub struct Subscription {
    name: ChannelName,
    events: Pin<Box<dyn Stream<Item = Event> + Send>>,
    position: Arc<std::sync::Mutex<Option<Position>>>,
    given: Arc<std::sync::Mutex<Option<Position>>>,
    /// Keeps the client's task while somebody reads.
    _client: Arc<Shared>,
}

/// What the stream of events carries along.
struct Reading {
    /// Given up at the end, so that the channel can be subscribed to again.
    claim: Option<Claim>,
    current: Option<Incoming>,
    /// Last position given.
    at: Option<Position>,
    start: Arc<std::sync::Mutex<Option<Position>>>,
    /// Position of the last event that was given.
    given: Arc<std::sync::Mutex<Option<Position>>>,
    /// What follows the gap that was told last.
    after_gap: Option<Publication>,
}

impl Subscription {
    pub(super) fn new(claim: Claim, client: Arc<Shared>) -> Self {
        let name = claim.name().clone();
        let (position, given) = (Arc::default(), Arc::default());
        let reading = Reading {
            claim: Some(claim),
            current: None,
            at: None,
            start: Arc::clone(&position),
            given: Arc::clone(&given),
            after_gap: None,
        };
        let events = stream::unfold(reading, |mut reading| async move {
            let event = reading.next().await?;
            reading.note(&event);
            Some((event, reading))
        });
        Self {
            name,
            events: Box::pin(events),
            position,
            given,
            _client: client,
        }
    }

    pub(super) fn start_at(&mut self, position: Position) {
        *self.position.lock().unwrap_or_else(PoisonError::into_inner) = Some(position);
    }

    /// The channel, or the name of the stream.
    #[must_use]
    pub const fn name(&self) -> &ChannelName {
        &self.name
    }

    /// Where the subscription began or, after a break, began anew: the first publication has the next offset. `None` for a
    /// stream of user code that has not arrived.
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        *self.position.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Position of the last event that was given: of the publication, of the last publication that a gap left out, or where the subscription
    /// goes on after a break. Before the first event it is [`position`](Self::position). A later subscription continues there, in another
    /// process, too: `Start::After(position)`.
    #[must_use]
    pub fn reached(&self) -> Option<Position> {
        let given = *self.given.lock().unwrap_or_else(PoisonError::into_inner);
        given.or_else(|| self.position())
    }

    /// The next event; `None` after [`Event::End`].
    pub async fn next(&mut self) -> Option<Event> {
        self.events.next().await
    }

    /// The next publication, whatever else happens; `None` at the end. For readers that do not care about gaps.
    pub async fn next_publication(&mut self) -> Option<Publication> {
        loop {
            if let Event::Publication(publication) = self.next().await? {
                return Some(publication);
            }
        }
    }
}

impl Stream for Subscription {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        self.events.as_mut().poll_next(cx)
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("name", &self.name)
            .field("position", &self.position())
            .finish_non_exhaustive()
    }
}

impl Reading {
    fn note(&self, event: &Event) {
        let offset = match event {
            Event::Publication(publication) => publication.offset,
            Event::Lagged { to, .. } | Event::Skipped { to, .. } => *to,
            Event::Break { after, .. } => after.offset,
            Event::End { .. } => return,
        };
        if let Some(Position { epoch, .. }) = self.at {
            let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
            *given = Some(Position { epoch, offset });
        }
    }

    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(publication) = self.after_gap.take() {
                return Some(Event::Publication(publication));
            }
            let event = match &mut self.current {
                None => {
                    let feed = self.claim.as_ref()?.mailbox.take().await;
                    self.take_up(feed)
                }
                Some(current) => {
                    // What came over the connection before is read before what tells of its successor.
                    match current.next(&self.claim.as_ref()?.registry).await {
                        Some(frame) => self.frame(frame),
                        None => {
                            self.cut_off();
                            None
                        }
                    }
                }
            };
            if let Some(event) = event {
                if matches!(event, Event::End { .. }) {
                    self.claim = None;
                }
                return Some(event);
            }
        }
    }

    /// The stream ended without a last word, or with one that says that another will follow.
    fn cut_off(&mut self) {
        if let (Some(claim), Some(current)) = (&self.claim, self.current.take()) {
            let (id, connection) = (current.header.subscription, current.connection);
            if current.reader.overflowed() {
                claim.overflowed(id, connection);
            } else {
                claim.cut_off(id, connection);
            }
        }
    }

    fn take_up(&mut self, feed: Feed) -> Option<Event> {
        let incoming = match feed {
            Feed::Stream(incoming) => incoming,
            Feed::End(code, reason) => return Some(Event::End { code, reason }),
        };
        let after = incoming.position();
        self.current = Some(incoming);
        let start = *self.start.lock().unwrap_or_else(PoisonError::into_inner);
        // Of a subscription that stands but whose first stream never came, the beginning is known.
        let Some(before) = self.at.or(start) else {
            self.begin(after);
            return None;
        };
        if before.epoch == after.epoch && after.offset <= before.offset {
            // It goes on where this reader is; what it repeats is left out.
            let first = self.at.replace(before).is_none();
            return (!first).then_some(Event::Break {
                before,
                after: before,
            });
        }
        self.begin(after);
        Some(Event::Break { before, after })
    }

    /// What is given next stands after this position.
    fn begin(&mut self, position: Position) {
        *self.start.lock().unwrap_or_else(PoisonError::into_inner) = Some(position);
        self.at = Some(position);
        self.reach(position);
    }

    /// The next connection takes it up from here.
    fn reach(&self, position: Position) {
        if let Some(claim) = &self.claim {
            claim.mailbox.reach(position);
        }
    }

    /// Moves on over the offsets from `from` to `to`; the first of them that was not given, where there is one.
    ///
    /// # Errors
    /// Something would be passed over in silence.
    fn advance(&mut self, from: Offset, to: Offset) -> Result<Option<Offset>, Gap> {
        let Some(at) = &mut self.at else {
            return Err(Gap);
        };
        if to <= at.offset {
            return Ok(None);
        }
        let next = at.offset + 1;
        if from > next {
            return Err(Gap);
        }
        at.offset = to;
        let at = *at;
        self.reach(at);
        Ok(Some(next))
    }

    /// The newest wins: what is older than what was given is left out, and what was passed over is told.
    fn newer(&mut self, publication: Publication) -> Option<Event> {
        let at = self.at.as_mut()?;
        if publication.offset <= at.offset {
            return None;
        }
        let (from, to) = (at.offset + 1, publication.offset - 1);
        at.offset = publication.offset;
        let at = *at;
        self.reach(at);
        if from > to {
            return Some(Event::Publication(publication));
        }
        self.after_gap = Some(publication);
        Some(Event::Skipped { from, to })
    }

    fn frame(&mut self, frame: Frame) -> Option<Event> {
        let by_datagram = |current: &Incoming| current.datagrams.is_some();
        let frame = match frame {
            Frame::Publication(publication) if self.current.as_ref().is_some_and(by_datagram) => {
                return self.newer(publication);
            }
            frame => frame,
        };
        let (from, to) = match &frame {
            Frame::Publication(publication) => (publication.offset, publication.offset),
            Frame::Lagged(lagged) => (lagged.from, lagged.to),
            Frame::Skipped(skipped) => (skipped.from, skipped.to),
            Frame::Own(own) => (own.from, own.to),
            _ => return self.other(frame),
        };
        let next = match self.advance(from, to) {
            Ok(next) => next?,
            Err(Gap) => {
                throttled!(VIOLATIONS, warn, from, to, at = ?self.at, "the server leaves something out");
                if let Some(current) = &mut self.current {
                    current.reader.stop(Code::PROTOCOL_VIOLATION);
                }
                self.cut_off();
                return None;
            }
        };
        match frame {
            Frame::Publication(publication) => Some(Event::Publication(publication)),
            Frame::Skipped(_) => Some(Event::Skipped { from: next, to }),
            // As it was wanted.
            Frame::Own(_) => None,
            _ => Some(Event::Lagged { from: next, to }),
        }
    }

    fn other(&mut self, frame: Frame) -> Option<Event> {
        match frame {
            Frame::End(end) if end.code.retry() == Retry::No => Some(Event::End {
                code: end.code,
                reason: end.reason,
            }),
            // The server goes away, or has no room now: the next connection has the next stream.
            Frame::End(_) => {
                self.cut_off();
                None
            }
            _ => None,
        }
    }
}

/// A stream that passes over something in silence.
struct Gap;

impl Incoming {
    /// The next known frame, or publication of a datagram; `None` where the stream was cut off. Cancel safe.
    async fn next(&mut self, registry: &Registry) -> Option<Frame> {
        match &mut self.datagrams {
            Some(datagrams) => datagrams.next(&mut self.reader, registry).await,
            None => read(&mut self.reader).await,
        }
    }
}

/// The next known frame; `None` where the stream was cut off: the connection is over or will be. Cancel safe.
pub(super) async fn read(stream: &mut Frames) -> Option<Frame> {
    loop {
        match stream.next().await {
            Ok(Some(raw)) => match decode(&raw) {
                Ok(Some(frame)) => return Some(frame),
                Ok(None) => {}
                Err(()) => {
                    stream.stop(Code::PROTOCOL_VIOLATION);
                    return None;
                }
            },
            Ok(None) | Err(_) => return None,
        }
    }
}

fn decode(raw: &RawFrame) -> Result<Option<Frame>, ()> {
    Frame::decode(raw).map_err(|error| {
        throttled!(VIOLATIONS, warn, %error, "a frame of the server does not decode");
    })
}
