//! Datagrams of several connections, sent one behind the other: the system's code for sending is then in the processor's caches from
//! the second on, and who receives them on the same machine is woken once.

use quinn_proto::Transmit;

use super::socket::{Blocked, Socket};

/// Calls of the system that are made in a row. As many connections wait for each other, for about 0.1 ms.
const BATCH: usize = 32;

/// What is to be sent, in its order.
pub(super) struct Outbox {
    /// The first `len` are to be sent; the others keep their memory, [`MAX_SEGMENTS`](super::MAX_SEGMENTS) datagrams at most.
    letters: Vec<Letter>,
    len: usize,
    /// The socket takes no more for now.
    blocked: bool,
}

/// What one call sends.
#[derive(Default)]
struct Letter {
    transmit: Option<Transmit>,
    bytes: Vec<u8>,
}

impl Outbox {
    pub(super) const fn new() -> Self {
        Self {
            letters: Vec::new(),
            len: 0,
            blocked: false,
        }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Nothing may be [written](Self::write) then, until a [flush](Self::flush) has sent everything.
    pub(super) const fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// Lets `write` fill an empty buffer with what one call is to send, and sends everything when it is enough for a batch. Returns
    /// the number of datagrams that were written.
    pub(super) fn write(
        &mut self,
        socket: &mut Socket,
        write: impl FnOnce(&mut Vec<u8>) -> Option<Transmit>,
    ) -> Option<usize> {
        if self.letters.len() == self.len {
            self.letters.push(Letter::default());
        }
        let letter = &mut self.letters[self.len];
        letter.bytes.clear();
        let transmit = write(&mut letter.bytes)?;
        let segment = transmit.segment_size.unwrap_or(transmit.size);
        let datagrams = transmit.size.div_ceil(segment.max(1));
        letter.transmit = Some(transmit);
        self.len += 1;
        if self.len == BATCH {
            self.flush(socket);
        }
        Some(datagrams)
    }

    /// Sends what there is, as far as the socket takes it.
    pub(super) fn flush(&mut self, socket: &mut Socket) {
        self.blocked = false;
        let mut sent = 0;
        for letter in &mut self.letters[..self.len] {
            if let Some(transmit) = &mut letter.transmit
                && let Err(Blocked { sent: taken }) = socket.send(transmit, &letter.bytes)
            {
                transmit.size -= taken;
                letter.bytes.drain(..taken);
                self.blocked = true;
                break;
            }
            sent += 1;
        }
        self.letters[..self.len].rotate_left(sent);
        self.len -= sent;
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        net::{Ipv4Addr, UdpSocket},
        time::Duration,
    };

    use super::*;

    #[tokio::test]
    async fn what_the_socket_does_not_take_is_sent_later_and_in_order() {
        let bind = || UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let peer = bind();
        // What is lost fails the test instead of hanging it.
        peer.set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        let mut socket = Socket::new(bind()).unwrap();
        std::future::poll_fn(|cx| socket.poll_writable(cx)).await;
        let mut calls = 0;
        socket.faults.write = Some(Box::new(move |_| {
            calls += 1;
            match calls {
                4 => Err(io::ErrorKind::WouldBlock.into()),
                _ => Ok(()),
            }
        }));
        let mut outbox = Outbox::new();
        let mut write = |outbox: &mut Outbox, number: u8| {
            let written = outbox.write(&mut socket, |bytes| {
                bytes.extend([number; 25]);
                Some(Transmit {
                    destination: peer.local_addr().unwrap(),
                    ecn: None,
                    size: 25,
                    segment_size: None,
                    src_ip: None,
                })
            });
            assert_eq!(written, Some(1));
        };
        let batch = BATCH as u8;
        for number in 0..batch {
            assert!(!outbox.is_blocked());
            write(&mut outbox, number);
        }
        assert!(outbox.is_blocked() && !outbox.is_empty());
        outbox.flush(&mut socket);
        assert!(!outbox.is_blocked() && outbox.is_empty());
        for number in 0..batch {
            let mut buffer = [0; 100];
            let size = peer.recv(&mut buffer).unwrap();
            assert_eq!(buffer[..size], [number; 25]);
        }
        assert_eq!(outbox.write(&mut socket, |_| None), None);
        assert!(outbox.is_empty());
    }
}
