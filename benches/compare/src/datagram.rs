//! What the floor of UDP sends: the bytes that a QUIC packet would have, the stream's in clear.

/// Bytes of a QUIC packet that are not the stream's: short header with a connection id of 8 bytes, a packet number of 2, a
/// STREAM frame's header with an offset of 4 and a length of 2, and 16 bytes of AEAD. The number of the connection stands in
/// their beginning.
pub const HEAD: usize = 1 + 8 + 2 + (1 + 1 + 4 + 2) + 16;
/// Longest datagram: where quinn's discovery ends on a path with an MTU of 1500.
pub const SEGMENT: usize = 1452;

/// The datagrams that carry `stream`, one after the other, each but the last [`SEGMENT`] long.
#[must_use]
pub fn pack(stream: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for piece in stream.chunks(SEGMENT - HEAD) {
        out.resize(out.len() + HEAD, 0);
        out.extend_from_slice(piece);
    }
    out
}

/// Writes the number of the connection into a datagram.
pub fn set_index(datagram: &mut [u8], index: usize) {
    datagram[..4].copy_from_slice(&(index as u32).to_le_bytes());
}

/// The number of the connection.
#[must_use]
pub fn index(datagram: &[u8]) -> Option<usize> {
    let (index, _) = datagram.split_first_chunk()?;
    Some(u32::from_le_bytes(*index) as usize)
}

/// The first word of a client, and the head of every datagram.
#[must_use]
pub fn hello(index: usize) -> [u8; HEAD] {
    let mut datagram = [0; HEAD];
    set_index(&mut datagram, index);
    datagram
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_packed_into_full_datagrams() {
        let stream: Vec<u8> = (0..=255).cycle().take(3000).collect();
        let mut packed = pack(&stream);
        let sizes: Vec<_> = packed.chunks(SEGMENT).map(<[u8]>::len).collect();
        assert_eq!(
            sizes,
            [SEGMENT, SEGMENT, 3000 - 2 * (SEGMENT - HEAD) + HEAD]
        );
        packed.chunks_mut(SEGMENT).for_each(|one| set_index(one, 5));
        assert!(packed.chunks(SEGMENT).all(|one| index(one) == Some(5)));
        let unpacked: Vec<u8> = packed
            .chunks(SEGMENT)
            .flat_map(|one| one[HEAD..].to_vec())
            .collect();
        assert_eq!(unpacked, stream);
    }
}
