"""§3.4 to §5: messages and frames."""

from dataclasses import dataclass

from .codec import BOOL, BYTES, STRING, U8, U16, U32, U64, Enum, List, Option, Struct, wire


@dataclass(frozen=True)
class Notification:
    text: str = wire(STRING)
    timestamp: int = wire(U64)


@dataclass(frozen=True)
class Announcement:
    text: str = wire(STRING)
    timestamp: int = wire(U64)


@dataclass(frozen=True)
class Data:
    content_type: str = wire(STRING)
    bytes: bytes = wire(BYTES)


@dataclass(frozen=True)
class Member:
    id: int = wire(U64)
    user: str | None = wire(Option(STRING))


@dataclass(frozen=True)
class Presence:
    joined: list = wire(List(Struct(Member)))
    left: list = wire(List(Struct(Member)))
    connections: int = wire(U64)
    users: int = wire(U64)
    complete: bool = wire(BOOL)


MESSAGE = Enum(Notification, Announcement, Data, Presence)


@dataclass(frozen=True)
class Position:
    epoch: int = wire(U64)
    offset: int = wire(U64)


@dataclass(frozen=True)
class Head:
    pass


@dataclass(frozen=True)
class After:
    position: Position = wire(Struct(Position))


@dataclass(frozen=True)
class Latest:
    count: int = wire(U64)


@dataclass(frozen=True)
class AfterOrOldest:
    position: Position = wire(Struct(Position))


START = Enum(Head, After, Latest, AfterOrOldest)


@dataclass(frozen=True)
class Limits:
    message: int = wire(U64)
    frame: int = wire(U64)
    subscriptions: int = wire(U64)


@dataclass(frozen=True)
class AutoSubscription:
    subscription: int = wire(U64)
    channel: str = wire(STRING)
    position: Position = wire(Struct(Position))


@dataclass(frozen=True)
class RefusedSubscription:
    channel: str = wire(STRING)
    code: int = wire(U32)
    reason: str = wire(STRING)


FRAMES = {}


def frame(number):
    def register(cls):
        cls = dataclass(frozen=True)(cls)
        cls.TYPE = number
        FRAMES[number] = cls
        return cls

    return register


@frame(0x01)
class Hello:
    version: int = wire(U16)
    token: str | None = wire(Option(STRING))
    client: str = wire(STRING)
    features: list = wire(List(STRING))


@frame(0x02)
class Welcome:
    session: int = wire(U64)
    user: str | None = wire(Option(STRING))
    server: str = wire(STRING)
    features: list = wire(List(STRING))
    limits: Limits = wire(Struct(Limits))
    subscriptions: list = wire(List(Struct(AutoSubscription)))
    expires: int | None = wire(Option(U64))
    idle_timeout: int = wire(U64)
    refused: list = wire(List(Struct(RefusedSubscription)))


@frame(0x03)
class GoAway:
    code: int = wire(U32)
    grace: int = wire(U64)


@frame(0x10)
class Subscribe:
    request: int = wire(U64)
    channel: str = wire(STRING)


@frame(0x11)
class Unsubscribe:
    request: int = wire(U64)
    subscription: int = wire(U64)


@frame(0x12)
class Publish:
    request: int = wire(U64)
    channel: str = wire(STRING)
    message: object = wire(MESSAGE)


@frame(0x13)
class Ping:
    request: int = wire(U64)


@frame(0x14)
class SubscribeFrom:
    request: int = wire(U64)
    channel: str = wire(STRING)
    start: object = wire(START)


@dataclass(frozen=True)
class HistoryQuery:
    # `from` is a keyword of Python.
    from_: Position | None = wire(Option(Struct(Position)))
    limit: int = wire(U64)
    reverse: bool = wire(BOOL)


@dataclass(frozen=True)
class Kept:
    epoch: int = wire(U64)
    first: int = wire(U64)
    last: int = wire(U64)


@frame(0x15)
class ReadHistory:
    request: int = wire(U64)
    channel: str = wire(STRING)
    query: HistoryQuery = wire(Struct(HistoryQuery))


@frame(0x16)
class PublishOnce:
    request: int = wire(U64)
    channel: str = wire(STRING)
    key: str = wire(STRING)
    message: object = wire(MESSAGE)


@frame(0x18)
class PublishWith:
    request: int = wire(U64)
    channel: str = wire(STRING)
    key: str | None = wire(Option(STRING))
    conflation_key: str | None = wire(Option(STRING))
    echo: bool = wire(BOOL)
    message: object = wire(MESSAGE)


@frame(0x46)
class PublishedOnce:
    request: int = wire(U64)
    position: Position = wire(Struct(Position))
    level: int = wire(U8)
    duplicate: bool = wire(BOOL)


@frame(0x17)
class Refresh:
    request: int = wire(U64)
    token: str = wire(STRING)


@frame(0x47)
class Refreshed:
    request: int = wire(U64)
    expires: int | None = wire(Option(U64))


@frame(0x19)
class ReadPresence:
    request: int = wire(U64)
    channel: str = wire(STRING)
    limit: int = wire(U64)


@frame(0x48)
class PresencePage:
    request: int = wire(U64)
    position: Position | None = wire(Option(Struct(Position)))
    connections: int = wire(U64)
    users: int = wire(U64)
    members: list = wire(List(Struct(Member)))
    complete: bool = wire(BOOL)


@frame(0x45)
class HistoryPage:
    request: int = wire(U64)
    kept: Kept | None = wire(Option(Struct(Kept)))
    complete: bool = wire(BOOL)
    count: int = wire(U64)


@frame(0x40)
class Failed:
    request: int = wire(U64)
    code: int = wire(U32)
    reason: str = wire(STRING)


@frame(0x41)
class Subscribed:
    request: int = wire(U64)
    subscription: int = wire(U64)
    position: Position = wire(Struct(Position))


@frame(0x42)
class Unsubscribed:
    request: int = wire(U64)


@frame(0x43)
class Published:
    request: int = wire(U64)
    position: Position = wire(Struct(Position))
    level: int = wire(U8)


@frame(0x44)
class Pong:
    request: int = wire(U64)
    time: int = wire(U64)


@frame(0x60)
class Header:
    subscription: int = wire(U64)
    source: int = wire(U8)
    name: str = wire(STRING)
    epoch: int = wire(U64)
    first: int = wire(U64)
    recovered: bool = wire(BOOL)
    delivery: int = wire(U8)


@frame(0x61)
class Publication:
    offset: int = wire(U64)
    time: int = wire(U64)
    publisher: str | None = wire(Option(STRING))
    message: object = wire(MESSAGE)


@frame(0x62)
class Lagged:
    # `from` is a keyword of Python.
    from_: int = wire(U64)
    to: int = wire(U64)


@frame(0x64)
class Skipped:
    from_: int = wire(U64)
    to: int = wire(U64)


@frame(0x67)
class Own:
    from_: int = wire(U64)
    to: int = wire(U64)


@frame(0x65)
class Lane:
    lane: int = wire(U64)


@frame(0x66)
class Turn:
    subscription: int = wire(U64)


@frame(0x63)
class End:
    code: int = wire(U32)
    reason: str = wire(STRING)


ANSWERS = (Failed, Subscribed, Unsubscribed, Published, PublishedOnce, Refreshed, Pong, HistoryPage, PresencePage)


@dataclass(frozen=True)
class Unknown:
    """A frame of a type that this client does not know."""

    type: int
    body: bytes
