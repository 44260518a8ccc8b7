//! The golden vectors of `tests/vectors/frames.json`, both ways and byte for byte.

use std::{collections::BTreeSet, fmt::Write};

use bytes::Bytes;
use serde_json::{Map, Value, json};
use tidings::wire::{
    Announcement, Code, Data, DecodeError, Decoder, Epoch, HistoryQuery, Kept, Member, Message,
    Notification, Position, Presence, Publication, Start,
    codec::RawFrame,
    datagram,
    frame::{
        AutoSubscription, Delivery, End, Failed, Frame, GoAway, Header, Hello, HistoryPage, Lagged,
        Lane, Level, Limits, Own, Ping, Pong, PresencePage, Publish, PublishOnce, PublishWith,
        Published, PublishedOnce, ReadHistory, ReadPresence, Refresh, Refreshed,
        RefusedSubscription, Skipped, Source, Subscribe, SubscribeFrom, Subscribed, Turn,
        Unsubscribe, Unsubscribed, Welcome,
    },
};

/// Larger than any vector.
const LIMIT: usize = 1 << 20;

#[test]
fn every_frame_decodes_to_its_value_and_encodes_to_its_bytes() {
    for entry in section("frames") {
        let (value, bytes) = (&entry["value"], octets(&entry));
        let raws = cut(&bytes, LIMIT).unwrap_or_else(|error| panic!("{entry}: {error}"));
        let [raw] = &raws[..] else {
            panic!("one frame: {entry}")
        };
        assert_eq!(
            format!("{:#04x}", raw.kind),
            text(&entry, "number"),
            "{entry}"
        );
        let frame = Frame::decode(raw)
            .unwrap_or_else(|error| panic!("{entry}: {error}"))
            .unwrap_or_else(|| panic!("unknown: {entry}"));
        assert_eq!(frame.name(), text(&entry, "type"), "{entry}");
        assert_eq!(&to_json(&frame), value);
        let written = from_json(text(&entry, "type"), value);
        assert_eq!(written, frame, "{entry}");
        assert_eq!(hex(&written.encode()), text(&entry, "hex"), "{entry}");
    }
}

#[test]
fn every_type_has_a_vector_under_its_number() {
    let wanted: BTreeSet<_> = Frame::TYPES
        .iter()
        .map(|(name, number)| ((*name).to_owned(), format!("{number:#04x}")))
        .collect();
    let found: BTreeSet<_> = section("frames")
        .iter()
        .map(|entry| {
            (
                text(entry, "type").to_owned(),
                text(entry, "number").to_owned(),
            )
        })
        .collect();
    assert_eq!(found, wanted);
}

#[test]
fn the_limit_counts_type_and_body() {
    for entry in section("frames") {
        let bytes = octets(&entry);
        // The body is what stays when length and type, one byte here, are taken off.
        let length = cut(&bytes, LIMIT).unwrap()[0].body.len() + 1;
        assert!(cut(&bytes, length).is_ok(), "{entry}");
        assert_eq!(
            cut(&bytes, length - 1),
            Err(DecodeError::TooLarge {
                length: length as u64,
                max: length - 1
            }),
            "{entry}"
        );
    }
}

#[test]
fn all_frames_in_one_stream_come_out_of_any_chunks() {
    let entries = section("frames");
    let stream: Vec<u8> = entries.iter().flat_map(octets).collect();
    for size in [1, 2, 7, 1_000, stream.len()] {
        let mut decoder = Decoder::new(LIMIT);
        let mut frames = Vec::new();
        for chunk in stream.chunks(size) {
            decoder.extend(chunk);
            while let Some(raw) = decoder.next_frame().unwrap() {
                frames.push(to_json(&Frame::decode(&raw).unwrap().unwrap()));
            }
        }
        assert!(decoder.is_empty(), "chunks of {size}");
        let wanted: Vec<_> = entries.iter().map(|entry| entry["value"].clone()).collect();
        assert!(frames == wanted, "chunks of {size}");
    }
}

