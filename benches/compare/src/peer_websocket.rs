//! A WebSocket client (RFC 6455), as much of it as a subscriber and a publisher need, for the servers in
//! `peers/ws-server.mjs` and `peers/uws-server.mjs`.
//!
//! Their messages are binary: a kind, the channel's number (u16, little endian), and for a message its payload. A message
//! goes to subscribers as it came, so that the servers need not touch it.

use anyhow::{Context, Result, bail, ensure};

use crate::stream_load::{Codec, Event};

/// Client to server: subscribe. Server to client: subscribed.
const SUBSCRIBE: u8 = 1;
/// Client to server: publish. Server to client: the same bytes.
const MESSAGE: u8 = 2;

/// A key and its answer as RFC 6455 §1.3 gives them: the answer proves that the server has understood, nothing else.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &[u8] = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
/// Masking protects proxies from scripts in browsers (RFC 6455 §10.3); here a server has to undo it, whatever the key is.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

const FINAL: u8 = 0x80;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;

/// One connection's protocol.
#[derive(Debug)]
pub struct WebSocket {
    channels: usize,
    upgraded: bool,
    subscribed: usize,
}

impl Codec for WebSocket {
    fn new(_index: usize, channels: usize) -> Self {
        Self {
            channels,
            upgraded: false,
            subscribed: 0,
        }
    }

    fn open(&mut self, out: &mut Vec<u8>) {
        let request = format!(
            "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n"
        );
        out.extend_from_slice(request.as_bytes());
    }

    fn publish(&mut self, channel: usize, payload: &[u8], out: &mut Vec<u8>) {
        let number = (channel as u16).to_le_bytes();
        frame(BINARY, &[&[MESSAGE], &number, payload], out);
    }

    fn read(
        &mut self,
        bytes: &[u8],
        out: &mut Vec<u8>,
        on: &mut impl FnMut(Event<'_>),
    ) -> Result<usize> {
        let mut used = 0;
        if !self.upgraded {
            let Some(length) = self.upgrade(bytes, out, on)? else {
                return Ok(0);
            };
            used = length;
        }
        while let Some((start, end)) = extent(&bytes[used..])? {
            let (first, payload) = (bytes[used], &bytes[used + start..used + end]);
            match first {
                _ if first == FINAL | BINARY => self.message(payload, on)?,
                _ if first == FINAL | PING => frame(PONG, &[payload], out),
                _ if first == FINAL | PONG => {}
                _ if first == FINAL | CLOSE => {
                    bail!("the server closes the WebSocket: {payload:?}")
                }
                _ => bail!(
                    "the server sends a frame that begins with {first:#x}, not a whole binary message"
                ),
            }
            used += end;
        }
        Ok(used)
    }
}

impl WebSocket {
    /// The length of the response to the upgrade, once all of it is there.
    fn upgrade(
        &mut self,
        bytes: &[u8],
        out: &mut Vec<u8>,
        on: &mut impl FnMut(Event<'_>),
    ) -> Result<Option<usize>> {
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
            return Ok(None);
        };
        let head = &bytes[..end];
        let accepted = head.windows(ACCEPT.len()).any(|part| part == ACCEPT);
        ensure!(
            head.starts_with(b"HTTP/1.1 101") && accepted,
            "the server refuses the upgrade: {}",
            String::from_utf8_lossy(head)
        );
        self.upgraded = true;
        for channel in 0..self.channels {
            frame(
                BINARY,
                &[&[SUBSCRIBE], &(channel as u16).to_le_bytes()],
                out,
            );
        }
        if self.channels == 0 {
            on(Event::Ready);
        }
        Ok(Some(end + 4))
    }

