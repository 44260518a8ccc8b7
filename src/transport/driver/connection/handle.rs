//! What others hold of a connection.

use std::{
    net::SocketAddr,
    sync::{Arc, MutexGuard, Weak, atomic::Ordering},
    task::Poll,
    time::{Duration, Instant},
};

use bytes::Bytes;
use quinn_proto::{ConnectionError, Dir, StreamId, VarInt};

use super::{Acknowledgement, Interest, Shared, State};
use crate::{
    transport::{
        driver::stream::{RecvStream, SendStream},
        sockets::canonical,
        source::{Source, Streams},
    },
    wire::Code,
};

/// Asks for a connection's source to be asked. It does not keep the connection.
#[derive(Clone)]
pub(in crate::transport) struct Prompt(Arc<Shared>);

impl Prompt {
    /// [`Source::fill`] is called soon.
    pub(in crate::transport) fn prompt(&self) {
        self.0.fill.store(true, Ordering::SeqCst);
        self.0.drive();
    }
}

/// Ends a handshake whose place another client took. It does not keep the connection.
pub(in crate::transport::driver) struct Evicted(Weak<Shared>);

impl Evicted {
    /// Closes the connection, and forgets it without the time that QUIC gives one to drain (RFC 9000 §10.2): a flood would fill memory
    /// with those.
    pub(in crate::transport::driver) fn abandon(&self) {
        let Some(shared) = self.0.upgrade() else {
            return;
        };
        {
            let mut state = shared.lock();
            if state.error.is_some() {
                return;
            }
            state.abandoned = true;
        }
        let reason = Bytes::from_static(b"too many handshakes are in flight");
        shared.close(shared.code(Code::OVERLOADED), reason);
    }
}

/// A handle of a connection. When the last one and the last stream that is held are dropped, it is closed.
pub(in crate::transport) struct Connection(Arc<Shared>);

impl Connection {
    pub(in crate::transport::driver) fn new(shared: Arc<Shared>) -> Self {
        shared.handles.fetch_add(1, Ordering::Relaxed);
        Self(shared)
    }

