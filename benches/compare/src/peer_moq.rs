//! The client side of moq-lite over raw QUIC, as much of it as a subscriber and a publisher need.
//!
//! Every request has a bidirectional stream of its own, and every group of frames a unidirectional one. A publisher announces a
//! broadcast, tells about its tracks when the relay asks, and sends the tracks that the relay subscribes to; a subscriber waits
//! for the announcement and subscribes. Here a channel is a track, and a publication is a frame of the track's only group. A
//! group is the unit that moq gives up when a connection is slow and sends newest first, so a group for each publication would
//! promise neither order nor delivery. Where moq's users need every record in order, as for a chat or a feed, they keep one
//! group open (the mode "stream" of the project's moq-json): it has the promises that the other peers of this benchmark make.
//! The relay keeps an open group from its beginning, up to 8,192 frames, which no run reaches.

mod carrier;
mod message;

use anyhow::{Context, Result, bail, ensure};
use quinn_proto::{Dir, StreamId};

pub use self::carrier::run;
use self::message::{Reader, number, sized, text};
use crate::{
    clock::{self, Nanos},
    stream_load::{Codec, Event},
};

/// The version that the project's own clients prefer.
pub const ALPN: &str = "moq-lite-06";

const BROADCAST: &str = "load";
/// Of the relay's streams to a client, for either direction: two for each track and a few more.
const STREAMS: u32 = 64;
const MILLISECOND: Nanos = 1_000_000;

/// First on a unidirectional stream.
mod push {
    pub(super) const GROUP: u64 = 0;
    pub(super) const SETUP: u64 = 1;
}

/// First on a bidirectional stream.
mod request {
    pub(super) const ANNOUNCE: u64 = 1;
    pub(super) const SUBSCRIBE: u64 = 2;
    pub(super) const GO_AWAY: u64 = 5;
    pub(super) const TRACK: u64 = 6;
}

/// What begins: an announcement, or a subscription's groups.
const START: u64 = 0;
/// What has ended.
const END: u64 = 1;

/// In Setup: what the client is going to do.
mod role {
    pub(super) const PARAMETER: u64 = 3;
    pub(super) const PUBLISHER: u64 = 1;
    pub(super) const SUBSCRIBER: u64 = 2;
}

/// What moq's own publisher says of a track, and the unit of time that is used here.
const PRIORITY: u8 = 127;
const KEEP_OLD_GROUPS_MS: u64 = 5000;
const UNITS_A_SECOND: u64 = 1000;

/// One connection's protocol.
#[derive(Debug)]
pub struct Moq {
    channels: usize,
    streams: Vec<Stream>,
    /// The stream that is read.
    inlet: usize,
    /// Subscriptions that the relay has not confirmed.
    unconfirmed: usize,
    /// Of a publisher: whether the relay knows its broadcast.
    announced: bool,
    /// Of a publisher: the open group of each channel that the relay subscribes to.
    groups: Vec<Option<Group>>,
}

/// A stream of either side.
#[derive(Debug)]
struct Stream {
    /// None until it is opened.
    id: Option<StreamId>,
    dir: Dir,
    /// What stands next on it.
    next: Next,
    outgoing: Vec<u8>,
    /// Whether it ends after `outgoing`.
    ends: bool,
}

/// What stands next on a stream that the relay writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// The relay has opened it: what it is.
    Push,
    Request,
    GroupHeader,
    Frame {
        channel: usize,
    },
    /// How many announcements there are.
    AnnounceOk,
    Announcement,
    /// What becomes of a subscription.
    Answer {
        confirmed: bool,
    },
    /// Nothing that matters.
    Anything,
}

/// An open group.
#[derive(Debug, Clone, Copy)]
struct Group {
    stream: usize,
    /// The time of its last frame.
    time: u64,
}

impl Codec for Moq {
    const PUBLISHER_FIRST: bool = true;

    fn new(_index: usize, channels: usize) -> Self {
        Self {
            channels,
            streams: Vec::new(),
            inlet: 0,
            unconfirmed: channels,
            announced: false,
            groups: Vec::new(),
        }
    }

