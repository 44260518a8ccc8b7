//! The frames of subscription streams (PROTOCOL §5).

use serde::{Deserialize, Serialize};

use crate::wire::{
    code::Code,
    position::{Epoch, Offset},
};

/// First frame of a subscription's stream (PROTOCOL §5.1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Id of the subscription.
    pub subscription: u64,
    /// Where its publications come from.
    pub source: Source,
    /// The channel's name, or the name that an endpoint gave its stream.
    pub name: String,
    /// The log.
    pub epoch: Epoch,
    /// Offset of the first publication that will follow.
    pub first: Offset,
    /// Whether this continues where the client asked to resume.
    pub recovered: bool,
    /// How publications are delivered.
    pub delivery: Delivery,
}

/// Where the publications of a stream come from: a number (PROTOCOL §5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Source(pub u8);

impl Source {
    /// A channel.
    pub const CHANNEL: Self = Self(0);
    /// User code on the server, which also chose the stream's name.
    pub const ENDPOINT: Self = Self(1);
}

/// How publications are delivered: a number, of which 0 to 2 are known now (PROTOCOL §5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Delivery(pub u8);

impl Delivery {
    /// Every one in order; what fell off the log is told by [`Lagged`].
    pub const ORDERED: Self = Self(0);
    /// In order, and what is no longer worth its way is left out, as [`Skipped`] tells.
    pub const FRESH: Self = Self(1);
    /// The newest wins: by datagram, and as a keyframe on the stream. Offsets only grow, and nothing tells what is left out (PROTOCOL §5.6).
    pub const DATAGRAM: Self = Self(2);
}

/// The reader fell off the log's tail and misses these publications (PROTOCOL §5.3).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lagged {
    /// First offset missed.
    pub from: Offset,
    /// Last offset missed.
    pub to: Offset,
}

/// The server left these publications out, by the channel's rule: they were too old, or newer ones made them worthless (PROTOCOL §5.5).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// First offset left out.
    pub from: Offset,
    /// Last offset left out.
    pub to: Offset,
}

/// This connection published these, and did not want them back (PROTOCOL §5.8).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Own {
    /// First offset left out.
    pub from: Offset,
    /// Last offset left out.
    pub to: Offset,
}

/// First frame of a stream that several subscriptions share (PROTOCOL §5.7).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lane {
    /// Its number in the session, for logs.
    pub lane: u64,
}

/// On a lane: whose the frames are that follow, up to the next of these (PROTOCOL §5.7).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// The subscription.
    pub subscription: u64,
}

/// Last frame of a subscription's stream (PROTOCOL §5.4).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Why, for programs.
    pub code: Code,
    /// Why, for people.
    pub reason: String,
}
