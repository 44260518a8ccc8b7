//! What goes out to the peer.

use bytes::{BufMut, Bytes, BytesMut};
use quinn_proto::{Dir, StreamId};

use super::{Interest, State, index};
use crate::transport::mux::frame::{Frame, RECORD, STREAM_HEAD, stream_head};

/// Bytes of frames without data after which a record is not filled any further.
const CONTROL: usize = RECORD - 2048;

impl State {
    /// The next record; `None` where there is nothing to say. After the last word there is nothing.
    pub(in crate::transport::mux) fn transmit(&mut self) -> Option<Bytes> {
        let mut record = BytesMut::new();
        if let Some(hello) = self.hello.take() {
            Frame::Parameters(hello).encode(&mut record);
        }
        if self.error.is_some() {
            if let Some(last) = self.last.take() {
                last.encode(&mut record);
            }
        } else {
            self.tell(&mut record);
            while record.len() < CONTROL && self.part(&mut record) {}
            if self.queued < self.queue / 2 {
                self.unblock();
            }
        }
        (!record.is_empty()).then(|| record.freeze())
    }

    /// What the peer is to know.
    fn tell(&mut self, record: &mut BytesMut) {
        if let Some(number) = self.pong.take() {
            Frame::Pong(number).encode(record);
        }
        if let Some(number) = self.ping.take() {
            Frame::Ping(number).encode(record);
        }
        if self.read + self.window > self.announced
            && self.read + self.window >= self.announced + self.window / 2
        {
            self.announced = self.read + self.window;
            Frame::MaxData(self.announced).encode(record);
        }
        for (dir, max) in [
            (Dir::Bi, self.config.bidi_streams),
            (Dir::Uni, self.config.uni_streams),
        ] {
            let theirs = &mut self.theirs[index(dir)];
            if std::mem::take(&mut theirs.due) {
                theirs.max = theirs.over + max;
                let frame = match dir {
                    Dir::Bi => Frame::MaxStreamsBidi(theirs.max),
                    Dir::Uni => Frame::MaxStreamsUni(theirs.max),
                };
                frame.encode(record);
            }
        }
        while record.len() < CONTROL
            && let Some(id) = self.telling.pop()
        {
            let Some(recv) = self.recvs.get_mut(&id) else {
                continue;
            };
            if let Some(code) = recv.take_stop() {
                Frame::Stop { id, code }.encode(record);
            } else if let Some(max) = recv.take_limit() {
                Frame::MaxStreamData { id, max }.encode(record);
            }
        }
    }

    /// A part of the stream whose turn it is; `false` where there is none.
    fn part(&mut self, record: &mut BytesMut) -> bool {
        let priority = |id: &StreamId| self.sends.get(id).map(|send| send.priority);
        let Some(best) = self.due.iter().map(priority).max() else {
            return false;
        };
        let Some(place) = self.due.iter().position(|id| priority(id) == best) else {
            return false;
        };
        let id = self.due.remove(place);
        let Some(send) = self.sends.get_mut(&id) else {
            return true;
        };
        if let Some((code, size)) = send.take_reset() {
            Frame::Reset { id, code, size }.encode(record);
        } else if send.is_due() {
            let part = send.take(RECORD - record.len() - STREAM_HEAD);
            self.queued -= part.size as u64;
            stream_head(record, id, part.offset, part.size, part.fin);
            part.data.iter().for_each(|data| record.put_slice(data));
        }
        if send.is_due() {
            self.due.push(id);
        } else if send.is_over() {
            self.events.push(Interest::Stopped(id));
            self.retire(id);
        }
        true
    }
}
