//! The streams that the server opens on a connection, as they arrive.

use std::{future::pending, time::Duration};

use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::time::timeout;

use super::{
    VIOLATIONS,
    lane::{Frames, Lane, Told},
    mailbox::Incoming,
};
use crate::{
    transport::{FrameReader, RecvStream, peer_log::throttled},
    wire::frame::Frame,
};

/// Time that the header of a stream may take; the stream is given up after it.
const HEADER: Duration = Duration::from_secs(10);
/// Longest header, in bytes.
const HEADER_BYTES: usize = 4096;

/// Most lanes of a connection: a server has one for each priority.
const LANES: usize = 8;

/// Streams whose header is awaited, and lanes that are read.
pub(super) struct Arrivals {
    max_frame: usize,
    headers: FuturesUnordered<BoxFuture<'static, Option<First>>>,
    lanes: FuturesUnordered<BoxFuture<'static, (Lane, Told)>>,
}

/// What a stream turned out to be.
enum First {
    Own(Incoming),
    Lane(Lane),
}

/// What there is to do.
pub(super) enum Arrived {
    /// A subscription begins.
    Stream(Incoming),
    /// A subscription that is not read any more is to be ended.
    Unwanted(u64),
}

impl Arrivals {
    pub(super) fn new(max_frame: usize) -> Self {
        Self {
            max_frame,
            headers: FuturesUnordered::new(),
            lanes: FuturesUnordered::new(),
        }
    }

    pub(super) fn accept(&self, stream: RecvStream) {
        self.headers
            .push(read_header(stream, self.max_frame).boxed());
    }

    /// What arrives next; waits, if need be for ever. Cancel safe.
    pub(super) async fn next(&mut self) -> Arrived {
        loop {
            tokio::select! {
                Some(first) = self.headers.next(), if !self.headers.is_empty() => match first {
                    Some(First::Own(incoming)) => return Arrived::Stream(incoming),
                    // Dropping a stream stops it.
                    Some(First::Lane(_)) if self.lanes.len() >= LANES => {
                        throttled!(VIOLATIONS, warn, "the server opens more lanes than there are priorities");
                    }
                    Some(First::Lane(lane)) => self.lanes.push(read(lane).boxed()),
                    None => {}
                },
                Some((lane, told)) = self.lanes.next(), if !self.lanes.is_empty() => {
                    let arrived = match told {
                        Told::Begins(incoming) => Arrived::Stream(incoming),
                        Told::Unwanted(subscription) => Arrived::Unwanted(subscription),
                        Told::Over => continue,
                    };
                    self.lanes.push(read(lane).boxed());
                    return arrived;
                },
                else => pending().await,
            }
        }
    }
}

async fn read(mut lane: Lane) -> (Lane, Told) {
    let told = lane.read().await;
    (lane, told)
}

/// The header of a stream, within its time and as small as headers are; `None` gives the stream up.
async fn read_header(stream: RecvStream, max_frame: usize) -> Option<First> {
    let mut reader = FrameReader::new(stream, HEADER_BYTES);
    let header = async {
        loop {
            match Frame::decode(&reader.next().await.ok()??) {
                Ok(Some(Frame::Header(header))) => return Some(Some(header)),
                Ok(Some(Frame::Lane(_))) => return Some(None),
                Ok(None) => {}
                Ok(Some(_)) | Err(_) => return None,
            }
        }
    };
    let header = timeout(HEADER, header).await.ok().flatten()?;
    reader.set_max_frame(max_frame);
    Some(match header {
        Some(header) => First::Own(Incoming {
            header,
            reader: Frames::Own(reader),
            // The registry knows.
            connection: 0,
            datagrams: None,
        }),
        None => First::Lane(Lane::new(reader)),
    })
}