    fn open(&mut self, _out: &mut Vec<u8>) {
        let role = match self.channels {
            0 => role::PUBLISHER,
            _ => role::SUBSCRIBER,
        };
        let setup = self.add(None, Dir::Uni, Next::Anything);
        setup.ends = true;
        number(push::SETUP, &mut setup.outgoing);
        sized(&mut setup.outgoing, |out| {
            number(1, out);
            number(role::PARAMETER, out);
            sized(out, |out| number(role, out));
        });
        if self.channels > 0 {
            let request = self.add(None, Dir::Bi, Next::AnnounceOk);
            number(request::ANNOUNCE, &mut request.outgoing);
            sized(&mut request.outgoing, |out| text("", out));
        }
    }

    fn enter(&mut self, inlet: usize) {
        self.inlet = inlet;
    }

    fn read(
        &mut self,
        bytes: &[u8],
        _out: &mut Vec<u8>,
        on: &mut impl FnMut(Event<'_>),
    ) -> Result<usize> {
        let mut used = 0;
        loop {
            let mut rest = Reader::new(&bytes[used..]);
            if !self.message(&mut rest, on)? {
                return Ok(used);
            }
            used = bytes.len() - rest.len();
        }
    }

    fn publish(&mut self, channel: usize, payload: &[u8], _out: &mut Vec<u8>) {
        // What nobody reads the relay does not ask for.
        let Some(Some(group)) = self.groups.get_mut(channel) else {
            return;
        };
        let time = clock::now() / MILLISECOND;
        let later = time - std::mem::replace(&mut group.time, time);
        let out = &mut self.streams[group.stream].outgoing;
        // The difference is signed, its sign in the lowest bit.
        number(later << 1, out);
        number(payload.len() as u64, out);
        out.extend_from_slice(payload);
    }
}

impl Moq {
    /// The number of a stream, which may be a new one of the relay's.
    fn inlet(&mut self, id: StreamId) -> usize {
        let known = self.streams.iter().position(|stream| stream.id == Some(id));
        known.unwrap_or_else(|| {
            let next = match id.dir() {
                Dir::Uni => Next::Push,
                Dir::Bi => Next::Request,
            };
            self.add(Some(id), id.dir(), next);
            self.streams.len() - 1
        })
    }

    /// The relay writes no more on a stream. It resets those of its requests when it has its answer.
    fn ended(&self, inlet: usize) -> Result<()> {
        match self.streams[inlet].next {
            Next::Anything => Ok(()),
            next => bail!("the relay ends a stream where it owes {next:?}"),
        }
    }

    fn add(&mut self, id: Option<StreamId>, dir: Dir, next: Next) -> &mut Stream {
        self.streams.push(Stream {
            id,
            dir,
            next,
            outgoing: Vec::new(),
            ends: false,
        });
        self.streams.last_mut().expect("it was just added")
    }

    /// Reads one message of the stream. False: it is not whole.
    fn message(&mut self, rest: &mut Reader<'_>, on: &mut impl FnMut(Event<'_>)) -> Result<bool> {
        let next = match self.streams[self.inlet].next {
            Next::Frame { channel } => {
                let Some(payload) = rest.frame() else {
                    return Ok(false);
                };
                on(Event::Message { channel, payload });
                return Ok(true);
            }
            Next::Anything => {
                let more = rest.len() > 0;
                rest.skip();
                return Ok(more);
            }
            Next::Push => match rest.number() {
                None => return Ok(false),
                Some(push::GROUP) => Next::GroupHeader,
                Some(push::SETUP) => Next::Anything,
                Some(kind) => bail!("the relay opens a stream of the unknown kind {kind}"),
            },
            Next::GroupHeader => {
                let Some(mut header) = rest.message() else {
                    return Ok(false);
                };
                let channel = header.whole_number()? as usize;
                ensure!(
                    channel < self.channels,
                    "a group of subscription {channel}, which there is not"
                );
                Next::Frame { channel }
            }
            Next::AnnounceOk => match rest.message() {
                None => return Ok(false),
                Some(_) => Next::Announcement,
            },
            Next::Request => {
                let Some((kind, body)) = rest.typed() else {
                    return Ok(false);
                };
                self.answer(kind, body, on)?;
                Next::Anything
            }
            Next::Announcement => {
                let Some((kind, mut body)) = rest.typed() else {
                    return Ok(false);
                };
                if kind == START && body.text()? == BROADCAST {
                    self.subscribe();
                }
                Next::Announcement
            }
            Next::Answer { confirmed } => match rest.typed() {
                None => return Ok(false),
                Some((START, _)) => {
                    self.unconfirmed -= usize::from(!confirmed);
                    if self.unconfirmed == 0 && !confirmed {
                        on(Event::Ready);
                    }
                    Next::Answer { confirmed: true }
                }
                Some((END, _)) => bail!("the relay says that the track is over"),
                // What it drops is missed, and counted.
                Some(_) => Next::Answer { confirmed },
            },
        };
        self.streams[self.inlet].next = next;
        Ok(true)
    }

