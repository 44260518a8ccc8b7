"""A client of the Tidings protocol, version 1, written from PROTOCOL.md alone.

It shares no code with the server. Section numbers (§) are those of PROTOCOL.md. It checks what it receives: integers in their
shortest form, bodies that decode to the last byte, a header first on each subscription stream, offsets without a hole, nothing
after `End`. What breaks a rule becomes `Client.fault`, and every wait of the client then raises it.
"""

import asyncio
import base64
import hashlib
import hmac
import itertools
import json
import socket
import struct
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, fields
from enum import IntEnum
from urllib.parse import urlsplit

from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.buffer import Buffer, BufferReadError, encode_uint_var
from aioquic.h3.connection import H3Connection, Setting
from aioquic.h3.events import DatagramReceived, DataReceived, HeadersReceived, WebTransportStreamDataReceived
from aioquic.quic import events
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection

TIMEOUT = 10.0
VERSION = 1
ALPN = "tidings/1"
SUBPROTOCOL = "tidings.v1"
HELLO_LIMIT = 16_384  # §4.1


class Code(IntEnum):
    """§7"""

    CLOSED = 0
    UNSUBSCRIBED = 1
    ENDED = 2
    PROTOCOL_VIOLATION = 100
    FRAME_TOO_LARGE = 101
    UNSUPPORTED_VERSION = 102
    HELLO_TIMEOUT = 303
    LAGGED = 304
    UNEXPECTED_FRAME = 104
    UNKNOWN_REQUEST = 105
    INVALID_CHANNEL = 110
    ALREADY_SUBSCRIBED = 111
    NOT_SUBSCRIBED = 112
    MESSAGE_TOO_LARGE = 113
    TOO_MANY_SUBSCRIPTIONS = 114
    NO_STREAM_LEFT = 115
    INVALID_KEY = 116
    KEY_REUSED = 117
    RESERVED_MESSAGE = 119
    UNAUTHENTICATED = 200
    INVALID_TOKEN = 201
    TOKEN_EXPIRED = 202
    PERMISSION_DENIED = 203
    REVOKED = 204
    OVERLOADED = 300
    TOO_MANY_SESSIONS = 301
    TOO_MANY_CHANNELS = 302
    INTERNAL = 400
    GOING_AWAY = 401


def code_name(code):
    try:
        return f"{int(code)} ({Code(code).name.lower()})"
    except (ValueError, TypeError):
        return str(code)


# ---------------------------------------------------------------------------------------------------------------- codec, §3.6


class DecodeError(Exception):
    """Bytes that are not of their type."""


class Reader:
    """Takes values off the front of some bytes. `canonical` insists on what a writer has to do: the shortest integers."""

    def __init__(self, data, canonical=False):
        self.data = bytes(data)
        self.at = 0
        self.canonical = canonical

    def take(self, count):
        if count > len(self.data) - self.at:
            raise DecodeError(f"{count} bytes wanted at {self.at}, {len(self.data) - self.at} left")
        piece = self.data[self.at : self.at + count]
        self.at += count
        return piece

    def integer(self, bits=64):
        marker = self.take(1)[0]
        if marker <= 250:
            value = marker
        elif marker in (251, 252, 253):
            value = int.from_bytes(self.take({251: 2, 252: 4, 253: 8}[marker]), "little")
            if self.canonical and encode_integer(value)[0] != marker:
                raise DecodeError(f"{value} is written with the marker {marker}, which is not the shortest form")
        else:
            raise DecodeError(f"marker {marker}")
        if value >> bits:
            raise DecodeError(f"{value} does not fit into {bits} bits")
        return value

    def finish(self):
        if self.at != len(self.data):
            raise DecodeError(f"{len(self.data) - self.at} bytes follow the body")


def encode_integer(value, marker=None):
    """The shortest form, or the one of `marker` (251, 252 or 253)."""
    if value < 0 or value >> 64:
        raise ValueError(f"{value} is no integer of 64 bits")
    if marker is None:
        if value <= 250:
            return bytes([value])
        marker = 251 if value < 1 << 16 else 252 if value < 1 << 32 else 253
    return bytes([marker]) + value.to_bytes({251: 2, 252: 4, 253: 8}[marker], "little")


