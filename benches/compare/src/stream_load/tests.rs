use super::{testing::options, *};

/// Keeps the messages, each of which is its length and so many bytes.
struct Keeper(Vec<Vec<u8>>);

impl Codec for Keeper {
    fn new(_index: usize, _channels: usize) -> Self {
        Self(Vec::new())
    }

    fn open(&mut self, _out: &mut Vec<u8>) {}

    fn read(
        &mut self,
        bytes: &[u8],
        _out: &mut Vec<u8>,
        _on: &mut impl FnMut(Event<'_>),
    ) -> Result<usize> {
        let mut used = 0;
        while let Some((length, rest)) = bytes[used..].split_first() {
            let Some(message) = rest.get(..usize::from(*length)) else {
                break;
            };
            self.0.push(message.to_vec());
            used += 1 + message.len();
        }
        Ok(used)
    }

    fn publish(&mut self, _channel: usize, _payload: &[u8], _out: &mut Vec<u8>) {}
}

#[test]
fn messages_of_several_streams_do_not_mix() {
    let address = ([127, 0, 0, 1], 0).into();
    let mut load = Load::new(&options(address, &[])).expect("a load without connections");
    let mut pipe = Pipe::<Keeper>::new(0, 1);
    for (inlet, bytes) in [
        (0, &b"\x03a"[..]),
        (2, b"\x02x"),
        (0, b"b"),
        (2, b"y\x01z"),
        (0, b"c"),
    ] {
        pipe.receive(inlet, bytes, &mut load)
            .expect("bytes that are right");
    }
    assert_eq!(pipe.codec.0, [&b"xy"[..], b"z", b"abc"]);
}
