//! A connection over one ordered stream of bytes, where UDP does not get through: QMux (draft-ietf-quic-qmux-02), which is QUIC's
//! streams and flow control without its packets, over a WebSocket (PROTOCOL §2.4).
//!
//! [`State`](state::State) is pure; the [`pump`](pump::Pump) moves bytes between it and the socket, and asks the connection's
//! [`Source`] what to write when the socket takes more: what is to be fresh is chosen as late here as over QUIC.

mod frame;
mod pump;
mod recv;
mod send;
#[cfg(feature = "server")]
mod source;
mod state;
mod stream;
#[cfg(test)]
mod tests;

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::{Poll, Waker},
    time::Duration,
};

use futures_util::task::AtomicWaker;
#[cfg(feature = "client")]
use quinn_proto::Dir;
use quinn_proto::{Side, StreamId};
use tokio::time::timeout;

#[cfg(feature = "server")]
use super::Source;
use super::{Closed, LINGER};
use crate::wire::Code;

pub(super) use frame::RECORD;
pub(super) use pump::{Times, pump};
#[cfg(feature = "server")]
pub(super) use source::{Prompt, Streams};
pub(super) use state::Config;
pub(super) use stream::{RecvStream, SendStream};

use state::{Interest, State};

/// What all who use a connection share.
pub(super) struct Shared {
    peer: SocketAddr,
    /// Its source is to be asked.
    #[cfg(feature = "server")]
    fill: std::sync::atomic::AtomicBool,
    /// Handles that can use it: when the last goes, it is closed.
    handles: AtomicUsize,
    #[cfg(feature = "server")]
    source: std::sync::OnceLock<std::sync::Weak<dyn Source>>,
    /// The last round trip, in microseconds.
    rtt: AtomicU64,
    /// Whoever moves the bytes. Not in the state: a source that writes may ask to be asked again.
    pump: AtomicWaker,
    state: Mutex<State>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}

impl Shared {
    /// One side of a connection with `peer`, which gives up after `idle` of silence.
    pub(super) fn new(side: Side, peer: SocketAddr, config: Config, idle: Duration) -> Arc<Self> {
        let idle = u64::try_from(idle.as_millis()).unwrap_or(u64::MAX >> 2);
        Arc::new(Self {
            peer,
            #[cfg(feature = "server")]
            fill: std::sync::atomic::AtomicBool::new(false),
            handles: AtomicUsize::new(0),
            #[cfg(feature = "server")]
            source: std::sync::OnceLock::new(),
            rtt: AtomicU64::new(0),
            pump: AtomicWaker::new(),
            state: Mutex::new(State::new(side, config, idle)),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// There may be something to send.
    fn drive(&self) {
        self.pump.wake();
    }

    /// The socket is gone.
    fn cut_off(&self, closed: Closed) {
        let wakers = {
            let mut state = self.lock();
            state.gone = true;
            state.end(closed)
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Passes on what happened, and lets the source write.
    fn dispatch(&self, state: &mut State, wakers: &mut Vec<Waker>) {
        while !state.events.is_empty() {
            for event in std::mem::take(&mut state.events) {
                if event == Interest::Closed
                    && let Some(error) = state.error.clone()
                {
                    wakers.extend(state.end(error));
                }
                let mut woken = state.wake(event, wakers);
                // Whoever writes by hand learns it, too.
                if let Interest::Stopped(id) = event {
                    woken |= state.wake(Interest::Writable(id), wakers);
                }
                #[cfg(feature = "server")]
                if !woken {
                    self.tell(state, event);
                }
                let _ = woken;
            }
        }
        #[cfg(feature = "server")]
        self.fill(state);
    }
}

/// A handle of a connection. When the last one and the last stream that is held are dropped, it is closed.
pub(super) struct Connection(Arc<Shared>);

impl Connection {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        shared.handles.fetch_add(1, Ordering::Relaxed);
        Self(shared)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock()
    }

    /// Polls `look` whenever `interest` is told, until it finds something or the connection is over.
    async fn until<T>(
        &self,
        interest: Interest,
        mut look: impl FnMut(&mut State) -> Option<T>,
    ) -> Result<T, Closed> {
        std::future::poll_fn(|cx| {
            let mut state = self.lock();
            if let Some(found) = look(&mut state) {
                return Poll::Ready(Ok(found));
            }
            if let Some(error) = &state.error {
                return Poll::Ready(Err(error.clone()));
            }
            state.wait(interest, cx.waker());
            Poll::Pending
        })
        .await
    }

    fn both(&self, id: StreamId) -> (SendStream, RecvStream) {
        (
            SendStream::new(self.clone(), id),
            RecvStream::new(self.clone(), id),
        )
    }

    /// Changes the state; there may be something to send after it.
    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        let done = work(&mut self.lock());
        self.0.drive();
        done
    }

    /// Closes it: what was written and not sent is lost.
    pub(super) fn close(&self, code: Code, reason: &str) {
        let wakers = self.lock().close(code, reason);
        wakers.into_iter().for_each(Waker::wake);
        self.0.drive();
    }

    /// The same, and waits until the peer knows, or cannot be told.
    pub(super) async fn close_and_linger(&self, code: Code, reason: &str) {
        self.close(code, reason);
        let gone = std::future::poll_fn(|cx| {
            let mut state = self.lock();
            if state.gone {
                return Poll::Ready(());
            }
            state.wait(Interest::Gone, cx.waker());
            Poll::Pending
        });
        // The pump has bounds of its own: this is for one that is not polled.
        let _ = timeout(2 * LINGER, gone).await;
    }

    /// Waits for the end. Cancel safe.
    pub(super) async fn closed(&self) -> Closed {
        let ended = self.until(Interest::Closed, |state| state.error.clone());
        match ended.await {
            Ok(closed) | Err(closed) => closed,
        }
    }
}

#[cfg(feature = "client")]
impl Connection {
    /// The next unidirectional stream of the peer. Cancel safe.
    pub(super) async fn accept_uni(&self) -> Result<RecvStream, Closed> {
        let accept = |state: &mut State| state.accept(Dir::Uni);
        let id = self.until(Interest::Accept(Dir::Uni), accept).await?;
        Ok(RecvStream::new(self.clone(), id))
    }

    /// Opens a bidirectional stream; waits where the peer permits none now. Cancel safe.
    pub(super) async fn open_bi(&self) -> Result<(SendStream, RecvStream), Closed> {
        let open = |state: &mut State| state.open(Dir::Bi);
        Ok(self.both(self.until(Interest::Open(Dir::Bi), open).await?))
    }

    /// Records that came from the peer.
    pub(super) fn heard(&self) -> u64 {
        self.lock().heard
    }
}

impl Clone for Connection {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.0))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if self.0.handles.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.close(Code::CLOSED, "");
        }
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("peer", &self.0.peer)
            .finish_non_exhaustive()
    }
}
