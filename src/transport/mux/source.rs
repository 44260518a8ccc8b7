//! The unidirectional streams of the server, which a [`Source`] writes.

use std::{
    net::SocketAddr,
    sync::{Arc, Weak, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use quinn_proto::Dir;

use super::{Connection, Interest, RecvStream, SendStream, Shared, State};
use crate::{
    transport::{
        Closed, OpenError,
        source::{self, Gone, Source, UniStream, Written},
    },
    wire::Code,
};

impl Shared {
    fn source(&self) -> Option<Arc<dyn Source>> {
        self.source.get().and_then(Weak::upgrade)
    }

    /// Tells the source what happened to a stream of its own.
    pub(super) fn tell(&self, state: &mut State, event: Interest) {
        let (Interest::Writable(id) | Interest::Stopped(id)) = event else {
            return;
        };
        let stream = UniStream(id);
        let Some(source) = self.source().filter(|_| id.dir() == Dir::Uni) else {
            return;
        };
        match (event, state.stopped(id)) {
            (Interest::Writable(_), _) => source.writable(stream),
            (_, Ok(Some(_))) => source.stopped(stream, &mut streams(state)),
            (_, Ok(None)) => {}
            (_, Err(_)) => source.finished(stream),
        }
        self.fill.store(true, Ordering::SeqCst);
    }

    /// Lets the source write, where it is to be asked.
    pub(super) fn fill(&self, state: &mut State) {
        if self.fill.swap(false, Ordering::SeqCst)
            && state.error.is_none()
            && let Some(source) = self.source()
        {
            source.fill(&mut streams(state));
        }
    }
}

fn streams(state: &mut State) -> source::Streams<'_> {
    Streams(state).into()
}

impl Connection {
    /// The next bidirectional stream of the peer. Cancel safe.
    pub(in crate::transport) async fn accept_bi(&self) -> Result<(SendStream, RecvStream), Closed> {
        let accept = |state: &mut State| state.accept(Dir::Bi);
        Ok(self.both(self.until(Interest::Accept(Dir::Bi), accept).await?))
    }

    pub(in crate::transport) fn remote_address(&self) -> SocketAddr {
        self.0.peer
    }

    pub(in crate::transport) fn rtt(&self) -> Duration {
        Duration::from_micros(self.0.rtt.load(Ordering::Relaxed))
    }

    /// Who writes its unidirectional streams from now on; the first call counts.
    pub(in crate::transport) fn set_source(&self, source: Weak<dyn Source>) {
        let _ = self.0.source.set(source);
    }

    pub(in crate::transport) fn prompt(&self) -> Prompt {
        Prompt(Arc::clone(&self.0))
    }

    /// The streams, where nothing is there to be sent after it.
    pub(in crate::transport) fn arrange<T>(
        &self,
        work: impl FnOnce(&mut source::Streams<'_>) -> T,
    ) -> T {
        work(&mut streams(&mut self.lock()))
    }

    /// The same where something may be.
    pub(in crate::transport) fn with_streams(&self, work: impl FnOnce(&mut source::Streams<'_>)) {
        self.arrange(work);
        self.0.drive();
    }

    pub(in crate::transport) fn set_receive_window(&self, bytes: u64) {
        self.with(|state| state.set_window(bytes));
    }
}

/// Asks for a connection's source to be asked. It does not keep the connection.
#[derive(Debug, Clone)]
pub(in crate::transport) struct Prompt(Arc<Shared>);

impl Prompt {
    pub(in crate::transport) fn prompt(&self) {
        self.0.fill.store(true, Ordering::SeqCst);
        self.0.drive();
    }
}

/// The streams of a connection that is locked.
pub(in crate::transport) struct Streams<'a>(&'a mut State);

impl Streams<'_> {
    pub(in crate::transport) fn write(
        &mut self,
        stream: UniStream,
        chunks: &mut Vec<Bytes>,
    ) -> Result<Written, Gone> {
        let all = self.0.write(stream.0, chunks).ok_or(Gone)?;
        chunks.retain(|chunk| !chunk.is_empty());
        Ok(if all { Written::All } else { Written::Blocked })
    }

    pub(in crate::transport) fn open(&mut self) -> Result<UniStream, OpenError> {
        match self.0.open(Dir::Uni) {
            Some(stream) => Ok(UniStream(stream)),
            None if self.0.error.is_some() => Err(OpenError::Closed),
            None => Err(OpenError::NoStreamLeft),
        }
    }

    pub(in crate::transport) fn set_priority(&mut self, stream: UniStream, priority: i32) {
        self.0.set_priority(stream.0, priority);
    }

    pub(in crate::transport) const fn hurry(&mut self) {
        self.0.hurry();
    }

    pub(in crate::transport) fn finish(&mut self, stream: UniStream) {
        self.0.finish(stream.0);
    }

    pub(in crate::transport) fn reset(&mut self, stream: UniStream, code: Code) {
        self.0.reset(stream.0, code);
    }
}
