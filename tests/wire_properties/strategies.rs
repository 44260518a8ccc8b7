//! Frames of every type, and ways to spoil them.

use proptest::{
    collection::vec,
    option,
    prelude::*,
    sample::{Index, select},
    strategy::Union,
};
use tidings::wire::{
    Code, Epoch, HistoryQuery, Kept, Member, Message, Position, Presence, Publication, Start,
    frame::{
        AutoSubscription, Delivery, End, Failed, Frame, GoAway, Header, Hello, HistoryPage, Lagged,
        Lane, Level, Limits, Own, Ping, Pong, PresencePage, Publish, PublishOnce, PublishWith,
        Published, PublishedOnce, ReadHistory, ReadPresence, Refresh, Refreshed,
        RefusedSubscription, Skipped, Source, Subscribe, SubscribeFrom, Subscribed, Turn,
        Unsubscribe, Unsubscribed, Welcome,
    },
};

macro_rules! any {
    ($name:ident { $($field:ident: $strategy:expr),* $(,)? }) => {
        ($($strategy,)*).prop_map(|($($field,)*)| $name { $($field),* })
    };
}

/// Any frame, of every type.
pub(crate) fn frame() -> impl Strategy<Value = Frame> {
    let id = number;
    let limits = any!(Limits {
        message: number(),
        frame: number(),
        subscriptions: number()
    });
    let auto = any!(AutoSubscription {
        subscription: id(),
        channel: text(),
        position: positions()
    });
    let refused = any!(RefusedSubscription {
        channel: text(),
        code: code(),
        reason: text()
    });
    let query = any!(HistoryQuery {
        from: option::of(positions()),
        limit: number(),
        reverse: any::<bool>()
    });
    let source = any::<u8>().prop_map(Source);
    let epoch = number().prop_map(Epoch);
    let kept = any!(Kept {
        epoch: number().prop_map(Epoch),
        first: number(),
        last: number()
    });
    let delivery = any::<u8>().prop_map(Delivery);
    let level = any::<u8>().prop_map(Level);
    macro_rules! frames {
        ($($name:ident $fields:tt)*) => {
            Union::new([$(any!($name $fields).prop_map(Frame::from).boxed()),*])
        };
    }
    frames! {
        Hello { version: any::<u16>(), token: option::of(text()), client: text(), features: vec(text(), 0..4) }
        Welcome {
            session: id(),
            user: option::of(text()),
            server: text(),
            features: vec(text(), 0..4),
            limits: limits,
            subscriptions: vec(auto, 0..4),
            expires: option::of(number()),
            idle_timeout: number(),
            refused: vec(refused, 0..4),
        }
        GoAway { code: code(), grace: number() }
        Subscribe { request: id(), channel: text() }
        SubscribeFrom { request: id(), channel: text(), start: start() }
        ReadHistory { request: id(), channel: text(), query: query }
        HistoryPage { request: id(), kept: option::of(kept), complete: any::<bool>(), count: number() }
        Unsubscribe { request: id(), subscription: id() }
        Publish { request: id(), channel: text(), message: message() }
        Ping { request: id() }
        PublishOnce { request: id(), channel: text(), key: text(), message: message() }
        PublishWith { request: id(), channel: text(), key: option::of(text()), conflation_key: option::of(text()), echo: any::<bool>(), message: message() }
        Refresh { request: id(), token: text() }
        Refreshed { request: id(), expires: option::of(number()) }
        ReadPresence { request: id(), channel: text(), limit: number() }
        PresencePage {
            request: id(),
            position: option::of(positions()),
            connections: number(),
            users: number(),
            members: vec(member(), 0..4),
            complete: any::<bool>(),
        }
        Failed { request: id(), code: code(), reason: text() }
        Subscribed { request: id(), subscription: id(), position: positions() }
        Unsubscribed { request: id() }
        Published { request: id(), position: positions(), level: level }
        Pong { request: id(), time: number() }
        PublishedOnce { request: id(), position: positions(), level: any::<u8>().prop_map(Level), duplicate: any::<bool>() }
        Header {
            subscription: id(),
            source: source,
            name: text(),
            epoch: epoch,
            first: number(),
            recovered: any::<bool>(),
            delivery: delivery,
        }
        Publication { offset: number(), time: number(), publisher: option::of(text()), message: message() }
        Lagged { from: number(), to: number() }
        Skipped { from: number(), to: number() }
        Own { from: number(), to: number() }
        Lane { lane: number() }
        Turn { subscription: id() }
        End { code: code(), reason: text() }
    }
}

