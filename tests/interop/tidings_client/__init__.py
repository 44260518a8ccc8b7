"""A client of the Tidings protocol, version 1, written from PROTOCOL.md alone.

It shares no code with the server. Section numbers (§) are those of PROTOCOL.md. It checks what it receives: integers in their
shortest form, bodies that decode to the last byte, a header first on each subscription stream, offsets without a hole, nothing
after `End`. What breaks a rule becomes `Client.fault`, and every wait of the client then raises it.
"""

from .client import Client
from .codec import U16, U32, U64, Bool, Byte, Bytes, DecodeError, Enum, Integer, List, Option, Reader, String, Struct, encode_integer
from .codes import Code, code_from_http, code_to_http
from .dial import connect
from .errors import Closed, ConnectionEnded, Fault, Refused, RequestFailed
from .frames import (
    FRAMES,
    After,
    AfterOrOldest,
    Announcement,
    AutoSubscription,
    Data,
    End,
    Failed,
    GoAway,
    Head,
    Header,
    Hello,
    HistoryPage,
    HistoryQuery,
    Kept,
    Lagged,
    Lane,
    Latest,
    Limits,
    Member,
    Notification,
    Own,
    Ping,
    Pong,
    Position,
    Presence,
    PresencePage,
    Publication,
    Publish,
    Published,
    PublishedOnce,
    PublishOnce,
    PublishWith,
    ReadHistory,
    ReadPresence,
    Refresh,
    Refreshed,
    RefusedSubscription,
    Skipped,
    Subscribe,
    Subscribed,
    SubscribeFrom,
    Turn,
    Unknown,
    Unsubscribe,
    Unsubscribed,
    Welcome,
)
from .framing import FrameReader, encode_body, encode_frame, encode_raw
from .requests import HELLO_LIMIT
from .tokens import make_token
from .waiting import TIMEOUT
