//! Who writes when: what is due, by priority and by turns (PROTOCOL §5).

use std::sync::{MutexGuard, atomic::Ordering};

use super::{Writers, lock};
use crate::{
    broker::Due as _,
    session::{
        lanes::Way,
        places::{Place, Places},
        writer::{Round, Step},
    },
    transport::{Gone, Source as Fill, Streams, UniStream},
    wire::Code,
};

impl Writers {
    /// One batch of a writer; whether it may have another.
    fn step(&self, key: usize, streams: &mut Streams<'_>, drains: bool) -> bool {
        let mut guard = lock(&self.places);
        let places = &mut *guard;
        places.turn += 1;
        let Some(place) = places.taken.get_mut(key) else {
            return false;
        };
        let Some((writer, _)) = &mut place.stream else {
            return false;
        };
        let filled = writer.fill(&mut Round {
            streams,
            lanes: &mut places.lanes,
            seat: (key as u32, place.id),
            turn: places.turn,
            drains,
        });
        // One that ended by itself counts no more, either.
        place.ended |= writer.is_ending();
        let (way, over) = (writer.way(), writer.is_over());
        match filled {
            Ok(Step::Blocked) => places.contended = true,
            Ok(_) => {}
            Err(Gone) => match way {
                Way::Own(stream) => {
                    streams.reset(stream, Code::UNSUBSCRIBED);
                    self.free(guard, key);
                    return false;
                }
                Way::Lane(number) => {
                    self.leave_lane(guard, number, streams);
                    return false;
                }
            },
        }
        if let Way::Lane(number) = way {
            let freed = places.lanes.freed(number);
            places.unblock(&freed);
            if over {
                self.free(guard, key);
            } else {
                drop(guard);
            }
            for waited in freed {
                self.bell.due(waited);
            }
        }
        filled == Ok(Step::More)
    }

    /// A lane that the client does not want: its subscriptions end with it.
    fn leave_lane(
        &self,
        mut places: MutexGuard<'_, Places>,
        number: u64,
        streams: &mut Streams<'_>,
    ) {
        places.lanes.reset(number, Code::UNSUBSCRIBED, streams);
        let mut left = Vec::new();
        let seated: Vec<_> = places.seated(number).collect();
        for key in seated {
            left.extend(places.taken.try_remove(key));
        }
        self.tell_empty(places);
        drop(left);
    }

    /// Where not all find room: by priority, and first who waited longest. QUIC names streams that take more again last come, first
    /// served, and whoever is first may take all there is.
    fn by_turns(&self, due: &mut [u32]) {
        let mut places = lock(&self.places);
        if !std::mem::take(&mut places.contended) && !places.ranked {
            return;
        }
        due.sort_by_cached_key(|key| places.writer(*key).map(|writer| writer.order()));
    }

    /// How many of these, from the first on, have its priority.
    fn peers(&self, due: &[u32]) -> usize {
        let mut places = lock(&self.places);
        if !places.ranked {
            return due.len();
        }
        let mut rank = |key: &u32| places.writer(*key).map(|writer| writer.priority());
        let Some(first) = due.first().map(&mut rank) else {
            return 0;
        };
        due.iter().take_while(|key| rank(key) == first).count()
    }
}

impl Fill for Writers {
    fn fill(&self, streams: &mut Streams<'_>) {
        let mut due = self.bell.take();
        let drains = self.drains.load(Ordering::SeqCst);
        if due.len() > 1 {
            self.by_turns(&mut due);
        }
        let mut rest = &mut due[..];
        while !rest.is_empty() {
            let (peers, others) = rest.split_at_mut(self.peers(rest));
            // A batch for each, and again for who has more.
            let mut more = peers.len();
            while more > 0 {
                let mut kept = 0;
                for index in 0..more {
                    if self.step(peers[index] as usize, streams, drains) {
                        peers[kept] = peers[index];
                        kept += 1;
                    }
                }
                more = kept;
            }
            rest = others;
        }
        self.bell.give_back(due);
        if drains {
            let mut places = lock(&self.places);
            let Places { lanes, taken, .. } = &mut *places;
            let seated = |number| taken.iter().any(|(_, place)| place.is_on(number));
            lanes.finish(seated, streams);
        }
    }

    fn writable(&self, stream: UniStream) {
        let key = {
            let mut places = lock(&self.places);
            if let Some((key, writer)) = places.find(stream) {
                writer.unblock();
                key as u32
            } else if let Some(key) = places.lanes.holder(stream) {
                places.unblock(&[key]);
                key
            } else {
                return;
            }
        };
        self.bell.list(key);
    }

    fn resume(&self) {
        let keys: Vec<_> = {
            let mut places = lock(&self.places);
            let resumes = |(key, place): (usize, &mut Place)| {
                let (writer, _) = place.stream.as_mut()?;
                let held = writer.is_held();
                if held {
                    writer.unblock();
                }
                (held || writer.sends_datagrams()).then_some(key as u32)
            };
            places.taken.iter_mut().filter_map(resumes).collect()
        };
        for key in keys {
            self.bell.list(key);
        }
    }

    fn stopped(&self, stream: UniStream, streams: &mut Streams<'_>) {
        let mut places = lock(&self.places);
        if let Some((key, _)) = places.find(stream) {
            streams.reset(stream, Code::UNSUBSCRIBED);
            self.free(places, key);
        } else if let Some(number) = places.lanes.number(stream) {
            self.leave_lane(places, number, streams);
        }
    }

    fn finished(&self, stream: UniStream) {
        let mut places = lock(&self.places);
        if let Some((key, _)) = places.find(stream) {
            self.free(places, key);
        } else if let Some(number) = places.lanes.number(stream) {
            places.lanes.remove(number);
            self.tell_empty(places);
        }
    }
}