/// A way to spoil a stream.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    Flip(Index, u8),
    Insert(Index, Vec<u8>),
    Delete(Index, Index),
    Truncate(Index),
}

impl Change {
    pub(crate) fn apply(self, stream: &mut Vec<u8>) {
        if stream.is_empty() {
            return;
        }
        let length = stream.len();
        match self {
            Self::Flip(at, bits) => stream[at.index(length)] ^= bits,
            Self::Insert(at, bytes) => {
                let at = at.index(length + 1);
                stream.splice(at..at, bytes);
            }
            Self::Delete(from, to) => {
                let (from, to) = (from.index(length), to.index(length));
                stream.drain(from.min(to)..from.max(to));
            }
            Self::Truncate(at) => stream.truncate(at.index(length)),
        }
    }
}

pub(crate) fn change() -> impl Strategy<Value = Change> {
    let inserted = prop_oneof![
        vec(any::<u8>(), 1..4),
        // Markers with plausible and implausible lengths.
        (select(&[251_u8, 252, 253, 254][..]), vec(any::<u8>(), 0..9))
            .prop_map(|(marker, tail)| [&[marker], &tail[..]].concat()),
    ];
    prop_oneof![
        4 => (any::<Index>(), 1..=255_u8).prop_map(|(at, bits)| Change::Flip(at, bits)),
        2 => (any::<Index>(), inserted).prop_map(|(at, bytes)| Change::Insert(at, bytes)),
        1 => (any::<Index>(), any::<Index>()).prop_map(|(from, to)| Change::Delete(from, to)),
        1 => any::<Index>().prop_map(Change::Truncate),
    ]
}

/// Bytes that look like a body for a while: tags, lengths, runs, and lengths of what is not there.
pub(crate) fn pieces() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => (0..4_u8).prop_map(|byte| vec![byte]),
        2 => number().prop_map(|value| [&[253][..], &value.to_le_bytes()].concat()),
        2 => any::<u16>().prop_map(|value| [&[251][..], &value.to_le_bytes()].concat()),
        1 => (0..3_000_usize).prop_map(|length| vec![0; length]),
        1 => vec(any::<u8>(), 0..300).prop_map(|text| [&[text.len() as u8], &text[..]].concat()),
    ];
    vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

pub(crate) fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        select(
            &[
                0,
                250,
                251,
                0xffff,
                0x1_0000,
                u32::MAX as u64,
                1 << 32,
                u64::MAX
            ][..]
        ),
        0..1_000_u64,
        any::<u64>(),
    ]
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        any::<String>(),
        "[a-z]{245,255}",
        "\\PC{0,200}"
    ]
}

fn code() -> impl Strategy<Value = Code> {
    any::<u32>().prop_map(Code)
}

pub(crate) const fn position(epoch: u64, offset: u64) -> Position {
    Position {
        epoch: Epoch(epoch),
        offset,
    }
}

fn positions() -> impl Strategy<Value = Position> {
    (number(), number()).prop_map(|(epoch, offset)| position(epoch, offset))
}

fn start() -> impl Strategy<Value = Start> {
    prop_oneof![
        Just(Start::Head),
        positions().prop_map(Start::After),
        number().prop_map(Start::Latest),
        positions().prop_map(Start::AfterOrOldest),
    ]
}

fn member() -> impl Strategy<Value = Member> {
    any!(Member {
        id: number(),
        user: option::of(text())
    })
}

fn presence() -> impl Strategy<Value = Presence> {
    any!(Presence {
        joined: vec(member(), 0..4),
        left: vec(member(), 0..4),
        connections: number(),
        users: number(),
        complete: any::<bool>(),
    })
}

fn message() -> impl Strategy<Value = Message> {
    prop_oneof![
        (text(), number()).prop_map(|(text, time)| Message::notification(text, time)),
        (text(), number()).prop_map(|(text, time)| Message::announcement(text, time)),
        (text(), vec(any::<u8>(), 0..2_000)).prop_map(|(kind, bytes)| Message::data(kind, bytes)),
        presence().prop_map(Message::Presence),
    ]
}
