//! The client of the floor of TLS: the protocol of Tidings, all of it on the one connection.

use anyhow::{Result, bail};

use crate::{
    peer_tidings::first_words,
    stamp::Stamp,
    stream_load::{Codec, Event},
    wire::{Frames, Reader, kind},
};

/// One connection's protocol.
#[derive(Debug)]
pub struct FloorTls {
    channels: usize,
    subscribed: usize,
    frames: Frames,
}

impl Codec for FloorTls {
    const PUBLISHES: bool = false;

    fn new(_: usize, channels: usize) -> Self {
        Self {
            channels,
            subscribed: 0,
            frames: Frames::default(),
        }
    }

    fn open(&mut self, out: &mut Vec<u8>) {
        out.extend(first_words(None, self.channels));
    }

    fn read(
        &mut self,
        bytes: &[u8],
        _: &mut Vec<u8>,
        on: &mut impl FnMut(Event<'_>),
    ) -> Result<usize> {
        self.frames.read(bytes, |kind, body| {
            match kind {
                kind::WELCOME => {}
                kind::SUBSCRIBED => {
                    self.subscribed += 1;
                    if self.subscribed == self.channels {
                        on(Event::Ready);
                    }
                }
                kind::PUBLICATION => {
                    let (_, payload) = Reader(body).publication()?;
                    // Without a stream of its own, a channel is told by the stamp alone.
                    let stamp = Stamp::read(payload);
                    let channel = stamp.map_or(0, |stamp| stamp.channel as usize);
                    on(Event::Message { channel, payload });
                }
                _ => bail!("the floor sends a frame of type {kind:#x}"),
            }
            Ok(())
        })?;
        Ok(bytes.len())
    }

    fn publish(&mut self, _: usize, _: &[u8], _: &mut Vec<u8>) {
        unreachable!("the floor publishes by itself");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        stream_load::testing::{Seen, feed_whole_and_split},
        wire,
    };

    #[test]
    fn it_is_ready_when_all_is_subscribed_and_then_reads() {
        let stamp = Stamp {
            sequence: 1,
            intended: 2,
            channel: 1,
        };
        let payload = stamp.payload(60);
        let bytes = [
            wire::welcome(1),
            wire::subscribed(0, 1),
            wire::subscribed(1, 2),
            wire::publication(1, 5, &payload),
        ]
        .concat();
        let seen = feed_whole_and_split(|| FloorTls::new(0, 2), &bytes, b"");
        assert_eq!(seen, [Seen::Ready, Seen::Message(1, payload)]);
    }
}