class Integer:
    def __init__(self, bits):
        self.bits = bits

    def encode(self, value):
        if value < 0 or value >> self.bits:
            raise ValueError(f"{value} does not fit into {self.bits} bits")
        return encode_integer(value)

    def decode(self, reader):
        return reader.integer(self.bits)


class Byte:
    def encode(self, value):
        return bytes([value])

    def decode(self, reader):
        return reader.take(1)[0]


class Bool:
    def encode(self, value):
        return b"\x01" if value else b"\x00"

    def decode(self, reader):
        byte = reader.take(1)[0]
        if byte > 1:
            raise DecodeError(f"{byte} is no bool")
        return byte == 1


class Bytes:
    def encode(self, value):
        return encode_integer(len(value)) + bytes(value)

    def decode(self, reader):
        return reader.take(reader.integer())


class String:
    def encode(self, value):
        return BYTES.encode(value.encode("utf-8"))

    def decode(self, reader):
        try:
            return BYTES.decode(reader).decode("utf-8")
        except UnicodeDecodeError as error:
            raise DecodeError(f"a string that is no UTF-8: {error}") from error


class List:
    def __init__(self, item):
        self.item = item

    def encode(self, value):
        return encode_integer(len(value)) + b"".join(self.item.encode(item) for item in value)

    def decode(self, reader):
        return [self.item.decode(reader) for _ in range(reader.integer())]


class Option:
    def __init__(self, item):
        self.item = item

    def encode(self, value):
        return b"\x00" if value is None else b"\x01" + self.item.encode(value)

    def decode(self, reader):
        byte = reader.take(1)[0]
        if byte > 1:
            raise DecodeError(f"{byte} begins no option")
        return self.item.decode(reader) if byte else None


class Struct:
    def __init__(self, cls):
        self.cls = cls

    def encode(self, value):
        return b"".join(f.metadata["kind"].encode(getattr(value, f.name)) for f in fields(self.cls))

    def decode(self, reader):
        return self.cls(**{f.name: f.metadata["kind"].decode(reader) for f in fields(self.cls)})


class Enum:
    def __init__(self, *variants):
        self.variants = variants

    def encode(self, value):
        return encode_integer(self.variants.index(type(value))) + Struct(type(value)).encode(value)

    def decode(self, reader):
        number = reader.integer(32)
        if number >= len(self.variants):
            raise DecodeError(f"variant {number} of {len(self.variants)}")
        return Struct(self.variants[number]).decode(reader)


U8, U16, U32, U64 = Byte(), Integer(16), Integer(32), Integer(64)
BOOL, BYTES, STRING = Bool(), Bytes(), String()


def wire(kind):
    return field(metadata={"kind": kind})


# --------------------------------------------------------------------------------------------- messages and frames, §3.4 to §5


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


def encode_raw(number, body):
    """A frame of any type around any body, §3.5."""
    content = encode_integer(number) + body
    return encode_integer(len(content)) + content


def encode_body(value):
    return Struct(type(value)).encode(value)


def encode_frame(value):
    return encode_raw(value.TYPE, encode_body(value))


def decode_content(content, canonical=False):
    """The frame whose type and body are `content`."""
    reader = Reader(content, canonical)
    number = reader.integer()
    if number not in FRAMES:
        return Unknown(number, content[reader.at :])
    value = Struct(FRAMES[number]).decode(reader)
    reader.finish()
    return value


