//! MQTT 3.1.1 at QoS 0, as much of it as a subscriber and a publisher need. Section numbers are those of the standard.

use anyhow::{Context, Result, bail, ensure};

use crate::stream_load::{Codec, Event};

/// The first byte of a PUBLISH at QoS 0, neither duplicate nor retained (§3.3.1).
const PUBLISH: u8 = 0x30;
const CONNACK: u8 = 0x20;
/// The low bits are prescribed (§3.8.1).
const SUBSCRIBE: u8 = 0x82;
const SUBACK: u8 = 0x90;
/// Keep-alive 0 turns the server's timer off (§3.1.2.10), so that idle connections stay idle.
const KEEP_ALIVE: [u8; 2] = [0, 0];
/// Flags of CONNECT: a clean session and nothing else (§3.1.2.4).
const CLEAN_SESSION: u8 = 2;

/// One connection's protocol.
#[derive(Debug)]
pub struct Mqtt {
    channels: usize,
}

impl Codec for Mqtt {
    fn new(_index: usize, channels: usize) -> Self {
        Self { channels }
    }

    fn open(&mut self, out: &mut Vec<u8>) {
        let mut body = vec![0, 4];
        body.extend_from_slice(b"MQTT");
        body.extend_from_slice(&[4, CLEAN_SESSION]);
        body.extend_from_slice(&KEEP_ALIVE);
        // An empty client id: the server makes one (§3.1.3.1).
        body.extend_from_slice(&[0, 0]);
        packet(0x10, &[&body], out);
    }

    fn publish(&mut self, channel: usize, payload: &[u8], out: &mut Vec<u8>) {
        packet(PUBLISH, &[&topic(channel), payload], out);
    }

    fn read(
        &mut self,
        bytes: &[u8],
        out: &mut Vec<u8>,
        on: &mut impl FnMut(Event<'_>),
    ) -> Result<usize> {
        let mut used = 0;
        while let Some((start, end)) = extent(&bytes[used..])? {
            let (kind, body) = (bytes[used], &bytes[used + start..used + end]);
            match kind {
                PUBLISH => {
                    let (name, payload) = split_topic(body)?;
                    on(Event::Message {
                        channel: channel(name)?,
                        payload,
                    });
                }
                CONNACK => {
                    ensure!(
                        body.get(1) == Some(&0),
                        "the server refuses the connection with code {:?} (§3.2.2.3)",
                        body.get(1)
                    );
                    if self.channels == 0 {
                        on(Event::Ready)
                    } else {
                        self.subscribe(out)
                    }
                }
                SUBACK => {
                    ensure!(
                        body.len() == 2 + self.channels && body[2..].iter().all(|code| *code == 0),
                        "the server refuses a subscription: SUBACK {body:?}"
                    );
                    on(Event::Ready);
                }
                _ => bail!(
                    "the server sends a packet that begins with {kind:#x}, which a subscriber at QoS 0 does not get"
                ),
            }
            used += end;
        }
        Ok(used)
    }
}

impl Mqtt {
    fn subscribe(&self, out: &mut Vec<u8>) {
        let mut body = vec![0, 1];
        for channel in 0..self.channels {
            body.extend_from_slice(&topic(channel));
            body.push(0);
        }
        packet(SUBSCRIBE, &[&body], out);
    }
}

fn topic(channel: usize) -> Vec<u8> {
    let name = format!("c{channel}");
    [&(name.len() as u16).to_be_bytes()[..], name.as_bytes()].concat()
}

fn packet(kind: u8, parts: &[&[u8]], out: &mut Vec<u8>) {
    out.push(kind);
    let mut length: usize = parts.iter().map(|part| part.len()).sum();
    while length >= 0x80 {
        out.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    parts.iter().for_each(|part| out.extend_from_slice(part));
}

/// Where the body of the first packet begins and ends, once all of it is there (§2.2.3).
fn extent(bytes: &[u8]) -> Result<Option<(usize, usize)>> {
    let mut length = 0;
    for index in 0..4 {
        let Some(byte) = bytes.get(1 + index) else {
            return Ok(None);
        };
        length |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            let start = index + 2;
            return Ok((bytes.len() >= start + length).then_some((start, start + length)));
        }
    }
    bail!("a packet's length has more than four bytes")
}

fn split_topic(body: &[u8]) -> Result<(&[u8], &[u8])> {
    let (length, rest) = body
        .split_at_checked(2)
        .context("a PUBLISH without topic")?;
    rest.split_at_checked(usize::from(u16::from_be_bytes([length[0], length[1]])))
        .context("a PUBLISH whose topic is cut off")
}

fn channel(name: &[u8]) -> Result<usize> {
    let number = name
        .strip_prefix(b"c")
        .and_then(|digits| std::str::from_utf8(digits).ok());
    number
        .and_then(|digits| digits.parse().ok())
        .with_context(|| format!("a PUBLISH for {:?}", String::from_utf8_lossy(name)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream_load::testing::{Seen, feed_whole_and_split};

    #[test]
    fn messages_are_found_wherever_the_bytes_are_split() {
        let mut bytes = vec![CONNACK, 2, 0, 0, SUBACK, 4, 0, 1, 0, 0];
        Mqtt::new(0, 0).publish(1, &[7; 200], &mut bytes);
        Mqtt::new(0, 0).publish(0, b"", &mut bytes);
        let subscribe = b"\x82\x0c\0\x01\0\x02c0\0\0\x02c1\0";
        let seen = feed_whole_and_split(|| Mqtt::new(0, 2), &bytes, subscribe);
        assert_eq!(
            seen,
            vec![
                Seen::Ready,
                Seen::Message(1, vec![7; 200]),
                Seen::Message(0, Vec::new())
            ]
        );
    }

    #[test]
    fn a_refusal_is_told() {
        let mut mqtt = Mqtt::new(0, 1);
        assert!(
            mqtt.read(&[CONNACK, 2, 0, 5], &mut Vec::new(), &mut |_| {})
                .is_err()
        );
        assert!(
            mqtt.read(&[SUBACK, 3, 0, 1, 0x80], &mut Vec::new(), &mut |_| {})
                .is_err()
        );
    }
}
