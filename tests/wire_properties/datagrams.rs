//! Datagrams (PROTOCOL §5.6).

use proptest::{collection::vec, prelude::*};
use tidings::wire::{datagram, frame::Frame};

use super::{
    decode_bound, heap,
    strategies::{change, frame, number, pieces},
};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_publication_comes_back_from_a_datagram_and_nothing_else_does(id in number(), frame in frame()) {
        let bytes = [datagram::Head::new(id).as_bytes(), &frame.encode()].concat();
        let publication = match frame {
            Frame::Publication(publication) => Some(publication),
            _ => None,
        };
        prop_assert_eq!(datagram::decode(&bytes.into()), Ok((id, publication)));
    }

    #[test]
    fn perturbed_datagrams_are_read_within_the_bounds(
        id in number(),
        frame in frame(),
        changes in vec(change(), 1..8),
    ) {
        let mut bytes = [datagram::Head::new(id).as_bytes(), &frame.encode()].concat();
        for change in changes {
            change.apply(&mut bytes);
        }
        within_bounds(bytes)?;
    }

    #[test]
    fn datagrams_of_plausible_pieces_are_read_within_the_bounds(mut bytes in pieces()) {
        within_bounds(bytes.clone())?;
        // With a head that fits.
        let length = u16::try_from(bytes.len() + 1).unwrap_or(u16::MAX).to_le_bytes();
        bytes.splice(..0, [9, 251, length[0], length[1], 0x61]);
        within_bounds(bytes)?;
    }
}

fn within_bounds(bytes: Vec<u8>) -> Result<(), TestCaseError> {
    let (length, bytes) = (bytes.len(), bytes.into());
    let (_, peak) = heap::peak(|| datagram::decode(&bytes));
    prop_assert!(peak <= decode_bound(length), "{peak} bytes of {length}");
    Ok(())
}
