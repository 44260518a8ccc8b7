//! The client protocol of NATS, as much of it as a subscriber and a publisher need: lines of text, payloads by length.

use anyhow::{Context, Result, bail};

use crate::stream_load::{Codec, Event};

/// One connection's protocol. Subscription ids are channel numbers plus one.
#[derive(Debug)]
pub struct Nats {
    channels: usize,
    greeted: bool,
}

impl Codec for Nats {
    // The server greets in clear and asks for TLS in the greeting.
    const TLS_FIRST: bool = false;

    fn new(_index: usize, channels: usize) -> Self {
        Self {
            channels,
            greeted: false,
        }
    }

    fn open(&mut self, out: &mut Vec<u8>) {
        let options = r#"{"verbose":false,"pedantic":false,"tls_required":true,"protocol":1,"name":"load","lang":"rust","version":"1"}"#;
        out.extend_from_slice(format!("CONNECT {options}\r\n").as_bytes());
        for channel in 0..self.channels {
            out.extend_from_slice(format!("SUB c{channel} {}\r\n", channel + 1).as_bytes());
        }
        // Answered after everything before it.
        out.extend_from_slice(b"PING\r\n");
    }

    fn publish(&mut self, channel: usize, payload: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(format!("PUB c{channel} {}\r\n", payload.len()).as_bytes());
        out.extend_from_slice(payload);
        out.extend_from_slice(b"\r\n");
    }

    fn read(
        &mut self,
        bytes: &[u8],
        out: &mut Vec<u8>,
        on: &mut impl FnMut(Event<'_>),
    ) -> Result<usize> {
        let mut used = 0;
        loop {
            let rest = &bytes[used..];
            let Some(end) = line_end(rest) else {
                return Ok(used);
            };
            let line = &rest[..end];
            let mut taken = end + 2;
            if let Some(arguments) = line.strip_prefix(b"MSG ") {
                let (channel, length) = message(arguments)?;
                if rest.len() < taken + length + 2 {
                    return Ok(used);
                }
                on(Event::Message {
                    channel,
                    payload: &rest[taken..taken + length],
                });
                taken += length + 2;
            } else if line == b"PING" {
                out.extend_from_slice(b"PONG\r\n");
            } else if line == b"PONG" {
                on(Event::Ready);
            } else if line.starts_with(b"INFO ") {
                // A second INFO comes over TLS and tells of the cluster.
                if !std::mem::replace(&mut self.greeted, true) {
                    on(Event::StartTls);
                }
            } else if line != b"+OK" {
                bail!("the server says {}", String::from_utf8_lossy(line));
            }
            used += taken;
        }
    }
}

fn line_end(bytes: &[u8]) -> Option<usize> {
    bytes.windows(2).position(|pair| pair == b"\r\n")
}

/// `subject sid [reply] length`: the channel and the payload's length.
fn message(arguments: &[u8]) -> Result<(usize, usize)> {
    let text = std::str::from_utf8(arguments).context("MSG is not text")?;
    let mut words = text.split(' ');
    let sid: usize = words
        .nth(1)
        .context("MSG without subscription id")?
        .parse()
        .context("subscription id of MSG")?;
    let length = words
        .next_back()
        .context("MSG without length")?
        .parse()
        .context("length of MSG")?;
    Ok((
        sid.checked_sub(1).context("MSG for subscription id 0")?,
        length,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream_load::testing::{Seen, feed_whole_and_split};

    #[test]
    fn messages_are_found_wherever_the_bytes_are_split() {
        let bytes =
            b"INFO {}\r\nPONG\r\nMSG c0 1 5\r\nhe\r\no\r\nPING\r\nMSG c11 12 0\r\n\r\nINFO {}\r\n";
        let seen = feed_whole_and_split(|| Nats::new(0, 12), bytes, b"PONG\r\n");
        assert_eq!(
            seen,
            vec![
                Seen::StartTls,
                Seen::Ready,
                Seen::Message(0, b"he\r\no".to_vec()),
                Seen::Message(11, Vec::new())
            ]
        );
    }

    #[test]
    fn an_error_of_the_server_is_told() {
        let error = Nats::new(0, 1)
            .read(b"-ERR 'Slow Consumer'\r\n", &mut Vec::new(), &mut |_| {})
            .expect_err("-ERR");
        assert!(error.to_string().contains("Slow Consumer"), "{error}");
    }

    #[test]
    fn a_publisher_subscribes_to_nothing() {
        let mut out = Vec::new();
        Nats::new(0, 0).open(&mut out);
        Nats::new(0, 0).publish(3, b"abc", &mut out);
        let text = String::from_utf8(out).expect("text");
        assert!(
            !text.contains("SUB ") && text.ends_with("PING\r\nPUB c3 3\r\nabc\r\n"),
            "{text}"
        );
    }
}