class FrameReader:
    """Cuts the bytes of a stream into frames."""

    def __init__(self, limit=None, canonical=False):
        self.limit = limit
        self.canonical = canonical
        self.buffer = bytearray()

    def feed(self, data):
        self.buffer += data
        found = []
        while (content := self._next()) is not None:
            found.append(decode_content(content, self.canonical))
        return found

    def _next(self):
        if not self.buffer:
            return None
        if self.buffer[0] in (254, 255):
            raise DecodeError(f"marker {self.buffer[0]} as a length")
        head = {251: 3, 252: 5, 253: 9}.get(self.buffer[0], 1)
        if len(self.buffer) < head:
            return None
        length = Reader(self.buffer[:head], self.canonical).integer()
        if length == 0:
            raise DecodeError("a frame of length 0")
        if self.limit is not None and length > self.limit:
            raise DecodeError(f"a frame of {length} bytes, {self.limit} are allowed")
        if len(self.buffer) < head + length:
            return None
        content = bytes(self.buffer[head : head + length])
        del self.buffer[: head + length]
        return content


# ------------------------------------------------------------------------------------------------------- tokens (RFC 7515, 7519)


def _base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def make_token(secret, claims, algorithm="HS256"):
    """A JWT of `claims`, signed with HS256; with the algorithm `none` it has no signature."""
    header = {"alg": algorithm, "typ": "JWT"}
    signed = ".".join(_base64url(json.dumps(part, separators=(",", ":")).encode("utf-8")) for part in (header, claims))
    if algorithm == "none":
        return signed + "."
    return signed + "." + _base64url(hmac.new(secret, signed.encode("ascii"), hashlib.sha256).digest())


# ------------------------------------------------------------------------------------- WebTransport over HTTP/3, what §2.2 leans on

_FIRST_CODE = 0x52E4A40FA8DB
_LAST_CODE = 0x52E5AC983162
_CLOSE_SESSION = 0x2843  # CLOSE_WEBTRANSPORT_SESSION


def code_to_http(code):
    return _FIRST_CODE + code + code // 0x1E


def code_from_http(code):
    """The application's code, or None where `code` is none of WebTransport's."""
    if not _FIRST_CODE <= code <= _LAST_CODE or (code - 0x21) % 0x1F == 0:
        return None
    shifted = code - _FIRST_CODE
    return shifted - shifted // 0x1F


# ------------------------------------------------------------------------------------------------------------------------ client


class ClientError(Exception):
    pass


class Refused(ClientError):
    """The server answered the CONNECT with another status than 200."""

    def __init__(self, status, headers):
        super().__init__(f"CONNECT was answered with {status}")
        self.status = status
        self.headers = headers


class RequestFailed(ClientError):
    def __init__(self, failed):
        super().__init__(f"request {failed.request} failed with {code_name(failed.code)}: {failed.reason}")
        self.code = failed.code
        self.reason = failed.reason


class ConnectionEnded(ClientError):
    def __init__(self, closed):
        super().__init__(f"the connection ended: {closed}")
        self.closed = closed


class Fault(ClientError):
    """The server broke the protocol."""


@dataclass(frozen=True)
class Closed:
    """How a connection ended. `code` is None where that is no code of §7 (a transport error, a time-out)."""

    code: int | None
    reason: str
    how: str

    def __str__(self):
        return f"{code_name(self.code)} {self.reason!r} by {self.how}"


class _Quic(QuicConnection):
    """QUIC with two additions: windows of chosen streams that do not grow, and a memory of who closed the connection."""

    def __init__(self, *, permitted_streams=None, **kwargs):
        super().__init__(**kwargs)
        self.withheld = set()
        self.closed_here = None
        if permitted_streams is not None:
            self._local_max_streams_uni.value = permitted_streams
            self._local_max_streams_uni.sent = permitted_streams

    def close(self, error_code=0, frame_type=None, reason_phrase=""):
        if self._close_event is None and self.closed_here is None:
            self.closed_here = (error_code, reason_phrase)
        super().close(error_code=error_code, frame_type=frame_type, reason_phrase=reason_phrase)

    def _write_stream_limits(self, builder, space, stream):
        if stream.stream_id not in self.withheld:
            super()._write_stream_limits(builder=builder, space=space, stream=stream)


class _Protocol(QuicConnectionProtocol):
    def __init__(self, quic, client):
        super().__init__(quic)
        self.client = client

    def quic_event_received(self, event):
        self.client._quic_event(event)