    fn message(&mut self, bytes: &[u8], on: &mut impl FnMut(Event<'_>)) -> Result<()> {
        let (head, payload) = bytes
            .split_at_checked(3)
            .context("a message of the server without kind and channel")?;
        match head[0] {
            MESSAGE => on(Event::Message {
                channel: usize::from(u16::from_le_bytes([head[1], head[2]])),
                payload,
            }),
            SUBSCRIBE => {
                self.subscribed += 1;
                if self.subscribed == self.channels {
                    on(Event::Ready);
                }
            }
            kind => bail!("a message of the server of the unknown kind {kind}"),
        }
        Ok(())
    }
}

/// A masked frame (RFC 6455 §5.2).
fn frame(opcode: u8, parts: &[&[u8]], out: &mut Vec<u8>) {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    out.push(FINAL | opcode);
    match length {
        0..126 => out.push(0x80 | length as u8),
        126..=0xffff => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&MASK);
    let bytes = parts.iter().flat_map(|part| part.iter());
    out.extend(
        bytes
            .zip(MASK.iter().cycle())
            .map(|(byte, mask)| byte ^ mask),
    );
}

/// Where the payload of the first frame begins and ends, once all of it is there. A server does not mask (§5.1).
fn extent(bytes: &[u8]) -> Result<Option<(usize, usize)>> {
    let Some(second) = bytes.get(1) else {
        return Ok(None);
    };
    ensure!(second & 0x80 == 0, "the server sends a masked frame");
    let (start, length): (usize, usize) = match second {
        126 => match bytes.get(2..4) {
            Some(field) => (4, usize::from(u16::from_be_bytes([field[0], field[1]]))),
            None => return Ok(None),
        },
        127 => match bytes.get(2..10).and_then(|field| field.try_into().ok()) {
            Some(field) => (
                10,
                usize::try_from(u64::from_be_bytes(field)).context("length of a frame")?,
            ),
            None => return Ok(None),
        },
        length => (2, usize::from(*length)),
    };
    let end = start.checked_add(length).context("length of a frame")?;
    Ok((bytes.len() >= end).then_some((start, end)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream_load::testing::{Seen, feed_whole_and_split};

    const UPGRADED: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

    fn from_server(bytes: &[u8]) -> Vec<u8> {
        let mut head = vec![FINAL | BINARY];
        match bytes.len() {
            0..126 => head.push(bytes.len() as u8),
            _ => {
                head.push(126);
                head.extend_from_slice(&(bytes.len() as u16).to_be_bytes());
            }
        }
        [&head[..], bytes].concat()
    }

    #[test]
    fn messages_are_found_wherever_the_bytes_are_split() {
        let long = [&[MESSAGE, 1, 1][..], &[9; 200]].concat();
        let parts = [
            UPGRADED,
            &from_server(&[SUBSCRIBE, 0, 0]),
            &from_server(&long),
            &from_server(&[MESSAGE, 0, 0]),
        ];
        let mut subscribe = Vec::new();
        frame(BINARY, &[&[SUBSCRIBE, 0, 0]], &mut subscribe);
        let seen = feed_whole_and_split(|| WebSocket::new(0, 1), &parts.concat(), &subscribe);
        assert_eq!(
            seen,
            vec![
                Seen::Ready,
                Seen::Message(257, vec![9; 200]),
                Seen::Message(0, Vec::new())
            ]
        );
    }

    #[test]
    fn frames_are_masked_as_the_standard_shows() {
        let mut out = Vec::new();
        frame(0x1, &[b"Hel", b"lo"], &mut out);
        assert_eq!(
            out,
            [
                0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58
            ]
        );
    }

    #[test]
    fn a_refused_upgrade_and_a_close_are_told() {
        let mut socket = WebSocket::new(0, 1);
        assert!(
            socket
                .read(
                    b"HTTP/1.1 404 Not Found\r\n\r\n",
                    &mut Vec::new(),
                    &mut |_| {}
                )
                .is_err()
        );
        let closed = [UPGRADED, &[FINAL | CLOSE, 0]].concat();
        assert!(socket.read(&closed, &mut Vec::new(), &mut |_| {}).is_err());
    }
}
