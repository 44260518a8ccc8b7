//! The client side of zenoh 1.x over QUIC, as much of it as a subscriber and a publisher need.
//!
//! On a stream stand batches, each after its length (u16, little endian). The first are a handshake of two round trips; then
//! come frames, numbered, with messages in them: declarations, interests, and `Push` with a publication. A message has no
//! length, so every one that a router sends to a client is read to its end. As zenoh's own client does, this one asks for
//! priorities and for a stream of the router's for each: they are part of what a session costs.

mod reader;

use anyhow::{Context, Result, bail, ensure};

use self::reader::Reader;
use crate::{
    clock,
    stream_load::{Codec, Event},
};

/// A stream for each priority. A router also takes clients with one for all.
pub const ALPN: &str = "zenoh-ms";
/// Streams that the router opens: one for each of the eight priorities but the highest, which has the client's stream.
pub const STREAMS: u32 = 7;

const VERSION: u8 = 9;
/// In InitSyn: what the sender is.
const CLIENT: u8 = 2;
/// In InitSyn, as an extension: the client wants priorities.
const PRIORITIES: u8 = 1;
/// Seconds that the router waits for a sign of life, a long time: the load sends none, and QUIC sees to the connection.
const LEASE: u64 = 3600;
/// Frames are numbered modulo this at the default resolution of 32 bits.
const NUMBERS: u64 = 1 << 28;

/// Messages of the transport: the low five bits of their first byte.
mod transport {
    pub(super) const INIT: u8 = 1;
    pub(super) const OPEN: u8 = 2;
    pub(super) const CLOSE: u8 = 3;
    pub(super) const KEEP_ALIVE: u8 = 4;
    pub(super) const FRAME: u8 = 5;
}

/// Messages in a frame.
mod network {
    pub(super) const PUSH: u8 = 0x1d;
    pub(super) const DECLARE: u8 = 0x1e;
    pub(super) const INTEREST: u8 = 0x19;
}

/// What is declared.
mod declare {
    pub(super) const KEY: u8 = 0;
    pub(super) const SUBSCRIBER: u8 = 2;
    pub(super) const FINAL: u8 = 0x1a;
}

const PUT: u8 = 1;

/// The high bits of a first byte: that something stands in the message. Which bit says what depends on the message.
const BIT_5: u8 = 0x20;
const BIT_6: u8 = 0x40;
const EXTENSIONS: u8 = 0x80;
/// The low five bits of a first byte: which message it is.
const KIND: u8 = 0x1f;

/// An extension with a number that says how a publication is treated: priority 5 (data, the default), and that the router waits
/// for a slow link instead of dropping it. Without the latter it drops after a millisecond, which would void a run.
const QUALITY: [u8; 2] = [0x21, 5 | 8];
/// Of an Interest: what there is now, of tokens. There are none, so the answer is that this was all.
const CURRENT: u8 = BIT_5;
const TOKENS: u8 = 8;

/// One connection's protocol.
#[derive(Debug)]
pub struct Zenoh {
    index: usize,
    channels: usize,
    /// Of the next frame.
    number: u64,
    /// Channels that the publisher has declared: it names channel n by n + 1 from then on.
    declared: Vec<bool>,
    /// Names that the router has declared.
    names: Vec<(u64, String)>,
}

impl Codec for Zenoh {
    fn new(index: usize, channels: usize) -> Self {
        Self {
            index,
            channels,
            number: 0,
            declared: Vec::new(),
            names: Vec::new(),
        }
    }

    fn open(&mut self, out: &mut Vec<u8>) {
        // An identity that no other connection has, nor one of a load before. Its last byte must not be 0.
        let mut identity = [1; 16];
        identity[..8].copy_from_slice(&clock::now().to_le_bytes());
        identity[8..15].copy_from_slice(&self.index.to_le_bytes()[..7]);
        batch(out, |out| {
            out.extend_from_slice(&[transport::INIT | EXTENSIONS, VERSION, 15 << 4 | CLIENT]);
            out.extend_from_slice(&identity);
            out.push(PRIORITIES);
        });
    }