    pub(in crate::transport::driver) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock()
    }

    pub(in crate::transport::driver) fn downgrade(&self) -> Evicted {
        Evicted(Arc::downgrade(&self.0))
    }

    pub(in crate::transport::driver) fn drive(&self) {
        self.0.drive();
    }

    /// Whether HTTP/3 was negotiated, and its codes are in HTTP/3's space. Known when it is [`connected`](Self::connected).
    pub(in crate::transport) fn speaks_http3(&self) -> bool {
        self.0.http3.load(Ordering::Relaxed)
    }

    pub(in crate::transport) fn takes_datagrams(&self) -> bool {
        self.lock().proto.datagrams().max_size().is_some()
    }

    /// Who writes its unidirectional streams from now on; the first call counts.
    pub(in crate::transport) fn set_source(&self, source: Weak<dyn Source>) {
        let _ = self.0.source.set(source);
    }

    pub(in crate::transport) fn prompt(&self) -> Prompt {
        Prompt(Arc::clone(&self.0))
    }

    /// Waits for the end of the handshake. Cancel safe.
    pub(in crate::transport) async fn connected(&self) -> Result<(), ConnectionError> {
        self.until(Interest::Connected, |state| state.connected.then_some(()))
            .await
    }

    /// Polls `look` whenever `interest` is told, until it finds something or the connection is over.
    pub(in crate::transport::driver) async fn until<T>(
        &self,
        interest: Interest,
        mut look: impl FnMut(&mut State) -> Option<T>,
    ) -> Result<T, ConnectionError> {
        std::future::poll_fn(|cx| {
            let mut state = self.lock();
            if let Some(found) = look(&mut state) {
                return Poll::Ready(Ok(found));
            }
            if let Some(error) = &state.error {
                return Poll::Ready(Err(error.clone()));
            }
            state.wait(interest, cx);
            Poll::Pending
        })
        .await
    }

    /// The next bidirectional stream of the peer. Cancel safe.
    pub(in crate::transport) async fn accept_bi(
        &self,
    ) -> Result<(SendStream, RecvStream), ConnectionError> {
        let id = self.accept(Dir::Bi).await?;
        Ok((
            SendStream::new(self.clone(), id),
            RecvStream::new(self.clone(), id),
        ))
    }

    /// The next unidirectional stream of the peer. Cancel safe.
    pub(in crate::transport) async fn accept_uni(&self) -> Result<RecvStream, ConnectionError> {
        let id = self.accept(Dir::Uni).await?;
        Ok(RecvStream::new(self.clone(), id))
    }

    async fn accept(&self, dir: Dir) -> Result<StreamId, ConnectionError> {
        self.until(Interest::Accept(dir), |state| {
            state.proto.streams().accept(dir)
        })
        .await
    }

    /// A new unidirectional stream to be written by hand; waits until the peer permits it. Cancel safe.
    pub(in crate::transport) async fn open_uni_stream(
        &self,
    ) -> Result<SendStream, ConnectionError> {
        let open = |state: &mut State| state.proto.streams().open(Dir::Uni);
        let id = self.until(Interest::Open(Dir::Uni), open).await?;
        Ok(SendStream::new(self.clone(), id))
    }

    /// The streams, outside of [`Source::fill`].
    pub(in crate::transport) fn with_streams<T>(
        &self,
        work: impl FnOnce(&mut Streams<'_>) -> T,
    ) -> T {
        let done = self.arrange(work);
        self.drive();
        done
    }

    /// The same where nothing is there to be sent after it.
    pub(in crate::transport) fn arrange<T>(&self, work: impl FnOnce(&mut Streams<'_>) -> T) -> T {
        let http3 = self.0.http3.load(Ordering::Relaxed);
        work(&mut self.lock().streams(http3))
    }

    /// Closes it with a code as this connection writes it: what was written and not sent is lost.
    pub(in crate::transport) fn close(&self, code: Code, reason: &str) {
        self.close_unmapped(self.0.code(code), reason);
    }

    /// The same with a code that is none of ours.
    pub(in crate::transport) fn close_unmapped(&self, code: VarInt, reason: &str) {
        if self.close_reason().is_none() {
            self.0
                .close(code, Bytes::copy_from_slice(reason.as_bytes()));
        }
    }

    /// How it ended, if it has.
    pub(in crate::transport) fn close_reason(&self) -> Option<ConnectionError> {
        self.lock().error.clone()
    }

    /// Waits for the end. Cancel safe.
    pub(in crate::transport) async fn closed(&self) -> ConnectionError {
        let ended = self.until(Interest::Closed, |state| state.error.clone());
        match ended.await {
            Ok(error) | Err(error) => error,
        }
    }

    /// Packets that were lost.
    #[cfg(all(test, feature = "client"))]
    pub(in crate::transport) fn lost(&self) -> u64 {
        self.lock().proto.stats().path.lost_packets
    }

    /// Whether the client acknowledges nothing of what is in flight, for `limit`, although it sends. To be asked several times within `limit`.
    pub(in crate::transport) fn acknowledges_nothing(&self, limit: Duration) -> bool {
        let found = self.lock().acknowledgement(Instant::now(), limit);
        if found == Acknowledgement::Requested {
            self.drive();
        }
        found == Acknowledgement::Missing
    }

    pub(in crate::transport) fn rtt(&self) -> Duration {
        self.lock().proto.rtt()
    }

    pub(in crate::transport) fn remote_address(&self) -> SocketAddr {
        canonical(self.lock().proto.remote_address())
    }

    pub(in crate::transport) fn set_receive_window(&self, bytes: VarInt) {
        self.lock().proto.set_receive_window(bytes);
        self.drive();
    }
}

impl Clone for Connection {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.0))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if self.0.handles.fetch_sub(1, Ordering::AcqRel) == 1 && self.close_reason().is_none() {
            self.0.close(self.0.code(Code::CLOSED), Bytes::new());
        }
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("handle", &self.0.handle)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Prompt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Prompt").field(&self.0.handle).finish()
    }
}
