//! A publication on its way to its offset.

use bytes::Bytes;

use super::{
    codec::{DecodeError, Decoder, MAX_HEAD, append, decode_body, push_integer, put_head},
    message::{Message, Publication},
    position::{Offset, Timestamp},
};

/// Type of a `Publication` frame (PROTOCOL §5.2).
const PUBLICATION: u64 = 0x61;

/// Room before a draft's body: the head, an offset and a time.
const HEADROOM: usize = MAX_HEAD + 18;

/// A publication that is encoded but for its offset and time, so that only those are written while a channel is locked. The
/// message's bytes are copied once, here.
#[derive(Debug)]
pub(crate) struct Draft(Vec<u8>);

impl Draft {
    pub(crate) fn new(publisher: Option<&str>, message: &Message) -> Self {
        let mut out =
            Vec::with_capacity(HEADROOM + 32 + publisher.map_or(0, str::len) + message.size());
        out.resize(HEADROOM, 0);
        append(&mut out, &(publisher, message));
        Self(out)
    }

    /// Bytes of the frame but for its head, offset and time.
    pub(crate) const fn size(&self) -> usize {
        self.0.len() - HEADROOM
    }

    /// The frame, ready for every subscriber.
    pub(crate) fn seal(self, offset: Offset, time: Timestamp) -> Bytes {
        let (mut first, mut second) = ([0; 9], [0; 9]);
        let offset = push_integer(&mut first, offset);
        let time = push_integer(&mut second, time);
        let mut middle = [0; 18];
        middle[..offset.len()].copy_from_slice(offset);
        middle[offset.len()..offset.len() + time.len()].copy_from_slice(time);
        put_head(
            self.0,
            HEADROOM,
            &middle[..offset.len() + time.len()],
            PUBLICATION,
        )
    }
}

/// The publication in a frame that [`Draft::seal`] made.
pub(crate) fn open_publication(frame: &Bytes) -> Result<Publication, DecodeError> {
    let mut decoder = Decoder::new(frame.len());
    decoder.extend(frame);
    match decoder.next_frame()? {
        Some(raw) if raw.kind == PUBLICATION => decode_body("Publication", &raw.body),
        _ => Err(DecodeError::Truncated),
    }
}

#[cfg(test)]
mod tests {
    use super::super::codec::encode_frame;
    use super::*;

    #[test]
    fn a_sealed_draft_is_the_plain_encoding() {
        for (offset, time, size) in [
            (1, 1, 0),
            (300, 1_700_000_000_000, 200),
            (1 << 40, 5, 70_000),
        ] {
            let message = Message::data("a/b", vec![7; size]);
            let publication = Publication {
                offset,
                time,
                publisher: Some("42".into()),
                message,
            };
            let sealed = Draft::new(Some("42"), &publication.message).seal(offset, time);
            assert_eq!(sealed, encode_frame(PUBLICATION, &publication));
            assert_eq!(open_publication(&sealed), Ok(publication));
        }
    }
}
