//! What comes from the peer.

use std::time::Duration;

use bytes::Bytes;
use quinn_proto::{Dir, StreamId};

use super::{Fault, Interest, State, code, index};
use crate::{
    transport::{
        Closed, cut_off,
        mux::{
            frame::{Frame, Parameters},
            recv::Recv,
            send::Send,
        },
    },
    wire::Code,
};

impl State {
    /// One record of the peer.
    pub(in crate::transport::mux) fn receive(&mut self, mut record: Bytes) {
        self.heard += 1;
        while !record.is_empty() && self.error.is_none() {
            let taken = Frame::decode(&mut record).map_err(Fault::from);
            let taken = taken.and_then(|frame| frame.map_or(Ok(()), |frame| self.take(frame)));
            if let Err(fault) = taken {
                self.fail(fault);
            }
        }
    }

    /// After how much silence the peer gives up, where it said so.
    pub(in crate::transport::mux) fn peer_idle(&self) -> Option<Duration> {
        let idle = self.peer.as_ref()?.idle;
        (idle > 0).then(|| Duration::from_millis(idle))
    }

    /// The peer went without a word, or after its last one.
    pub(in crate::transport::mux) fn leave(&mut self) {
        let closed = cut_off();
        self.over(closed.code, closed.reason);
    }

    /// The peer broke the rules.
    pub(in crate::transport::mux) fn fail(&mut self, fault: Fault) {
        // The last word is said once.
        if self.error.is_some() {
            return;
        }
        self.last = Some(Frame::Violation {
            code: fault.code,
            reason: fault.reason.to_owned(),
        });
        self.over(
            None,
            format!("the peer breaks the rules of QMux: {}", fault.reason),
        );
    }

    fn over(&mut self, code: Option<Code>, reason: String) {
        self.error.get_or_insert(Closed { code, reason });
        self.events.push(Interest::Closed);
    }

    fn take(&mut self, frame: Frame) -> Result<(), Fault> {
        if let Frame::Parameters(parameters) = frame {
            return self.begin(parameters);
        }
        if self.peer.is_none() {
            return Err(Fault::new(code::VIOLATION, "a frame before the parameters"));
        }
        match frame {
            Frame::Parameters(_) => {}
            Frame::Stream {
                id,
                offset,
                data,
                fin,
            } => {
                self.received += data.len() as u64;
                if self.received > self.announced {
                    return Err(Fault::new(
                        code::FLOW_CONTROL,
                        "more than all streams may have",
                    ));
                }
                let unread = self.recv(id)?.receive(offset, data, fin)?;
                self.consumed(id, unread);
                self.tell_once(Interest::Readable(id));
            }
            Frame::Reset { id, code, size } => {
                if self.is_retired(id)? {
                    return Ok(());
                }
                let unread = self.recv(id)?.reset(code, size)?;
                self.consumed(id, unread);
                self.tell_once(Interest::Readable(id));
            }
            Frame::Stop { id, code } => {
                if let Some(send) = self.send(id)?
                    && send.stopped.replace(code).is_none()
                {
                    self.events.push(Interest::Stopped(id));
                }
            }
            Frame::MaxData(max) => {
                self.limit = self.limit.max(max);
                self.unblock();
            }
            Frame::MaxStreamData { id, max } => {
                if let Some(send) = self.send(id)? {
                    send.raise(max);
                    self.unblock();
                }
            }
            Frame::MaxStreamsBidi(max) => self.permit(Dir::Bi, max),
            Frame::MaxStreamsUni(max) => self.permit(Dir::Uni, max),
            Frame::Ping(number) => self.pong = Some(number),
            Frame::Pong(number) => {
                if self.pinged == Some(number) {
                    self.pinged = None;
                }
            }
            Frame::Close { code, reason } => {
                let code = Code(u32::try_from(code).unwrap_or(u32::MAX));
                self.over(Some(code), reason);
            }
            Frame::Violation { code, reason } => {
                self.over(
                    None,
                    format!("the peer ended it with error {code:#x}: {reason}"),
                );
            }
        }
        Ok(())
    }

    fn begin(&mut self, parameters: Parameters) -> Result<(), Fault> {
        if self.peer.is_some() {
            return Err(Fault::new(code::VIOLATION, "parameters twice"));
        }
        self.limit = parameters.data;
        self.permit(Dir::Bi, parameters.streams_bidi);
        self.permit(Dir::Uni, parameters.streams_uni);
        self.peer = Some(parameters);
        Ok(())
    }

    fn permit(&mut self, dir: Dir, max: u64) {
        let ours = &mut self.ours[index(dir)];
        if max > ours.max {
            ours.max = max;
            self.events.push(Interest::Open(dir));
        }
    }

    /// Not once for each of many small frames.
    fn tell_once(&mut self, event: Interest) {
        if self.events.last() != Some(&event) {
            self.events.push(event);
        }
    }

    /// The receiving half of a stream was there, and is over.
    fn is_retired(&mut self, id: StreamId) -> Result<bool, Fault> {
        if id.initiator() != self.side {
            self.opened_by_peer(id)?;
            return Ok(!self.recvs.contains_key(&id));
        }
        let ours = id.dir() == Dir::Bi && id.index() < self.ours[0].opened;
        Ok(ours && !self.recvs.contains_key(&id))
    }

    /// The receiving half of a stream, which the peer may open with it.
    fn recv(&mut self, id: StreamId) -> Result<&mut Recv, Fault> {
        let known = if id.initiator() == self.side {
            id.dir() == Dir::Bi && id.index() < self.ours[0].opened
        } else {
            self.opened_by_peer(id)?;
            true
        };
        let recv = self.recvs.get_mut(&id).filter(|_| known);
        recv.ok_or(Fault::new(
            code::STREAM_STATE,
            "bytes on a stream that is over or none",
        ))
    }

    /// The sending half; `None` where it is over.
    fn send(&mut self, id: StreamId) -> Result<Option<&mut Send>, Fault> {
        let known = if id.initiator() == self.side {
            id.index() < self.ours[index(id.dir())].opened
        } else {
            self.opened_by_peer(id)?;
            id.dir() == Dir::Bi
        };
        if !known {
            return Err(Fault::new(
                code::STREAM_STATE,
                "a word about a stream that is none",
            ));
        }
        Ok(self.sends.get_mut(&id))
    }

    /// A frame of the peer names a stream of its own: with it all below are open.
    fn opened_by_peer(&mut self, id: StreamId) -> Result<(), Fault> {
        let dir = id.dir();
        let theirs = &mut self.theirs[index(dir)];
        if id.index() >= theirs.max {
            return Err(Fault::new(
                code::STREAM_LIMIT,
                "more streams than permitted",
            ));
        }
        while theirs.opened <= id.index() {
            let id = StreamId::new(!self.side, dir, theirs.opened);
            theirs.opened += 1;
            self.recvs.insert(id, Recv::new(self.config.stream_window));
            if dir == Dir::Bi {
                let limit = self.peer.as_ref().map_or(0, |peer| peer.bidi_local);
                self.sends.insert(id, Send::new(limit));
            }
            self.events.push(Interest::Accept(dir));
        }
        Ok(())
    }
}