class Stream:
    """A unidirectional stream of the server, §5."""

    def __init__(self, number):
        self.number = number
        self.reader = FrameReader(canonical=True)
        self.header = None
        self.frames = []
        self.expected = None
        self.received = 0
        self.finished = False
        self.reset = None
        # Of a lane, §5.7: its subscriptions, and whose turn it is.
        self.parts = None
        self.turn = None

    @property
    def publications(self):
        return [f for f in self.frames if isinstance(f, Publication)]

    @property
    def messages(self):
        return [p.message for p in self.publications]

    @property
    def end(self):
        return self.frames[-1] if self.frames and isinstance(self.frames[-1], End) else None

    def feed(self, data, fin):
        self.received += len(data)
        for item in self.reader.feed(data):
            self._frame(item)
        if fin:
            self.finished = True
            if self.reader.buffer:
                raise Fault(f"stream {self.number} was finished within a frame")

    def _frame(self, item):
        if isinstance(item, Unknown):
            return
        if self.parts is not None:
            if isinstance(item, Turn):
                self.turn = self.parts.setdefault(item.subscription, Stream(f"{self.number} for {item.subscription}"))
            elif self.turn is None:
                raise Fault(f"{item} on lane {self.number}, where it is nobody's turn")
            else:
                self.turn._frame(item)
            return
        if self.header is None and isinstance(item, Lane):
            self.parts = {}
            return
        if self.header is None:
            if not isinstance(item, Header):
                raise Fault(f"stream {self.number} begins with {item}")
            self.header = item
            self.expected = item.first
            return
        if self.end is not None:
            raise Fault(f"{item} follows End on stream {self.number}")
        if self.header.delivery == 2:
            # §5.6: offsets only grow.
            if not isinstance(item, (Publication, End)):
                raise Fault(f"{item} on stream {self.number}, which goes with datagrams")
            if isinstance(item, Publication):
                if item.offset < self.expected:
                    raise Fault(f"offset {item.offset} on stream {self.number} after {self.expected - 1}")
                self.expected = item.offset + 1
        elif isinstance(item, Publication):
            if item.offset != self.expected:
                raise Fault(f"offset {item.offset} on stream {self.number}, {self.expected} was next")
            self.expected = item.offset + 1
        elif isinstance(item, Skipped) and self.header.delivery == 0:
            raise Fault(f"{item} on stream {self.number}, which delivers every publication")
        elif isinstance(item, (Lagged, Skipped, Own)):
            if item.from_ != self.expected or item.to < item.from_:
                raise Fault(f"{item} on stream {self.number}, {self.expected} was next")
            self.expected = item.to + 1
        elif not isinstance(item, End):
            raise Fault(f"{item} on stream {self.number}")
        self.frames.append(item)


