//! The two forms of a line.

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::Serialize;

use crate::{
    cli::output::{CHANNEL, Colours, FAINT, LABEL, visible},
    client::Event,
    wire::{ChannelName, Epoch, Message, Position, Publication},
};

/// A publication as `global #3 announcement  hello`, `room #4 data from 42  hi`; `None` for what is none.
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
    Published {
        channel: channel.as_str(),
        epoch: epoch.to_string(),
        offset: publication.offset,
        kind: publication.message.kind(),
        text,
        content_type: data.map(|data| data.content_type.as_str()),
        data: data.map(|data| BASE64_STANDARD.encode(&data.bytes)),
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
    timestamp: u64,
    user: Option<&'a str>,
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
