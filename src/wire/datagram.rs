//! Datagrams (PROTOCOL §5.6): the id of a subscription, and a frame that ends where the datagram ends.

use bytes::{Buf, Bytes};

use super::{
    codec::{self, DecodeError},
    frame::Frame,
    message::Publication,
};

/// Name of the optional part of the protocol in `Hello` and `Welcome` (PROTOCOL §4.1, §5.6).
pub const FEATURE: &str = "datagram";

/// The first bytes of a datagram for a subscription: its id. The frame of a publication follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    bytes: [u8; 9],
    length: u8,
}

impl Head {
    /// For the subscription with this id.
    #[must_use]
    pub fn new(subscription: u64) -> Self {
        let mut bytes = [0; 9];
        // At most nine.
        let length = codec::push_integer(&mut bytes, subscription).len() as u8;
        Self { bytes, length }
    }

    /// Its bytes: one up to the id 250, nine at most.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

/// Takes a datagram apart: the id of its subscription, and the publication, or `None` where the frame is of another type and the
/// datagram to be passed over.
///
/// # Errors
/// [`DecodeError`]: it is none, or its frame does not end where it ends.
pub fn decode(datagram: &Bytes) -> Result<(u64, Option<Publication>), DecodeError> {
    let mut rest = datagram.clone();
    let integer = |rest: &mut Bytes| {
        let (value, width) = codec::peek_integer(rest)?.ok_or(DecodeError::Truncated)?;
        rest.advance(width);
        Ok(value)
    };
    let subscription = integer(&mut rest)?;
    let length = integer(&mut rest)?;
    if length == 0 {
        return Err(DecodeError::Empty);
    }
    if length != rest.len() as u64 {
        return Err(DecodeError::Truncated);
    }
    let kind = integer(&mut rest)?;
    let raw = codec::RawFrame { kind, body: rest };
    Ok((
        subscription,
        match Frame::decode(&raw)? {
            Some(Frame::Publication(publication)) => Some(publication),
            _ => None,
        },
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Message;

    fn datagram(subscription: u64, frame: &[u8]) -> Bytes {
        [Head::new(subscription).as_bytes(), frame].concat().into()
    }

    #[test]
    fn a_datagram_is_an_id_and_one_whole_frame() {
        let publication = Publication {
            offset: 300,
            time: 5,
            publisher: None,
            message: Message::text("hi"),
        };
        let frame = Frame::from(publication.clone()).encode();
        for id in [1, 250, 251, u64::MAX] {
            let whole = datagram(id, &frame);
            assert_eq!(decode(&whole), Ok((id, Some(publication.clone()))));
            for cut in 0..whole.len() {
                decode(&whole.slice(..cut)).unwrap_err();
            }
            decode(&[&whole[..], &[0]].concat().into()).unwrap_err();
        }
        assert_eq!(decode(&datagram(7, &[2, 0x7f, 1])), Ok((7, None)));
        assert_eq!(decode(&datagram(7, &[0])), Err(DecodeError::Empty));
    }
}
