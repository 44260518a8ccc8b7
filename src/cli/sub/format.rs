//! The two forms of a line.

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::Serialize;

use crate::{
    cli::output::{CHANNEL, Colours, FAINT, LABEL, visible},
    client::Event,
    wire::{ChannelName, Epoch, Member, Message, Position, Presence, Publication},
};

/// A publication as `global #3 announcement  hello`, `room #4 data from 42  hi` or
/// `room #5 presence  joined: 42; connections: 1, users: 1`; `None` for what is none.
pub(in crate::cli) fn human(
    channel: &ChannelName,
    event: &Event,
    colours: Colours,
) -> Option<String> {
    let Event::Publication(publication) = event else {
        return None;
    };
    let text = match (publication.message.as_text(), &publication.message) {
        (Some(text), _) => visible(text),
        (None, Message::Data(data)) => colours.paint(
            FAINT,
            &format!(
                "<{}, {} bytes>",
                visible(&data.content_type),
                data.bytes.len()
            ),
        ),
        (None, Message::Presence(change)) => who(change),
        (None, _) => String::new(),
    };
    let from = publication.publisher.as_deref();
    let from = from.map_or_else(String::new, |user| format!(" from {}", visible(user)));
    Some(format!(
        "{} {} {}{from}  {text}",
        colours.paint(CHANNEL, channel.as_str()),
        colours.paint(FAINT, &format!("#{}", publication.offset)),
        colours.paint(LABEL, publication.message.kind()),
    ))
}

/// Who came and went.
fn who(change: &Presence) -> String {
    let mut text = String::new();
    for (label, members) in [("joined", &change.joined), ("left", &change.left)] {
        if !members.is_empty() {
            let names: Vec<_> = members.iter().map(member).collect();
            text += &format!("{label}: {}; ", names.join(", "));
        }
    }
    if !change.complete {
        text += "and more; ";
    }
    text + &format!(
        "connections: {}, users: {}",
        change.connections, change.users
    )
}

/// A member by its user, or by its number where it has none that is told.
pub(in crate::cli) fn member(member: &Member) -> String {
    match &member.user {
        Some(user) => visible(user),
        None => id(member),
    }
}

pub(in crate::cli) fn id(member: &Member) -> String {
    format!("{:016x}", member.id)
}

/// One JSON object.
pub(in crate::cli) fn json(channel: &ChannelName, epoch: Epoch, event: &Event) -> Option<String> {
    let line = match event {
        Event::Publication(publication) => {
            Line::Publication(published(channel, epoch, publication))
        }
        Event::Lagged { from, to } => Line::Other(Other::Lagged {
            channel: channel.as_str(),
            from: *from,
            to: *to,
        }),
        Event::Skipped { from, to } => Line::Other(Other::Skipped {
            channel: channel.as_str(),
            from: *from,
            to: *to,
        }),
        Event::Break { before, after } => Line::Other(Other::Break {
            channel: channel.as_str(),
            before: (*before).into(),
            after: (*after).into(),
            missed: event.missed(),
        }),
        Event::End { code, reason } => Line::Other(Other::End {
            channel: channel.as_str(),
            code: code
                .name()
                .map_or_else(|| code.0.to_string(), str::to_owned),
            reason,
        }),
    };
    // Strings and numbers always are JSON.
    serde_json::to_string(&line).ok()
}

fn published<'a>(
    channel: &'a ChannelName,
    epoch: Epoch,
    publication: &'a Publication,
) -> Published<'a> {
    let text = publication.message.as_text();
    let data = match &publication.message {
        Message::Data(data) if text.is_none() => Some(data),
        _ => None,
    };
    let presence = match &publication.message {
        Message::Presence(change) => Some(change.into()),
        _ => None,
    };
    Published {
        channel: channel.as_str(),
        epoch: epoch.to_string(),
        offset: publication.offset,
        kind: publication.message.kind(),
        text,
        content_type: data.map(|data| data.content_type.as_str()),
        data: data.map(|data| BASE64_STANDARD.encode(&data.bytes)),
        presence,
        timestamp: publication.time,
        user: publication.publisher.as_deref(),
    }
}

#[derive(Serialize)]
#[serde(untagged)]
enum Line<'a> {
    Publication(Published<'a>),
    Other(Other<'a>),
}

#[derive(Serialize)]
struct Published<'a> {
    channel: &'a str,
    epoch: String,
    offset: u64,
    kind: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    presence: Option<Change<'a>>,
    timestamp: u64,
    user: Option<&'a str>,
}

#[derive(Serialize)]
struct Change<'a> {
    joined: Vec<Who<'a>>,
    left: Vec<Who<'a>>,
    connections: u64,
    users: u64,
    complete: bool,
}

/// A member, as JSON.
#[derive(Serialize)]
pub(in crate::cli) struct Who<'a> {
    id: String,
    user: Option<&'a str>,
}

impl<'a> From<&'a Member> for Who<'a> {
    fn from(member: &'a Member) -> Self {
        Self {
            id: id(member),
            user: member.user.as_deref(),
        }
    }
}

