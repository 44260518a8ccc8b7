//! Arbitrary bytes in arbitrary chunks: the first byte is the chunk size, the second the limit in units of 64 bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidings::wire::{DecodeError, Decoder, codec::RawFrame, frame::Frame};

fuzz_target!(|input: &[u8]| {
    let [size, limit, stream @ ..] = input else {
        return;
    };
    let limit = usize::from(*limit) * 64;
    let (raws, end) = cut(stream, usize::from(*size) + 1, limit);
    assert!(
        2 * raws.len() <= stream.len(),
        "a frame takes two bytes or more"
    );
    assert_eq!(
        (&raws, &end),
        (
            &cut(stream, stream.len().max(1), limit).0,
            &cut(stream, stream.len().max(1), limit).1
        ),
        "chunks make no difference"
    );
    for raw in &raws {
        let _ = Frame::request_id(raw);
        let Ok(Some(frame)) = Frame::decode(raw) else {
            continue;
        };
        let written = frame.encode();
        let (again, end) = cut(&written, written.len(), written.len());
        let [again] = &again[..] else {
            panic!("one frame: {frame:?}");
        };
        assert_eq!(end, Ok(true));
        assert_eq!(Frame::decode(again).as_ref(), Ok(&Some(frame)));
        // What was written is the shortest form, and the only one of its length.
        assert!(again.body.len() <= raw.body.len());
        if again.body.len() == raw.body.len() {
            assert_eq!(again, raw);
        }
    }
});

/// The frames of a stream, and whether it ends between two of them.
fn cut(stream: &[u8], size: usize, limit: usize) -> (Vec<RawFrame>, Result<bool, DecodeError>) {
    let mut decoder = Decoder::new(limit);
    let mut raws = Vec::new();
    for chunk in stream.chunks(size) {
        decoder.extend(chunk);
        loop {
            match decoder.next_frame() {
                Ok(Some(raw)) => {
                    assert!(raw.body.len() < limit);
                    raws.push(raw);
                }
                Ok(None) => break,
                Err(error) => return (raws, Err(error)),
            }
        }
    }
    (raws, Ok(decoder.is_empty()))
}
