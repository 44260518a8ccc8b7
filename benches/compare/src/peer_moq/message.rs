//! Writing and reading moq-lite's messages, whose integers are those of QUIC.

use anyhow::{Context, Result};
use quinn_proto::{VarInt, coding::Codec as _};

pub(super) fn number(value: u64, out: &mut Vec<u8>) {
    VarInt::from_u64(value)
        .expect("what a load writes is below 2^62")
        .encode(out);
}

pub(super) fn text(value: &str, out: &mut Vec<u8>) {
    number(value.len() as u64, out);
    out.extend_from_slice(value.as_bytes());
}

/// What `write` writes, after its length.
pub(super) fn sized(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let mut body = Vec::new();
    write(&mut body);
    number(body.len() as u64, out);
    out.extend_from_slice(&body);
}

/// The rest of what has come of a stream, or of a message. Where it is None, more has to come.
#[derive(Debug)]
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) const fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) const fn skip(&mut self) {
        self.0 = &[];
    }

    pub(super) fn number(&mut self) -> Option<u64> {
        VarInt::decode(&mut self.0).ok().map(VarInt::into_inner)
    }

    /// Bytes after their number.
    fn counted(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.number()?).ok()?;
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }

    pub(super) fn message(&mut self) -> Option<Self> {
        self.counted().map(Self)
    }

    /// A message after its type.
    pub(super) fn typed(&mut self) -> Option<(u64, Self)> {
        Some((self.number()?, self.message()?))
    }

    /// The payload of a frame, which stands after its time.
    pub(super) fn frame(&mut self) -> Option<&'a [u8]> {
        self.number()?;
        self.counted()
    }

    /// A number of a message that is whole.
    pub(super) fn whole_number(&mut self) -> Result<u64> {
        self.number().context("a message is cut off")
    }

    /// Text of a message that is whole.
    pub(super) fn text(&mut self) -> Result<&'a str> {
        let bytes = self.counted().context("a message is cut off")?;
        std::str::from_utf8(bytes).context("a name that is no text")
    }
}
