//! A place for each stream that a session writes.

use slab::Slab;

use super::{
    handle::Progress,
    lanes::{Lanes, Way},
    writer::Writer,
};
use crate::{
    transport::UniStream,
    wire::{
        ChannelName, Position,
        frame::{AutoSubscription, Source},
    },
};

#[derive(Default)]
pub(super) struct Places {
    pub(super) last: u64,
    pub(super) taken: Slab<Place>,
    pub(super) lanes: Lanes,
    /// Nobody is let in any more.
    pub(super) closed: bool,
    /// A writer found its stream full: they take turns until none does.
    pub(super) contended: bool,
    /// Not all have the same priority.
    pub(super) ranked: bool,
    /// Number of the last turn.
    pub(super) turn: u64,
}

/// One stream's place, from before it is opened until the client has all of it.
pub(super) struct Place {
    pub(super) id: u64,
    pub(super) source: Source,
    pub(super) name: ChannelName,
    /// It was told to end; its last words may be on the way. It no longer counts.
    pub(super) ended: bool,
    pub(super) stream: Option<(Writer, Position)>,
}

impl Places {
    pub(super) fn writer(&mut self, key: u32) -> Option<&mut Writer> {
        let place = self.taken.get_mut(key as usize)?;
        place.stream.as_mut().map(|(writer, _)| writer)
    }

    pub(super) fn unblock(&mut self, keys: &[u32]) {
        for key in keys {
            if let Some(writer) = self.writer(*key) {
                writer.unblock();
            }
        }
    }

    /// Whose own this stream is.
    pub(super) fn find(&mut self, stream: UniStream) -> Option<(usize, &mut Writer)> {
        self.taken.iter_mut().find_map(|(key, place)| {
            let (writer, _) = place.stream.as_mut()?;
            (writer.own() == Some(stream)).then_some((key, writer))
        })
    }

    /// The channels that the session is subscribed to.
    pub(super) fn subscriptions(&self) -> Vec<AutoSubscription> {
        let taken = self.taken.iter().map(|(_, place)| place);
        let mut found: Vec<_> = taken
            .filter(|place| place.source == Source::CHANNEL && !place.ended)
            .filter_map(|place| {
                let (_, position) = place.stream.as_ref()?;
                Some(AutoSubscription {
                    subscription: place.id,
                    channel: place.name.to_string(),
                    position: *position,
                })
            })
            .collect();
        found.sort_unstable_by_key(|made| made.subscription);
        found
    }

    /// How far the streams are that were not told to end.
    pub(super) fn progress(&self) -> Vec<Progress> {
        let taken = self.taken.iter().map(|(_, place)| place);
        let progress = taken.filter(|place| !place.ended).filter_map(|place| {
            let (writer, _) = place.stream.as_ref()?;
            let (position, behind) = writer.reader()?.reached();
            let (lagged, skipped) = writer.reader()?.losses();
            Some(Progress {
                name: place.name.clone(),
                of_channel: place.source == Source::CHANNEL,
                position,
                behind,
                waiting_bytes: writer.waiting() as u64,
                lagged,
                skipped,
            })
        });
        progress.collect()
    }

    /// Nothing is to be waited for.
    pub(super) fn is_empty(&self) -> bool {
        self.taken.is_empty() && self.lanes.is_empty()
    }

    /// Keys of the places on a lane.
    pub(super) fn seated(&self, number: u64) -> impl Iterator<Item = usize> {
        let taken = self.taken.iter();
        taken.filter_map(move |(key, place)| place.is_on(number).then_some(key))
    }
}

impl Place {
    /// Its stream, where that is its own.
    pub(super) fn own(&self) -> Option<UniStream> {
        self.stream.as_ref().and_then(|(writer, _)| writer.own())
    }

    /// Whether it is on this lane.
    pub(super) fn is_on(&self, number: u64) -> bool {
        let way = self.stream.as_ref().map(|(writer, _)| writer.way());
        way == Some(Way::Lane(number))
    }
}