class Client:
    """One connection. Everything received is kept; `until` waits for a state of it."""

    def __init__(self, webtransport):
        self.webtransport = webtransport
        self.welcome = None
        self.go_away = None
        self.closed = None
        self.fault = None
        self.control_frames = []
        # Of each page of history what followed it.
        self.pages = []
        self.answers = {}
        self.streams = {}
        # Subscription and publication of each, §5.6.
        self.datagrams = []
        self.status = None
        self.headers = None
        self.control = None
        self.control_finished = False
        self.control_reset = None
        self.others = {}
        self._requests = itertools.count(1)
        self._control_reader = FrameReader(canonical=True)
        self._capsules = b""
        self._session = None
        self._h3 = None
        self._waiters = set()
        self._protocol = None
        self._quic = None
        self._keep_alive = None

    # --- waiting

    def _changed(self):
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def until(self, condition, what, timeout=TIMEOUT, closed_is_fine=False):
        """Waits until `condition()` is true, and returns its value."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        while True:
            if self.fault is not None:
                raise self.fault
            if value := condition():
                return value
            if self.closed is not None and not closed_is_fine:
                raise ConnectionEnded(self.closed)
            waiter = loop.create_future()
            self._waiters.add(waiter)
            try:
                await asyncio.wait_for(waiter, deadline - loop.time())
            except asyncio.TimeoutError:
                raise TimeoutError(f"{what}: not within {timeout:g} s; {self._state()}") from None
            finally:
                self._waiters.discard(waiter)

    def _state(self):
        streams = [(s.header and s.header.name, len(s.frames)) for s in self.streams.values()]
        return f"control frames: {self.control_frames[-5:]}, streams: {streams}, status: {self.status}"

    async def wait_closed(self, timeout=TIMEOUT):
        return await self.until(lambda: self.closed, "the end of the connection", timeout, closed_is_fine=True)

    # --- sending

    def _flush(self):
        self._protocol.transmit()

    def open_control(self):
        """Opens the control stream; nothing is on the wire until something is sent on it."""
        self.control = self.open_bidirectional()

    def open_bidirectional(self):
        if self._h3 is not None:
            number = self._h3.create_webtransport_stream(self._session)
        else:
            number = self._quic.get_next_available_stream_id()
            self._quic.send_stream_data(number, b"")
        self.others[number] = {"data": b"", "finished": False, "reset": None, "stop": None}
        return number

    def send_on(self, number, data, fin=False):
        self._quic.send_stream_data(number, data, fin)
        self._flush()

    def send_raw(self, data, fin=False):
        if self.control is None:
            self.open_control()
        self.send_on(self.control, data, fin)

    async def send_slowly(self, data):
        """Every byte in a packet of its own."""
        for at in range(len(data)):
            self.send_raw(data[at : at + 1])
            await asyncio.sleep(0)

    def send(self, item):
        self.send_raw(encode_frame(item))

    def stop(self, stream, code):
        """STOP_SENDING for a stream of the server."""
        self._quic.stop_stream(stream.number, code_to_http(code) if self._h3 is not None else code)
        self._flush()

    def withhold(self, stream):
        """Grants no more of this stream's window, as a reader that does not read."""
        self._quic.withheld.add(stream.number)

    def grant(self, stream):
        self._quic.withheld.discard(stream.number)
        self._flush()

    def vanish(self):
        """Goes without a word: no packet leaves or arrives any more."""
        self._protocol._transport.abort()
        self._protocol._transport = _Nowhere()

    # --- the protocol

    async def hello(self, token, version=VERSION, client="interop", features=()):
        self.send(Hello(version, token, client, list(features)))
        await self.welcomed()
        return self.welcome

    async def welcomed(self):
        await self.until(lambda: self.welcome, "Welcome")

    async def answer(self, request, timeout=TIMEOUT):
        found = await self.until(lambda: self.answers.get(request), f"the answer to request {request}", timeout)
        if isinstance(found, Failed):
            raise RequestFailed(found)
        return found

    def next_request(self):
        return next(self._requests)

    async def _ask(self, cls, wanted, *values):
        number = self.next_request()
        self.send(cls(number, *values))
        found = await self.answer(number)
        if not isinstance(found, wanted):
            raise Fault(f"{cls.__name__} was answered by {found}")
        return found

    async def subscribe(self, channel):
        """Returns the answer and the stream."""
        found = await self._ask(Subscribe, Subscribed, channel)
        return found, await self.stream(found.subscription)

    async def subscribe_from(self, channel, start):
        """The same from elsewhere than the head."""
        found = await self._ask(SubscribeFrom, Subscribed, channel, start)
        return found, await self.stream(found.subscription)

    async def history(self, channel, query):
        """The page and its publications."""
        page = await self._ask(ReadHistory, HistoryPage, channel, query)
        publications = next(found for known, found in self.pages if known is page)
        await self.until(lambda: len(publications) == page.count, "the publications of a page")
        return page, publications

    async def presence(self, channel, limit=256):
        return await self._ask(ReadPresence, PresencePage, channel, limit)

    async def unsubscribe(self, subscription):
        return await self._ask(Unsubscribe, Unsubscribed, subscription)

    async def publish(self, channel, message):
        return await self._ask(Publish, Published, channel, message)

    async def publish_once(self, channel, key, message):
        return await self._ask(PublishOnce, PublishedOnce, channel, key, message)

    async def publish_with(self, channel, message, key=None, conflation_key=None, echo=True):
        return await self._ask(PublishWith, PublishedOnce, channel, key, conflation_key, echo, message)

    async def refresh(self, token):
        return await self._ask(Refresh, Refreshed, token)

    async def ping(self):
        return await self._ask(Ping, Pong)

    async def stream(self, subscription):
        def found():
            for stream in self.streams.values():
                if stream.parts is not None:
                    stream = stream.parts.get(subscription)
                if stream and stream.header and stream.header.subscription == subscription:
                    return stream
            return None

        return await self.until(found, f"the stream of subscription {subscription}")

    async def stream_of(self, channel):
        """The stream of a subscription that `Welcome` names."""
        for item in self.welcome.subscriptions:
            if item.channel == channel:
                return await self.stream(item.subscription)
        raise AssertionError(f"Welcome names no subscription to {channel}: {self.welcome.subscriptions}")

    async def message(self, stream, wanted, timeout=TIMEOUT):
        """The first publication on `stream` whose message satisfies `wanted`."""

        def found():
            return next((p for p in stream.publications if wanted(p.message)), None)

        return await self.until(found, f"a publication on {stream.header.name}", timeout)

    # --- receiving

    def _quic_event(self, event):
        try:
            self._handle(event)
        except (Fault, DecodeError) as error:
            if self.fault is None:
                self.fault = error if isinstance(error, Fault) else Fault(str(error))
        self._changed()

    def _handle(self, event):
        if isinstance(event, events.ConnectionTerminated):
            self._terminated(event)
            return
        number = getattr(event, "stream_id", None)
        if number is not None and number in self.others:
            # What the server sends on a bidirectional stream of ours is not HTTP/3's: only the first bytes, which we send, are.
            self._on_own_stream(number, event)
            return
        if self._h3 is not None:
            if isinstance(event, events.StreamReset):
                self._reset(number, event.error_code)
            for item in self._h3.handle_event(event):
                self._h3_event(item)
        elif isinstance(event, events.StreamDataReceived):
            self._on_stream(number, event.data, event.end_stream)
        elif isinstance(event, events.StreamReset):
            self._reset(number, event.error_code)
        elif isinstance(event, events.DatagramFrameReceived):
            self._on_datagram(event.data)

    def _on_datagram(self, data):
        """§5.6."""
        reader = Reader(data, canonical=True)
        subscription = reader.integer()
        rest = data[reader.at :]
        frames = FrameReader(canonical=True)
        items = frames.feed(rest)
        if frames.buffer or len(items) != 1 or not isinstance(items[0], Publication):
            raise Fault(f"a datagram that is no publication: {data.hex()}")
        self.datagrams.append((subscription, items[0]))

    def send_datagram(self, data):
        if self._h3 is not None:
            self._h3.send_datagram(self._session, data)
        else:
            self._quic.send_datagram_frame(data)
        self._flush()

    def _terminated(self, event):
        if self._keep_alive is not None:
            self._keep_alive.cancel()
        if self.closed is not None:
            return
        if self._quic.closed_here is not None:
            code, reason = self._quic.closed_here
            self.closed = Closed(None, f"{code:#x} {reason}", "this client")
        elif event.frame_type is not None:
            self.closed = Closed(None, f"{event.error_code:#x} {event.reason_phrase}", "the transport")
        elif self._h3 is not None:
            code = code_from_http(event.error_code)
            reason = event.reason_phrase if code is not None else f"{event.error_code:#x} {event.reason_phrase}"
            self.closed = Closed(code, reason, "a close of the HTTP/3 connection")
        else:
            self.closed = Closed(event.error_code, event.reason_phrase, "an application close")

    def _code(self, code):
        return code_from_http(code) if self._h3 is not None else code

    def _on_own_stream(self, number, event):
        state = self.others[number]
        if isinstance(event, events.StreamDataReceived):
            if number == self.control:
                self._on_control(event.data, event.end_stream)
            else:
                state["data"] += event.data
            state["finished"] |= event.end_stream
        elif isinstance(event, events.StreamReset):
            state["reset"] = self._code(event.error_code)
            if number == self.control:
                self.control_reset = state["reset"]
        elif isinstance(event, events.StopSendingReceived):
            state["stop"] = self._code(event.error_code)

    def _on_control(self, data, fin):
        for item in self._control_reader.feed(data):
            self.control_frames.append(item)
            if isinstance(item, Unknown):
                continue
            if self.welcome is None and not isinstance(item, Welcome):
                raise Fault(f"{item} before Welcome")
            if isinstance(item, Welcome):
                if self.welcome is not None:
                    raise Fault("a second Welcome")
                self.welcome = item
            elif isinstance(item, GoAway):
                self.go_away = item
            elif isinstance(item, Publication):
                # §4.11: they follow their page at once.
                page = self.pages[-1] if self.pages else None
                if page is None or len(page[1]) == page[0].count:
                    raise Fault(f"{item} after no page")
                page[1].append(item)
            elif self.pages and len(self.pages[-1][1]) < self.pages[-1][0].count:
                raise Fault(f"{item} between the publications of a page")
            elif isinstance(item, ANSWERS):
                if isinstance(item, HistoryPage):
                    self.pages.append((item, []))
                if item.request in self.answers:
                    raise Fault(f"a second answer to request {item.request}: {item}")
                self.answers[item.request] = item
            else:
                raise Fault(f"{item} on the control stream")
        self.control_finished |= fin

    def _on_stream(self, number, data, fin):
        if number % 4 != 3:
            raise Fault(f"stream {number} of the server is not unidirectional")
        self.streams.setdefault(number, Stream(number)).feed(data, fin)

    def _reset(self, number, code):
        if self._h3 is not None and number == self._session:
            if self.closed is None:
                self.closed = Closed(self._code(code), f"{code:#x}", "a reset of the CONNECT stream")
        elif number % 4 == 3:
            self.streams.setdefault(number, Stream(number)).reset = self._code(code)

    def _h3_event(self, item):
        if isinstance(item, WebTransportStreamDataReceived):
            if item.session_id != self._session:
                raise Fault(f"a stream of session {item.session_id}")
            self._on_stream(item.stream_id, item.data, item.stream_ended)
        elif isinstance(item, DatagramReceived):
            if item.stream_id != self._session:
                raise Fault(f"a datagram of session {item.stream_id}")
            self._on_datagram(item.data)
        elif isinstance(item, HeadersReceived) and item.stream_id == self._session:
            self.headers = {key.decode("ascii"): value.decode("ascii") for key, value in item.headers}
            self.status = int(self.headers[":status"])
            if item.stream_ended and self.status == 200:
                self._session_ended()
        elif isinstance(item, DataReceived) and item.stream_id == self._session and self.status == 200:
            self._on_capsules(item.data)
            if item.stream_ended:
                self._session_ended()

    def _on_capsules(self, data):
        self._capsules += data
        while self._capsules:
            buffer = Buffer(data=self._capsules)
            try:
                kind = buffer.pull_uint_var()
                payload = buffer.pull_bytes(buffer.pull_uint_var())
            except BufferReadError:
                return
            self._capsules = self._capsules[buffer.tell() :]
            if kind == _CLOSE_SESSION and self.closed is None:
                if len(payload) < 4:
                    raise Fault("a CLOSE_WEBTRANSPORT_SESSION capsule without a code")
                self.closed = Closed(struct.unpack(">I", payload[:4])[0], payload[4:].decode("utf-8"), "a capsule")

    def _session_ended(self):
        if self.closed is None:
            self.closed = Closed(0, "", "the end of the CONNECT stream")

    # --- beginning and end

    async def _open_session(self, authority, path, headers):
        await self.until(lambda: self._h3.received_settings is not None, "the server's SETTINGS")
        settings = self._h3.received_settings
        if settings.get(Setting.ENABLE_CONNECT_PROTOCOL) != 1:
            raise Fault(f"the server's SETTINGS do not enable extended CONNECT: {settings}")
        if settings.get(Setting.ENABLE_WEBTRANSPORT) != 1:
            raise Fault(f"the server's SETTINGS do not enable WebTransport (draft 02): {settings}")
        self._session = self._quic.get_next_available_stream_id()
        self._h3.send_headers(
            self._session,
            [
                (b":method", b"CONNECT"),
                (b":protocol", b"webtransport"),
                (b":scheme", b"https"),
                (b":authority", authority.encode("ascii")),
                (b":path", path.encode("ascii")),
                *((key.encode("ascii"), value.encode("ascii")) for key, value in headers),
            ],
        )
        self._flush()
        await self.until(lambda: self.status, "the answer to CONNECT")
        if self.status != 200:
            raise Refused(self.status, self.headers)

    def _keep(self):
        # §2: something at least every 20 s.
        self._quic.send_ping(0)
        self._flush()
        self._keep_alive = asyncio.get_running_loop().call_later(10, self._keep)

    def close(self, code=Code.CLOSED, reason=""):
        """An orderly end, §6."""
        if self._h3 is not None:
            if self.closed is None and self.status == 200:
                payload = struct.pack(">I", code) + reason.encode("utf-8")
                capsule = encode_uint_var(_CLOSE_SESSION) + encode_uint_var(len(payload)) + payload
                self._h3.send_data(self._session, capsule, end_stream=True)
                # Before the close, which takes the place of all that still waits.
                self._flush()
            self._protocol.close(0x100)  # H3_NO_ERROR
        else:
            self._protocol.close(code, reason)


