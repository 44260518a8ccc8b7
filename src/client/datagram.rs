//! Publications that come as datagrams (PROTOCOL §5.6): to whom they go, and how they meet what comes on the stream.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use bytes::Bytes;
use futures_util::FutureExt;
use tokio::sync::Notify;

use super::{lane::Frames, registry::Registry, subscription::read};
use crate::{
    transport::Connection,
    wire::{Offset, Publication, datagram, frame::Frame},
};

/// Publications that wait for their reader; of more the oldest go. Each is as large as a packet.
const INBOX: usize = 64;
/// Publications of subscriptions whose streams have not arrived; of more the oldest go.
const EARLY: usize = 64;

/// What came as datagrams for one subscription and was not read. Dropping it ends the delivery.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    waiting: Mutex<BTreeMap<Offset, Publication>>,
    arrived: Notify,
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Offset, Publication>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, publication: Publication) {
        {
            let mut waiting = self.lock();
            waiting.insert(publication.offset, publication);
            if waiting.len() > INBOX {
                waiting.pop_first();
            }
        }
        self.arrived.notify_one();
    }

    /// The first, if its offset is not above `most`.
    fn take(&self, most: Offset) -> Option<Publication> {
        let mut waiting = self.lock();
        let first = waiting.first_entry()?;
        (*first.key() <= most).then(|| first.remove())
    }
}

/// Where datagrams of one connection go.
#[derive(Debug, Default)]
pub(super) struct Inboxes {
    /// Those that were dropped go when another is opened.
    open: HashMap<u64, Weak<Inbox>>,
    early: VecDeque<(u64, Publication)>,
}

impl Inboxes {
    /// The stream of a subscription has arrived.
    pub(super) fn open(&mut self, subscription: u64) -> Arc<Inbox> {
        let inbox = Arc::<Inbox>::default();
        self.open.retain(|_, known| known.strong_count() > 0);
        self.open.insert(subscription, Arc::downgrade(&inbox));
        self.early.retain(|(id, publication)| {
            let other = *id != subscription;
            if !other {
                inbox.put(publication.clone());
            }
            other
        });
        inbox
    }

    /// A datagram came. What is none, or for nobody, is passed over.
    pub(super) fn put(&mut self, datagram: &Bytes) {
        let (subscription, publication) = match datagram::decode(datagram) {
            Ok((subscription, Some(publication))) => (subscription, publication),
            Ok((_, None)) => return,
            Err(error) => {
                tracing::debug!(%error, "a datagram of the server does not decode");
                return;
            }
        };
        match self.open.get(&subscription).map(Weak::upgrade) {
            Some(Some(inbox)) => inbox.put(publication),
            // Its reader is gone.
            Some(None) => {}
            None => {
                if self.early.len() == EARLY {
                    self.early.pop_front();
                }
                self.early.push_back((subscription, publication));
            }
        }
    }
}

/// Brings a stream and its datagrams together.
#[derive(Debug)]
pub(super) struct Merge {
    inbox: Arc<Inbox>,
    /// With its number.
    connection: (Connection, u64),
    /// Read from the stream and not given yet: a frame, or that it is over.
    held: Option<Option<Frame>>,
}

impl Merge {
    pub(super) const fn new(inbox: Arc<Inbox>, connection: Connection, number: u64) -> Self {
        Self {
            inbox,
            connection: (connection, number),
            held: None,
        }
    }

    /// The next of what is there, by offsets; before the end of the stream whatever came as a datagram. `None` where the stream is over.
    /// Cancel safe.
    pub(super) async fn next(&mut self, stream: &mut Frames, registry: &Registry) -> Option<Frame> {
        loop {
            if self.held.is_none() {
                self.held = read(stream).now_or_never();
            }
            if self.held.is_some() {
                // What came before it, or in the same packet, may not have been handed out yet.
                let (connection, number) = &self.connection;
                while let Some(Some(())) = registry.datagram(connection, *number).now_or_never() {}
            }
            let most = match &self.held {
                Some(Some(Frame::Publication(publication))) => publication.offset,
                _ => Offset::MAX,
            };
            if let Some(publication) = self.inbox.take(most) {
                return Some(publication.into());
            }
            match self.held.take() {
                // It stays over.
                Some(None) => {
                    self.held = Some(None);
                    return None;
                }
                Some(frame) => return frame,
                None => {}
            }
            tokio::select! {
                () = self.inbox.arrived.notified() => {}
                frame = read(stream) => self.held = Some(frame),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Message, datagram::Head};

    fn bytes(subscription: u64, offset: Offset) -> Bytes {
        let frame = Frame::from(Publication {
            offset,
            time: 0,
            publisher: None,
            message: Message::text("state"),
        });
        let head = Head::new(subscription);
        [head.as_bytes(), &frame.encode()].concat().into()
    }

    fn offsets(inbox: &Inbox) -> Vec<Offset> {
        std::iter::from_fn(|| Some(inbox.take(Offset::MAX)?.offset)).collect()
    }

    #[test]
    fn what_came_before_its_stream_waits_for_it_in_order() {
        let mut inboxes = Inboxes::default();
        for offset in [7, 5, 6, 5] {
            inboxes.put(&bytes(1, offset));
        }
        inboxes.put(&bytes(2, 9));
        assert_eq!(offsets(&inboxes.open(1)), [5, 6, 7]);
        assert_eq!(offsets(&inboxes.open(2)), [9]);
        assert!(inboxes.early.is_empty());
    }

    #[test]
    fn nothing_grows_beyond_its_bound() {
        let mut inboxes = Inboxes::default();
        for offset in 1..=200 {
            inboxes.put(&bytes(3, offset));
        }
        assert_eq!(inboxes.early.len(), EARLY);
        let inbox = inboxes.open(3);
        for offset in 201..=400 {
            inboxes.put(&bytes(3, offset));
        }
        assert_eq!(offsets(&inbox), (337..=400).collect::<Vec<_>>());
        drop(inbox);
        inboxes.put(&bytes(3, 401));
        assert!(inboxes.early.is_empty(), "its reader is gone");
        for id in 10..100 {
            drop(inboxes.open(id));
        }
        assert_eq!(inboxes.open.len(), 1);
        for garbage in [&b""[..], b"\xff\xff", b"\x03\x05", b"\x03\x00"] {
            inboxes.put(&Bytes::from_static(garbage));
        }
        assert!(inboxes.early.is_empty());
    }
}