    /// Answers a request of the relay.
    fn answer(
        &mut self,
        kind: u64,
        mut body: Reader<'_>,
        on: &mut impl FnMut(Event<'_>),
    ) -> Result<()> {
        let is_publisher = self.channels == 0;
        let answer = &mut self.streams[self.inlet];
        let out = &mut answer.outgoing;
        match kind {
            request::ANNOUNCE => {
                ensure!(
                    body.text()?.is_empty(),
                    "the relay asks for a part of the broadcasts"
                );
                sized(out, |out| {
                    // A client that passes nothing on needs no identity.
                    number(0, out);
                    number(u64::from(is_publisher), out);
                });
                if is_publisher {
                    number(START, out);
                    sized(out, |out| {
                        text(BROADCAST, out);
                        // No relays on the way, and no costs.
                        out.extend_from_slice(&[0, 0, 0]);
                    });
                    if !std::mem::replace(&mut self.announced, true) {
                        on(Event::Ready);
                    }
                }
            }
            request::TRACK => {
                sized(out, |out| {
                    out.push(PRIORITY);
                    number(KEEP_OLD_GROUPS_MS, out);
                    number(UNITS_A_SECOND, out);
                });
                answer.ends = true;
            }
            request::SUBSCRIBE => {
                let id = body.whole_number()?;
                ensure!(
                    body.text()? == BROADCAST,
                    "the relay subscribes to another broadcast"
                );
                let channel = channel(body.text()?)?;
                number(START, out);
                sized(out, |out| number(0, out));
                self.begin_group(id, channel);
            }
            request::GO_AWAY => bail!("the relay goes away"),
            kind => bail!("the relay makes a request of the unknown kind {kind}"),
        }
        Ok(())
    }

    /// Opens the group of a channel, so that the relay has something to confirm subscriptions with.
    fn begin_group(&mut self, subscription: u64, channel: usize) {
        let group = self.add(None, Dir::Uni, Next::Anything);
        number(push::GROUP, &mut group.outgoing);
        sized(&mut group.outgoing, |out| {
            number(subscription, out);
            // The first group, from its first frame.
            out.extend_from_slice(&[0, 0]);
        });
        if self.groups.len() <= channel {
            self.groups.resize(channel + 1, None);
        }
        let stream = self.streams.len() - 1;
        self.groups[channel] = Some(Group { stream, time: 0 });
    }

    /// Subscribes to every channel by its number.
    fn subscribe(&mut self) {
        for channel in 0..self.channels {
            let request = self.add(None, Dir::Bi, Next::Answer { confirmed: false });
            number(request::SUBSCRIBE, &mut request.outgoing);
            sized(&mut request.outgoing, |out| {
                number(channel as u64, out);
                text(BROADCAST, out);
                text(&format!("c{channel}"), out);
                out.push(PRIORITY);
                // No old groups; from the first group on without end, and the same of its frames.
                out.extend_from_slice(&[0; 5]);
            });
        }
    }
}

/// The number of a track's channel.
fn channel(track: &str) -> Result<usize> {
    let number = track
        .strip_prefix('c')
        .and_then(|digits| digits.parse().ok());
    number.with_context(|| format!("the relay asks for {track:?}, which is none of the channels"))
}

#[cfg(test)]
mod tests;