class _Nowhere:
    def sendto(self, data, address=None):
        pass

    def close(self):
        pass


@asynccontextmanager
async def connect(
    url,
    certificate,
    *,
    path=None,
    headers=(),
    subprotocols=(SUBPROTOCOL,),
    server_name=None,
    alpn=None,
    window=1 << 20,
    permitted_streams=None,
    datagrams=False,
):
    """Connects to `quic://HOST:PORT` or `https://HOST:PORT/tidings` and yields a client that has not said Hello."""
    address = urlsplit(url)
    webtransport = address.scheme == "https"
    client = Client(webtransport)
    configuration = QuicConfiguration(
        is_client=True,
        alpn_protocols=[alpn or ("h3" if webtransport else ALPN)],
        server_name=server_name or address.hostname,
        cafile=str(certificate),
        max_stream_data=window,
        max_data=max(16 * window, 1 << 20),
        max_datagram_frame_size=65_536 if webtransport or datagrams else None,
    )
    quic = _Quic(configuration=configuration, permitted_streams=permitted_streams)
    loop = asyncio.get_running_loop()
    infos = await loop.getaddrinfo(address.hostname, address.port, type=socket.SOCK_DGRAM)
    family, _, _, _, peer = infos[0]
    transport, protocol = await loop.create_datagram_endpoint(
        lambda: _Protocol(quic, client), local_addr=("::1" if family == socket.AF_INET6 else "127.0.0.1", 0), family=family
    )
    client._protocol, client._quic = protocol, quic
    if webtransport:
        client._h3 = H3Connection(quic, enable_webtransport=True)
    try:
        protocol.connect(peer)
        await asyncio.wait_for(protocol.wait_connected(), TIMEOUT)
        client._keep()
        if webtransport:
            authority = f"{server_name or address.hostname}:{address.port}"
            offered = [("wt-available-protocols", ", ".join(f'"{name}"' for name in subprotocols))] if subprotocols else []
            await client._open_session(authority, path or address.path, [*offered, *headers])
        yield client
        if client.fault is not None:
            raise client.fault
    finally:
        if client._keep_alive is not None:
            client._keep_alive.cancel()
        client.close()
        if protocol._timer is not None:
            protocol._timer.cancel()
        transport.close()