#[test]
fn a_reader_takes_any_width_of_an_integer_and_a_writer_the_shortest() {
    for entry in section("widths") {
        let bytes = octets(&entry);
        for raws in [cut(&bytes, LIMIT), cut_bytewise(&bytes, LIMIT)] {
            let raws = raws.unwrap_or_else(|error| panic!("{entry}: {error}"));
            let frame = Frame::decode(&raws[0])
                .unwrap_or_else(|error| panic!("{entry}: {error}"))
                .unwrap();
            assert_eq!(to_json(&frame), entry["value"], "{entry}");
            assert!(frame.encode().len() < bytes.len(), "{entry}");
        }
    }
}

#[test]
fn invalid_bytes_give_the_stated_error() {
    for entry in section("invalid") {
        let (bytes, limit) = (octets(&entry), text(&entry, "limit").parse().unwrap());
        for read in [read(cut(&bytes, limit)), read(cut_bytewise(&bytes, limit))] {
            let error = read.expect_err(&format!("{entry}"));
            let variant = match error {
                DecodeError::Integer(_) => "Integer",
                DecodeError::Empty => "Empty",
                DecodeError::TooLarge { .. } => "TooLarge",
                DecodeError::Body { .. } => "Body",
                DecodeError::Truncated => "Truncated",
                _ => "another",
            };
            assert_eq!(variant, text(&entry, "error"), "{entry}: {error}");
        }
    }
}

#[test]
fn unknown_types_are_skipped_and_unknown_requests_can_be_answered() {
    let ping = Frame::from(Ping { request: 5 });
    for entry in section("skipped") {
        let bytes = [&octets(&entry)[..], &ping.encode()].concat();
        for raws in [cut(&bytes, LIMIT), cut_bytewise(&bytes, LIMIT)] {
            let raws = raws.unwrap_or_else(|error| panic!("{entry}: {error}"));
            let [unknown, known] = &raws[..] else {
                panic!("two frames: {entry}")
            };
            assert_eq!(
                format!("{:#04x}", unknown.kind),
                text(&entry, "number"),
                "{entry}"
            );
            assert_eq!(Frame::decode(unknown), Ok(None), "{entry}");
            assert_eq!(Frame::request_id(unknown).to_json(), entry["request"]);
            assert_eq!(Frame::decode(known), Ok(Some(ping.clone())), "{entry}");
        }
    }
}

#[test]
fn a_datagram_is_a_publication_for_a_subscription_or_nothing() {
    for entry in section("datagrams") {
        let read = datagram::decode(&octets(&entry).into());
        let Ok((subscription, Some(publication))) = read else {
            assert!(entry["value"].is_null(), "{entry}: {read:?}");
            continue;
        };
        assert_eq!(subscription.to_json(), entry["subscription"], "{entry}");
        let frame = Frame::from(publication);
        assert_eq!(to_json(&frame), entry["value"], "{entry}");
        let written = [
            datagram::Head::new(subscription).as_bytes(),
            &frame.encode(),
        ]
        .concat();
        if !text(&entry, "name").contains(" in ") {
            assert_eq!(hex(&written), text(&entry, "hex"), "{entry}");
        }
    }
}

/// The frames of a stream that ends after `bytes`.
fn cut(bytes: &[u8], limit: usize) -> Result<Vec<RawFrame>, DecodeError> {
    cut_chunks([bytes].into_iter(), limit)
}

fn cut_bytewise(bytes: &[u8], limit: usize) -> Result<Vec<RawFrame>, DecodeError> {
    cut_chunks(bytes.chunks(1), limit)
}

fn cut_chunks<'b>(
    chunks: impl Iterator<Item = &'b [u8]>,
    limit: usize,
) -> Result<Vec<RawFrame>, DecodeError> {
    let mut decoder = Decoder::new(limit);
    let mut found = Vec::new();
    for chunk in chunks {
        decoder.extend(chunk);
        while let Some(raw) = decoder.next_frame()? {
            found.push(raw);
        }
    }
    if !decoder.is_empty() {
        return Err(DecodeError::Truncated);
    }
    Ok(found)
}

