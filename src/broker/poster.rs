//! A log of one session's own, for what user code posts to one client.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use super::{
    Broker, PublishError,
    audience::{Audience, Due},
    channel::{Channel, Given, Refused},
    publishing::refuse_reserved,
    reader::Reader,
};
use crate::wire::{Message, Position, Start, draft::Draft};

/// Writes to a log of its own; dropping it ends the log for its reader.
#[derive(Debug)]
pub(crate) struct Poster {
    pub(super) channel: Arc<Channel>,
    pub(super) broker: Broker,
}

impl Poster {
    /// Its reader; `None` after the end of the log, which is never while this lives.
    pub(crate) fn reader(
        &self,
        audience: &Audience,
        due: &Arc<dyn Due>,
        key: u32,
    ) -> Option<Reader> {
        let (start, seat) = self
            .channel
            .sit(audience, Arc::clone(due), key, Start::Head)
            .ok()?;
        let cursor = self.broker.cursor(Arc::clone(&self.channel), start);
        Some(Reader::new(cursor, seat))
    }

    /// Posts what is new: refused like any publication when the broker is closed, so that a reader that is then at the head has
    /// everything.
    pub(crate) fn post(
        &self,
        publisher: Option<&str>,
        message: &Message,
    ) -> Result<Position, PublishError> {
        refuse_reserved(message)?;
        self.append(publisher, message, &self.broker.inner.closed)
    }

    /// Posts what became of a publication that was accepted before: it is delivered though the broker is closed, to a reader that
    /// reads until the poster is dropped.
    pub(crate) fn relay(
        &self,
        publisher: Option<&str>,
        message: &Message,
    ) -> Result<Position, PublishError> {
        self.append(publisher, message, &AtomicBool::new(false))
    }

    fn append(
        &self,
        publisher: Option<&str>,
        message: &Message,
        closed: &AtomicBool,
    ) -> Result<Position, PublishError> {
        self.broker.check_size(message)?;
        if self.channel.readers() == 0 {
            // In this order: a reader that left because of the flag left after it was set.
            let closed = closed.load(Ordering::SeqCst);
            return Err(if closed {
                PublishError::Closed
            } else {
                PublishError::Ended
            });
        }
        self.channel
            .publish(
                self.broker.present(),
                Draft::new(publisher, message),
                Given::default(),
                closed,
            )
            .map(|accepted| accepted.position)
            .map_err(|refused| match refused {
                Refused::Closed => PublishError::Closed,
                Refused::Overloaded => PublishError::Overloaded,
                Refused::MemoryQuota { max } => PublishError::MemoryQuota { max },
                Refused::Evicted(_) | Refused::KeyReused => PublishError::Ended,
            })
    }
}

impl Drop for Poster {
    fn drop(&mut self) {
        self.channel.end();
    }
}
