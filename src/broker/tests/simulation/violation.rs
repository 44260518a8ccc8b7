//! What can be wrong.

/// A promise that was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// An offset was passed over in silence.
    Gap,
    /// A batch is not in order.
    OutOfOrder,
    Duplicate,
    /// A reader got what stood there before it came.
    BeforeJoin,
    /// A reader got an offset that nobody was given.
    NotPublished,
    /// A reader got a publication of another log.
    WrongChannel,
    WrongPayload,
    /// With one key something was stored twice, or two positions were told.
    StoredTwice,
    /// Said to stand there already, and it does not.
    WrongDuplicate,
    /// Left out though it was wanted, or told of it wrongly.
    SkippedWrongly,
    /// A reader got what it did not want any more.
    TooOld,
    /// Not the time of acceptance, or a time that runs backwards.
    WrongTime,
    /// A batch above its bounds, or an empty one.
    Batch,
    /// `Lagged` names what was seen or is still held.
    LaggedTooMuch,
    /// `Lagged` names less than what is missing.
    LaggedTooLittle,
    /// A reader was told that there is nothing, though there is.
    Missed,
    /// A waiting reader was not told of a publication, or the worker that would tell it was not called.
    LostWakeup,
    /// A reader was told twice by one poll.
    ToldTwice,
    /// A reader was told while its audience was not polled.
    WrongAudience,
    EndedEarly,
    NotEnded,
    /// Something reached a reader that had left, or a left reader is still here.
    AfterLeave,
    /// A reader got what the retention had taken away.
    HeldTooLong,
    /// More bytes are held than the retention allows.
    MemoryBound,
    /// Less is held than the retention allows.
    TrimmedEarly,
    /// An acknowledged offset does not follow the one before.
    Acknowledged,
    /// The same epoch and offset were given twice.
    OffsetReused,
    /// An epoch that was over came back.
    OldEpoch,
    /// A channel's epoch changed while the channel was there.
    EpochChanged,
    /// A reader does not begin at the head, or where it asked to.
    WrongStart,
    /// A reader is said to continue where something is missing.
    RecoveredFalsely,
    /// A reader is said not to continue, and nothing is missing.
    RecoveryDenied,
    /// Refused without need.
    Refused,
    /// Accepted above the message limit.
    TooLarge,
    ChannelsAboveBound,
    IdleChannelStays,
    EvictedEarly,
    /// The broker counts other readers than there are.
    ReaderCount,
    /// The broker's estimate of its memory is far from what it holds.
    Memory,
    /// The broker's head or one of its other numbers is wrong.
    Count,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Violation {
    pub(super) kind: Kind,
    pub(super) what: String,
}

pub(super) type Verdict = Result<(), Violation>;

pub(super) fn broken(kind: Kind, what: impl Into<String>) -> Verdict {
    Err(Violation {
        kind,
        what: what.into(),
    })
}