fn read(raws: Result<Vec<RawFrame>, DecodeError>) -> Result<Vec<Option<Frame>>, DecodeError> {
    raws?.iter().map(Frame::decode).collect()
}

fn section(name: &str) -> Vec<Value> {
    let file: Value = serde_json::from_str(include_str!("vectors/frames.json")).unwrap();
    let entries = file[name].as_array().unwrap().clone();
    assert!(!entries.is_empty(), "no vectors in {name}");
    entries
}

fn text<'e>(entry: &'e Value, member: &str) -> &'e str {
    entry[member]
        .as_str()
        .unwrap_or_else(|| panic!("{member} of {entry}"))
}

fn octets(entry: &Value) -> Vec<u8> {
    unhex(text(entry, "hex"))
}

fn unhex(hex: &str) -> Vec<u8> {
    assert!(hex.len().is_multiple_of(2), "{hex}");
    (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").unwrap();
        hex
    })
}

/// The JSON of a value as `vectors/README.md` describes it.
trait Json {
    fn to_json(&self) -> Value;
    fn from_json(json: &Value) -> Self;
}

macro_rules! numbers {
    ($($number:ty)*) => {$(
        impl Json for $number {
            fn to_json(&self) -> Value {
                json!(self)
            }
            fn from_json(json: &Value) -> Self {
                json.as_u64().unwrap().try_into().unwrap()
            }
        }
    )*};
}
numbers!(u8 u16 u32);

impl Json for u64 {
    fn to_json(&self) -> Value {
        json!(self.to_string())
    }
    fn from_json(json: &Value) -> Self {
        json.as_str().unwrap().parse().unwrap()
    }
}

impl Json for bool {
    fn to_json(&self) -> Value {
        json!(self)
    }
    fn from_json(json: &Value) -> Self {
        json.as_bool().unwrap()
    }
}

impl Json for String {
    fn to_json(&self) -> Value {
        json!(self)
    }
    fn from_json(json: &Value) -> Self {
        json.as_str().unwrap().to_owned()
    }
}

impl Json for Bytes {
    fn to_json(&self) -> Value {
        json!(hex(self))
    }
    fn from_json(json: &Value) -> Self {
        unhex(json.as_str().unwrap()).into()
    }
}

impl<T: Json> Json for Option<T> {
    fn to_json(&self) -> Value {
        self.as_ref().map_or(Value::Null, Json::to_json)
    }
    fn from_json(json: &Value) -> Self {
        (!json.is_null()).then(|| T::from_json(json))
    }
}

impl<T: Json> Json for Vec<T> {
    fn to_json(&self) -> Value {
        self.iter().map(Json::to_json).collect()
    }
    fn from_json(json: &Value) -> Self {
        json.as_array().unwrap().iter().map(T::from_json).collect()
    }
}

macro_rules! newtypes {
    ($($name:ident)*) => {$(
        impl Json for $name {
            fn to_json(&self) -> Value {
                self.0.to_json()
            }
            fn from_json(json: &Value) -> Self {
                Self(Json::from_json(json))
            }
        }
    )*};
}
newtypes!(Epoch Code Level Source Delivery);