    fn publish(&mut self, channel: usize, payload: &[u8], out: &mut Vec<u8>) {
        let name = channel as u64 + 1;
        if self.declared.len() <= channel {
            self.declared.resize(channel + 1, false);
        }
        let is_new = !std::mem::replace(&mut self.declared[channel], true);
        self.frame(out, |out| {
            if is_new {
                out.extend_from_slice(&[network::DECLARE, declare::KEY | BIT_5]);
                number(name, out);
                key(channel, out);
            }
            // By the number that the sender has declared.
            out.push(network::PUSH | BIT_6 | EXTENSIONS);
            number(name, out);
            out.extend_from_slice(&QUALITY);
            out.push(PUT);
            number(payload.len() as u64, out);
            out.extend_from_slice(payload);
        });
    }

    fn read(
        &mut self,
        bytes: &[u8],
        out: &mut Vec<u8>,
        on: &mut impl FnMut(Event<'_>),
    ) -> Result<usize> {
        let mut used = 0;
        while let Some((length, rest)) = bytes[used..].split_first_chunk() {
            let length = usize::from(u16::from_le_bytes(*length));
            let Some(batch) = rest.get(..length) else {
                break;
            };
            let mut batch = Reader::new(batch);
            while !batch.is_empty() {
                self.transport_message(&mut batch, out, on)?;
            }
            used += 2 + length;
        }
        Ok(used)
    }
}

impl Zenoh {
    fn transport_message(
        &mut self,
        batch: &mut Reader<'_>,
        out: &mut Vec<u8>,
        on: &mut impl FnMut(Event<'_>),
    ) -> Result<()> {
        let first = batch.byte()?;
        match first & KIND {
            transport::INIT => open_session(first, batch, out),
            transport::OPEN => {
                ensure!(first & BIT_5 != 0, "the router opens a session of its own");
                batch.number()?;
                batch.number()?;
                batch.extensions_if(first)?;
                self.subscribe(out);
                Ok(())
            }
            transport::FRAME => {
                batch.number()?;
                batch.extensions_if(first)?;
                while !batch.is_empty() {
                    self.network_message(batch, on)?;
                }
                Ok(())
            }
            transport::KEEP_ALIVE => batch.extensions_if(first),
            transport::CLOSE => bail!("the router closes the session for reason {}", batch.byte()?),
            kind => bail!("the router sends a transport message of the unknown kind {kind:#x}"),
        }
    }

    fn network_message(
        &mut self,
        frame: &mut Reader<'_>,
        on: &mut impl FnMut(Event<'_>),
    ) -> Result<()> {
        let first = frame.byte()?;
        match first & KIND {
            network::PUSH => {
                let (name, suffix) = (frame.number()?, frame.bytes_if(first & BIT_5)?);
                frame.extensions_if(first)?;
                let payload = put(frame)?;
                let channel = self.channel(name, suffix)?;
                on(Event::Message { channel, payload });
                Ok(())
            }
            network::DECLARE => {
                frame.number_if(first & BIT_5)?;
                frame.extensions_if(first)?;
                self.declaration(frame, on)
            }
            kind => bail!("the router sends a message of the unknown kind {kind:#x}"),
        }
    }

    fn declaration(
        &mut self,
        frame: &mut Reader<'_>,
        on: &mut impl FnMut(Event<'_>),
    ) -> Result<()> {
        let first = frame.byte()?;
        match first & KIND {
            declare::KEY => {
                let id = frame.number()?;
                let (prefix, suffix) = (frame.number()?, frame.bytes_if(first & BIT_5)?);
                let name = self.name(prefix, suffix)?;
                self.names.push((id, name));
            }
            // It answers the interest, and so stands after the declarations before it.
            declare::FINAL => on(Event::Ready),
            kind => bail!("the router declares something of the unknown kind {kind:#x}"),
        }
        frame.extensions_if(first)
    }

    fn channel(&self, prefix: u64, suffix: &[u8]) -> Result<usize> {
        let number = |name: &[u8]| {
            let digits = std::str::from_utf8(name.strip_prefix(b"c")?).ok()?;
            digits.parse().ok()
        };
        let channel = match prefix {
            0 => number(suffix),
            _ => number(self.name(prefix, suffix)?.as_bytes()),
        };
        channel.with_context(|| {
            let suffix = String::from_utf8_lossy(suffix);
            format!(
                "a publication for {suffix:?} after name {prefix}, which is none of the channels"
            )
        })
    }

    fn name(&self, prefix: u64, suffix: &[u8]) -> Result<String> {
        let suffix = std::str::from_utf8(suffix).context("a name that is no text")?;
        if prefix == 0 {
            return Ok(suffix.to_owned());
        }
        let name = self.names.iter().find(|(id, _)| *id == prefix);
        let (_, name) = name.with_context(|| format!("name {prefix} was not declared"))?;
        Ok(format!("{name}{suffix}"))
    }

    /// Declares all subscriptions, and asks for an answer after them.
    fn subscribe(&mut self, out: &mut Vec<u8>) {
        let channels = self.channels;
        self.frame(out, |out| {
            for channel in 0..channels {
                out.extend_from_slice(&[network::DECLARE, declare::SUBSCRIBER | BIT_5]);
                number(channel as u64, out);
                key(channel, out);
            }
            out.push(network::INTEREST | CURRENT);
            number(1, out);
            out.push(TOKENS);
        });
    }

    fn frame(&mut self, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
        let sequence = self.number;
        self.number = (sequence + 1) % NUMBERS;
        batch(out, |out| {
            // Reliable.
            out.push(transport::FRAME | BIT_5);
            number(sequence, out);
            write(out);
        });
    }
}

/// Answers InitAck by OpenSyn, which shows the router's cookie.
fn open_session(first: u8, batch: &mut Reader<'_>, out: &mut Vec<u8>) -> Result<()> {
    ensure!(
        first & BIT_5 != 0,
        "the router initiates a session of its own"
    );
    let (version, identity) = (batch.byte()?, batch.byte()?);
    ensure!(
        version == VERSION,
        "the router speaks version {version}, the load version {VERSION}"
    );
    batch.bytes(usize::from(identity >> 4) + 1)?;
    // Sizes that it takes: those that were asked for, or smaller ones that a load does not reach.
    batch.bytes(if first & BIT_6 == 0 { 0 } else { 3 })?;
    let cookie = batch.counted()?.to_vec();
    batch.extensions_if(first)?;
    self::batch(out, |out| {
        out.push(transport::OPEN | BIT_6);
        number(LEASE, out);
        number(0, out);
        number(cookie.len() as u64, out);
        out.extend_from_slice(&cookie);
    });
    Ok(())
}

/// The payload of a Put; the router adds its time to it.
fn put<'a>(frame: &mut Reader<'a>) -> Result<&'a [u8]> {
    let first = frame.byte()?;
    ensure!(
        first & KIND == PUT,
        "a publication of the unknown kind {first:#x}"
    );
    if first & BIT_5 != 0 {
        frame.number()?;
        frame.counted()?;
    }
    ensure!(
        first & BIT_6 == 0,
        "a publication has an encoding, which none was given"
    );
    frame.extensions_if(first)?;
    frame.counted()
}

/// The name of a channel, after no other name.
fn key(channel: usize, out: &mut Vec<u8>) {
    let name = format!("c{channel}");
    number(0, out);
    number(name.len() as u64, out);
    out.extend_from_slice(name.as_bytes());
}

/// Seven bits a byte, the lowest first.
fn number(mut value: u64, out: &mut Vec<u8>) {
    while value > 0x7f {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// What `write` writes, after its length. A load's publications are far below the 64 KiB of a batch.
fn batch(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0, 0]);
    write(out);
    let length = (out.len() - start - 2) as u16;
    out[start..start + 2].copy_from_slice(&length.to_le_bytes());
}

#[cfg(test)]
mod tests;
