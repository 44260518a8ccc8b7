//! Reading zenoh's messages.

use anyhow::{Context, Result};

use super::{BIT_5, BIT_6, EXTENSIONS};

/// The rest of a batch.
#[derive(Debug)]
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn byte(&mut self) -> Result<u8> {
        Ok(self.bytes(1)?[0])
    }

    pub(super) fn bytes(&mut self, length: usize) -> Result<&'a [u8]> {
        let (bytes, rest) = self
            .0
            .split_at_checked(length)
            .context("a message is cut off")?;
        self.0 = rest;
        Ok(bytes)
    }

    /// Seven bits a byte, the lowest first; the ninth byte has eight.
    pub(super) fn number(&mut self) -> Result<u64> {
        let mut value = 0;
        for shift in (0..56).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Ok(value | u64::from(self.byte()?) << 56)
    }

    pub(super) fn number_if(&mut self, flag: u8) -> Result<u64> {
        if flag == 0 { Ok(0) } else { self.number() }
    }

    /// Bytes after their number.
    pub(super) fn counted(&mut self) -> Result<&'a [u8]> {
        let length = self.number()?;
        self.bytes(usize::try_from(length).context("a length beyond all memory")?)
    }

    pub(super) fn bytes_if(&mut self, flag: u8) -> Result<&'a [u8]> {
        if flag == 0 { Ok(&[]) } else { self.counted() }
    }

    /// Passes over the extensions of a message that begins with `first`. Each says how it is encoded, and whether another follows.
    pub(super) fn extensions_if(&mut self, first: u8) -> Result<()> {
        let mut more = first & EXTENSIONS != 0;
        while more {
            let head = self.byte()?;
            match head & (BIT_5 | BIT_6) {
                0 => {}
                BIT_5 => _ = self.number()?,
                _ => _ = self.counted()?,
            }
            more = head & EXTENSIONS != 0;
        }
        Ok(())
    }
}