macro_rules! structs {
    ($($name:ident { $($field:ident),* })*) => {$(
        impl Json for $name {
            fn to_json(&self) -> Value {
                let Self { $($field),* } = self;
                json!({ $(stringify!($field): $field.to_json()),* })
            }
            fn from_json(json: &Value) -> Self {
                Self { $($field: Json::from_json(&json[stringify!($field)])),* }
            }
        }
    )*};
}
structs! {
    Hello { version, token, client, features }
    Welcome { session, user, server, features, limits, subscriptions, expires, idle_timeout, refused }
    Limits { message, frame, subscriptions }
    AutoSubscription { subscription, channel, position }
    RefusedSubscription { channel, code, reason }
    Position { epoch, offset }
    GoAway { code, grace }
    Subscribe { request, channel }
    SubscribeFrom { request, channel, start }
    ReadHistory { request, channel, query }
    HistoryQuery { from, limit, reverse }
    HistoryPage { request, kept, complete, count }
    Kept { epoch, first, last }
    Subscribed { request, subscription, position }
    Unsubscribe { request, subscription }
    Unsubscribed { request }
    Publish { request, channel, message }
    Published { request, position, level }
    PublishOnce { request, channel, key, message }
    PublishWith { request, channel, key, conflation_key, echo, message }
    PublishedOnce { request, position, level, duplicate }
    Ping { request }
    Pong { request, time }
    Failed { request, code, reason }
    Header { subscription, source, name, epoch, first, recovered, delivery }
    Publication { offset, time, publisher, message }
    Lagged { from, to }
    Skipped { from, to }
    Own { from, to }
    Lane { lane }
    Turn { subscription }
    Refresh { request, token }
    Refreshed { request, expires }
    End { code, reason }
    Notification { text, timestamp }
    Announcement { text, timestamp }
    Data { content_type, bytes }
    Presence { joined, left, connections, users, complete }
    Member { id, user }
    ReadPresence { request, channel, limit }
    PresencePage { request, position, connections, users, members, complete }
}

impl Json for Message {
    fn to_json(&self) -> Value {
        let (variant, inside) = match self {
            Self::Notification(inside) => ("Notification", inside.to_json()),
            Self::Announcement(inside) => ("Announcement", inside.to_json()),
            Self::Data(inside) => ("Data", inside.to_json()),
            Self::Presence(inside) => ("Presence", inside.to_json()),
        };
        Value::Object(Map::from_iter([(variant.to_owned(), inside)]))
    }
    fn from_json(json: &Value) -> Self {
        let (variant, inside) = json.as_object().unwrap().iter().next().unwrap();
        match variant.as_str() {
            "Notification" => Self::Notification(Json::from_json(inside)),
            "Announcement" => Self::Announcement(Json::from_json(inside)),
            "Data" => Self::Data(Json::from_json(inside)),
            "Presence" => Self::Presence(Json::from_json(inside)),
            _ => panic!("a message of {variant}"),
        }
    }
}

impl Json for Start {
    fn to_json(&self) -> Value {
        match self {
            Self::Head => json!({ "Head": {} }),
            Self::After(position) => json!({ "After": { "position": position.to_json() } }),
            Self::Latest(count) => json!({ "Latest": { "count": count.to_json() } }),
            Self::AfterOrOldest(position) => {
                json!({ "AfterOrOldest": { "position": position.to_json() } })
            }
            _ => panic!("{self:?} has no JSON here"),
        }
    }
    fn from_json(json: &Value) -> Self {
        let (variant, inside) = json.as_object().unwrap().iter().next().unwrap();
        match variant.as_str() {
            "Head" => Self::Head,
            "After" => Self::After(Json::from_json(&inside["position"])),
            "Latest" => Self::Latest(Json::from_json(&inside["count"])),
            "AfterOrOldest" => Self::AfterOrOldest(Json::from_json(&inside["position"])),
            _ => panic!("a start of {variant}"),
        }
    }
}

macro_rules! frames {
    ($($name:ident)*) => {
        fn to_json(frame: &Frame) -> Value {
            match frame {
                $(Frame::$name(body) => body.to_json(),)*
                _ => panic!("{} has no JSON here", frame.name()),
            }
        }

        fn from_json(name: &str, json: &Value) -> Frame {
            match name {
                $(stringify!($name) => Frame::$name(Json::from_json(json)),)*
                _ => panic!("{name} has no JSON here"),
            }
        }
    };
}
frames! {
    Hello Welcome GoAway Subscribe SubscribeFrom ReadHistory HistoryPage PublishOnce PublishedOnce Unsubscribe Publish Ping Failed Subscribed Unsubscribed Published Pong Header Publication Lagged
    Skipped Own Lane Turn PublishWith Refresh Refreshed ReadPresence PresencePage End
}