impl<'a> From<&'a Presence> for Change<'a> {
    fn from(change: &'a Presence) -> Self {
        Self {
            joined: change.joined.iter().map(Who::from).collect(),
            left: change.left.iter().map(Who::from).collect(),
            connections: change.connections,
            users: change.users,
            complete: change.complete,
        }
    }
}

#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Other<'a> {
    Lagged {
        channel: &'a str,
        from: u64,
        to: u64,
    },
    Skipped {
        channel: &'a str,
        from: u64,
        to: u64,
    },
    Break {
        channel: &'a str,
        before: At,
        after: At,
        missed: Option<u64>,
    },
    End {
        channel: &'a str,
        code: String,
        reason: &'a str,
    },
}

#[derive(Serialize)]
struct At {
    epoch: String,
    offset: u64,
}

impl From<Position> for At {
    fn from(position: Position) -> Self {
        Self {
            epoch: position.epoch.to_string(),
            offset: position.offset,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Code;

    fn event(message: Message, publisher: Option<&str>) -> Event {
        Event::Publication(Publication {
            offset: 3,
            time: 1_700_000_000_000,
            publisher: publisher.map(str::to_owned),
            message,
        })
    }

    fn both(event: &Event) -> (Option<String>, String) {
        let channel = ChannelName::parse("room").unwrap();
        (
            human(&channel, event, Colours(false)),
            json(&channel, Epoch(0x2a), event).unwrap(),
        )
    }

    #[test]
    fn a_publication_is_a_line() {
        let (human, json) = both(&event(Message::announcement("hello\nthere", 5), None));
        assert_eq!(human.unwrap(), "room #3 announcement  hello\\nthere");
        assert_eq!(
            json,
            r#"{"channel":"room","epoch":"000000000000002a","offset":3,"kind":"announcement","text":"hello\nthere","timestamp":1700000000000,"user":null}"#
        );
        let (human, json) = both(&event(Message::text("hi"), Some("42")));
        assert_eq!(human.unwrap(), "room #3 data from 42  hi");
        assert_eq!(
            json,
            r#"{"channel":"room","epoch":"000000000000002a","offset":3,"kind":"data","text":"hi","timestamp":1700000000000,"user":"42"}"#
        );
        let (human, json) = both(&event(Message::data("image/png", &b"\x89PNG"[..]), None));
        assert_eq!(human.unwrap(), "room #3 data  <image/png, 4 bytes>");
        assert_eq!(
            json,
            r#"{"channel":"room","epoch":"000000000000002a","offset":3,"kind":"data","content_type":"image/png","data":"iVBORw==","timestamp":1700000000000,"user":null}"#
        );
    }

    #[test]
    fn who_came_and_went_is_a_line() {
        let member = |id, user: Option<&str>| Member {
            id,
            user: user.map(str::to_owned),
        };
        let change = Presence {
            joined: vec![member(1, Some("42")), member(0x2b, None)],
            left: vec![member(2, Some("a"))],
            connections: 70,
            users: 9,
            complete: false,
        };
        let (human, json) = both(&event(Message::Presence(change), None));
        assert_eq!(
            human.unwrap(),
            "room #3 presence  joined: 42, 000000000000002b; left: a; and more; connections: 70, users: 9"
        );
        assert_eq!(
            json,
            r#"{"channel":"room","epoch":"000000000000002a","offset":3,"kind":"presence","presence":{"joined":[{"id":"0000000000000001","user":"42"},{"id":"000000000000002b","user":null}],"left":[{"id":"0000000000000002","user":"a"}],"connections":70,"users":9,"complete":false},"timestamp":1700000000000,"user":null}"#
        );
    }

    #[test]
    fn a_gap_is_a_line_of_json() {
        let at = |epoch, offset| Position {
            epoch: Epoch(epoch),
            offset,
        };
        let lagged = Event::Lagged { from: 2, to: 5 };
        let skipped = Event::Skipped { from: 6, to: 6 };
        let same = Event::Break {
            before: at(1, 2),
            after: at(1, 4),
        };
        let anew = Event::Break {
            before: at(1, 2),
            after: at(2, 0),
        };
        let end = Event::End {
            code: Code::TOKEN_EXPIRED,
            reason: "over".to_owned(),
        };
        for (event, wanted) in [
            (
                lagged,
                r#"{"kind":"lagged","channel":"room","from":2,"to":5}"#,
            ),
            (
                skipped,
                r#"{"kind":"skipped","channel":"room","from":6,"to":6}"#,
            ),
            (
                same,
                r#"{"kind":"break","channel":"room","before":{"epoch":"0000000000000001","offset":2},"after":{"epoch":"0000000000000001","offset":4},"missed":2}"#,
            ),
            (
                anew,
                r#"{"kind":"break","channel":"room","before":{"epoch":"0000000000000001","offset":2},"after":{"epoch":"0000000000000002","offset":0},"missed":null}"#,
            ),
            (
                end,
                r#"{"kind":"end","channel":"room","code":"token_expired","reason":"over"}"#,
            ),
        ] {
            assert_eq!(both(&event), (None, wanted.to_owned()));
        }
    }
}
