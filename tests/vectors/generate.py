#!/usr/bin/env python3
"""Writes frames.json beside it, from PROTOCOL.md alone: the definitions and numbers of the frames are read out of that page,
and the encoding below is its section 3.6. Nothing here looks at the Rust code, so that the two can disagree.

    python3 tests/vectors/generate.py           write frames.json
    python3 tests/vectors/generate.py --check   fail where frames.json is not what this would write
"""

import json
import re
import sys
from pathlib import Path

HERE = Path(__file__).parent
SPECIFICATION = (HERE / "../../PROTOCOL.md").read_text(encoding="utf-8")
TARGET = HERE / "frames.json"


# --- The definitions, as PROTOCOL.md states them ---------------------------------------------------------------------------


def fields_of(text):
    """[("request", "u64"), ...] of "request: u64, channel: string"."""
    return [tuple(part.strip() for part in field.split(":")) for field in text.split(",") if field.strip()]


def definitions():
    """name -> list of fields for a struct, name -> list of (variant, fields) for an enum."""
    structs, enums = {}, {}
    for block in re.findall(r"^```\n(.*?)^```", SPECIFICATION, re.M | re.S):
        for name, body in re.findall(r"^(\w+) = (0 \w+ \{.*?\}(?:\s*\| \d+ \w+ \{.*?\})*)", block, re.M | re.S):
            variants = re.findall(r"(\d+) (\w+) \{(.*?)\}", body, re.S)
            assert [int(number) for number, _, _ in variants] == list(range(len(variants))), name
            enums[name] = [(variant, fields_of(fields)) for _, variant, fields in variants]
        for name, body in re.findall(r"^(\w+)\s*\{(.*?)\}", block, re.M | re.S):
            structs[name] = fields_of(body)
    return structs, enums


STRUCTS, ENUMS = definitions()
NUMBERS = {name: int(number, 16) for number, name in re.findall(r"^\| `(0x\w\w)` \| (\w+) \|", SPECIFICATION, re.M)}


# --- The encoding of section 3.6 -------------------------------------------------------------------------------------------


def integer(value, width=None):
    """The shortest form, or the one with `width` bytes after its marker."""
    if width is None:
        width = 0 if value <= 250 else 2 if value < 1 << 16 else 4 if value < 1 << 32 else 8
    if width == 0:
        return bytes([value])
    return bytes([{2: 251, 4: 252, 8: 253}[width]]) + value.to_bytes(width, "little")


def encode(kind, value):
    if inner := re.fullmatch(r"(option|list)<(.+)>", kind):
        if inner[1] == "list":
            return integer(len(value)) + b"".join(encode(inner[2], item) for item in value)
        return b"\0" if value is None else b"\1" + encode(inner[2], value)
    match kind:
        case "u8":
            return bytes([value])
        case "u16" | "u32":
            assert 0 <= value < 1 << int(kind[1:])
            return integer(value)
        case "u64":
            assert isinstance(value, str) and 0 <= int(value) < 1 << 64
            return integer(int(value))
        case "bool":
            return bytes([{False: 0, True: 1}[value]])
        case "string":
            text = value.encode("utf-8")
            return integer(len(text)) + text
        case "bytes":
            return integer(len(value) // 2) + bytes.fromhex(value)
    if kind in ENUMS:
        [(variant, inside)] = value.items()
        names = [name for name, _ in ENUMS[kind]]
        number = names.index(variant)
        return integer(number) + record(ENUMS[kind][number][1], inside)
    return record(STRUCTS[kind], value)


def record(fields, value):
    assert list(value) == [name for name, _ in fields], (list(value), fields)
    return b"".join(encode(kind, value[name]) for name, kind in fields)


def frame(number, body):
    inside = integer(number) + body
    return integer(len(inside)) + inside


# --- The values ------------------------------------------------------------------------------------------------------------

EDGES = [0, 1, 250, 251, 252, 255, 256, 65535, 65536, 2**32 - 1, 2**32, 2**53 + 1, 2**64 - 1]
SMALL = [0, 250, 251, 65535, 65536, 2**32 - 1]
TEXT = "Grüße, 世界 👋 e\u0301\u0000\u2028\""
NAME = "aZ09-_.:/@+=~,|%"
ALL_BYTES = bytes(range(256)).hex()
TIME = "1764000000000"
EPOCH = str(0x0123456789ABCDEF)


def position(epoch, offset):
    return {"epoch": str(epoch), "offset": str(offset)}


def notification(text, timestamp=TIME):
    return {"Notification": {"text": text, "timestamp": str(timestamp)}}


def announcement(text, timestamp=TIME):
    return {"Announcement": {"text": text, "timestamp": str(timestamp)}}


def data(content_type, content):
    return {"Data": {"content_type": content_type, "bytes": content}}


def member(number, user=None):
    return {"id": str(number), "user": user}


def presence(joined=(), left=(), connections=0, users=0, complete=True):
    return {
        "Presence": {
            "joined": list(joined), "left": list(left), "connections": str(connections), "users": str(users), "complete": complete,
        }
    }


MESSAGES = [
    ("an empty notification", notification("", 0)),
    ("a notification in UTF-8", notification(TEXT)),
    ("a notification of 251 bytes", notification("n" * 251, 2**64 - 1)),
    ("an announcement", announcement("The server restarts at noon.")),
    ("an empty announcement", announcement("", 251)),
    ("empty data", data("", "")),
    ("JSON as data", data("application/json", b'{"a":[1,null]}'.hex())),
    ("every byte as data", data("application/octet-stream", ALL_BYTES)),
    ("data of 250 bytes", data("a/b", "00" * 250)),
    ("data of 251 bytes", data("a/b", "ff" * 251)),
    ("nobody came or went", presence()),
    ("one came and two went", presence([member(EPOCH, NAME)], [member(2**64 - 1), member(0, "")], 251, 250, False)),
    ("251 came", presence([member(index, f"u{index}") for index in range(251)], [], 2**64 - 1, 2**32)),
]


def frames():
    def hello(version=1, token=None, client="", features=()):
        return {"version": version, "token": token, "client": client, "features": list(features)}

    yield "the shortest", "Hello", hello()
    yield "with a token", "Hello", hello(token="header.claims.signature", client="tidings-js/0.1.0")
    yield "an empty token is a token", "Hello", hello(token="", client="x")
    yield "features", "Hello", hello(client="x", features=["", "resume", TEXT])
    yield "251 features", "Hello", hello(features=["f"] * 251)
    yield "a client in UTF-8", "Hello", hello(client=TEXT)
    yield "a token of 251 bytes", "Hello", hello(token="t" * 251)
    for version in [0, 250, 251, 65535]:
        yield f"version {version}", "Hello", hello(version=version)

    def limits(message=65536, length=131072, subscriptions=100):
        return {"message": str(message), "frame": str(length), "subscriptions": str(subscriptions)}

    def welcome(
        session=7, user=None, server="", features=(), bounds=None, subscriptions=(), expires=None, idle=30_000, refused=()
    ):
        return {
            "session": str(session), "user": user, "server": server, "features": list(features),
            "limits": bounds or limits(), "subscriptions": list(subscriptions),
            "expires": None if expires is None else str(expires), "idle_timeout": str(idle), "refused": list(refused),
        }

    def auto(subscription, channel, where):
        return {"subscription": str(subscription), "channel": channel, "position": where}

    yield "the shortest", "Welcome", welcome(0, bounds=limits(0, 0, 0))
    yield "a user with two subscriptions", "Welcome", welcome(
        2**64 - 1, "42", "tidings/0.1.0", [], None,
        [auto(1, "global", position(int(EPOCH), 12)), auto(2, "user-42", position(2**64 - 1, 0))],
    )
    yield "features", "Welcome", welcome(user="", server=TEXT, features=["", "a", "b"])
    yield "edges of the limits", "Welcome", welcome(2**53 + 1, NAME, "s", [], limits(2**64 - 1, 2**32, 2**53 + 1))
    yield "251 subscriptions", "Welcome", welcome(
        user="u", subscriptions=[auto(index, f"c{index}", position(index, index)) for index in range(251)]
    )
    for expires in [0, 1_700_000_000_000, 2**64 - 1]:
        yield f"expires {expires}", "Welcome", welcome(user="u", expires=expires)
    for idle in [0, 250, 251, 2**53 + 1, 2**64 - 1]:
        yield f"idle timeout {idle}", "Welcome", welcome(user="u", idle=idle)
    yield "a refused automatic subscription", "Welcome", welcome(
        user="42", refused=[{"channel": "user-42", "code": 302, "reason": "no room for another channel"}]
    )

    for code in [*SMALL, 401, 2000]:
        yield f"code {code}", "GoAway", {"code": code, "grace": "5000"}
    for grace in [0, 2**53 + 1, 2**64 - 1]:
        yield f"grace {grace}", "GoAway", {"code": 401, "grace": str(grace)}

    yield "the example of section 8", "Subscribe", {"request": "1", "channel": "global"}
    yield "every character of a name", "Subscribe", {"request": "2", "channel": NAME}
    yield "an empty name is a frame", "Subscribe", {"request": "3", "channel": ""}
    yield "a name outside the grammar is a frame", "Subscribe", {"request": "4", "channel": TEXT}
    for length in [250, 251]:
        yield f"a frame of length {length}", "Subscribe", {"request": "5", "channel": "c" * (length - 3)}
    for length in [250, 251, 255]:
        yield f"a name of {length} bytes", "Subscribe", {"request": "5", "channel": "c" * length}
    for edge in EDGES:
        yield f"request {edge}", "Subscribe", {"request": str(edge), "channel": "c"}

    def subscribe_from(request, start):
        return {"request": str(request), "channel": "chat-room-7", "start": start}

    yield "at the head", "SubscribeFrom", subscribe_from(1, {"Head": {}})
    for edge in EDGES:
        yield f"after {edge}", "SubscribeFrom", subscribe_from(edge, {"After": {"position": position(EPOCH, edge)}})
        yield f"the latest {edge}", "SubscribeFrom", subscribe_from(2, {"Latest": {"count": str(edge)}})
        yield f"after {edge} or the oldest", "SubscribeFrom", subscribe_from(edge, {"AfterOrOldest": {"position": position(EPOCH, edge)}})

    def query(place, limit, reverse=False):
        return {"from": place, "limit": str(limit), "reverse": reverse}

    for edge in EDGES:
        yield f"the oldest {edge}", "ReadHistory", {"request": "1", "channel": "c", "query": query(None, edge)}
        yield f"before {edge}", "ReadHistory", {
            "request": str(edge), "channel": "c", "query": query(position(EPOCH, edge), 10, True),
        }

    for edge in EDGES:
        yield f"first and count {edge}", "HistoryPage", {
            "request": "1", "kept": {"epoch": EPOCH, "first": str(edge), "last": str(EDGES[-1] - edge)}, "complete": True,
            "count": str(edge),
        }
    yield "no such channel", "HistoryPage", {"request": "1", "kept": None, "complete": False, "count": "0"}

    for name, message in MESSAGES:
        yield name, "PublishOnce", {"request": "1", "channel": "chat-room-7", "key": "k", "message": message}
    for key in ["", TEXT, "k" * 250, "k" * 251]:
        yield f"a key of {len(key)} characters", "PublishOnce", {
            "request": "2", "channel": "c", "key": key, "message": notification("n"),
        }
    for name, message in MESSAGES:
        yield name, "PublishWith", {
            "request": "1", "channel": "chat-room-7", "key": None, "conflation_key": None, "echo": True, "message": message,
        }
    for key in ["", TEXT, "k" * 250, "k" * 251]:
        for keys in [{"key": key, "conflation_key": None}, {"key": None, "conflation_key": key}, {"key": "k", "conflation_key": key}]:
            what = " and ".join(name for name in keys if keys[name] is not None)
            yield f"{what} of {len(key)} characters", "PublishWith", {
                "request": "2", "channel": "c", **keys, "echo": False, "message": notification("n"),
            }
    for edge in EDGES:
        yield f"offset {edge}", "PublishedOnce", {
            "request": "2", "position": position(EPOCH, edge), "level": 0, "duplicate": edge % 2 == 1,
        }

    for token in ["", TEXT, "t" * 250, "t" * 251]:
        yield f"a token of {len(token)} characters", "Refresh", {"request": "3", "token": token}
    for edge in EDGES:
        yield f"until {edge}", "Refreshed", {"request": "3", "expires": str(edge)}
    yield "for ever", "Refreshed", {"request": "3", "expires": None}

    for edge in EDGES:
        yield f"at most {edge}", "ReadPresence", {"request": "4", "channel": "c", "limit": str(edge)}

    def present(where, connections, users, members, complete=True):
        return {
            "request": "4", "position": where, "connections": str(connections), "users": str(users), "members": members,
            "complete": complete,
        }

    yield "nobody, and no such channel", "PresencePage", present(None, 0, 0, [])
    for edge in EDGES:
        yield f"{edge} connections", "PresencePage", present(position(EPOCH, edge), edge, EDGES[-1] - edge, [member(edge, "42")], False)
    yield "256 members", "PresencePage", present(position(EPOCH, 1), 256, 1, [member(index, NAME) for index in range(256)])

    for edge in EDGES:
        yield f"subscription {edge}", "Unsubscribe", {"request": "1", "subscription": str(edge)}

    for name, message in MESSAGES:
        yield name, "Publish", {"request": "1", "channel": "chat-room-7", "message": message}
    yield "data of 65,536 bytes", "Publish", {"request": "1", "channel": "c", "message": data("a/b", "5a" * 65536)}
    for edge in [250, 251, 2**53 + 1, 2**64 - 1]:
        yield f"request {edge}", "Publish", {"request": str(edge), "channel": "c", "message": notification("n", edge)}

    for edge in EDGES:
        yield f"request {edge}", "Ping", {"request": str(edge)}

    for code in [*SMALL, 105, 1000, 3000]:
        yield f"code {code}", "Failed", {"request": "1", "code": code, "reason": ""}
    yield "a reason in UTF-8", "Failed", {"request": str(2**53 + 1), "code": 203, "reason": TEXT}

    for edge in EDGES:
        yield f"subscription {edge}", "Subscribed", {
            "request": "1", "subscription": str(edge), "position": position(edge, EDGES[-1] - edge),
        }
    yield "the beginning of a channel", "Subscribed", {"request": "1", "subscription": "9", "position": position(EPOCH, 0)}

    for edge in EDGES:
        yield f"request {edge}", "Unsubscribed", {"request": str(edge)}

    for edge in EDGES:
        yield f"offset {edge}", "Published", {"request": "2", "position": position(EPOCH, edge), "level": 0}
    for level in [1, 2, 250, 251, 254, 255]:
        yield f"level {level} is one byte", "Published", {"request": "2", "position": position(0, 1), "level": level}

    for edge in [*EDGES, int(TIME)]:
        yield f"time {edge}", "Pong", {"request": "3", "time": str(edge)}

    def header(subscription=9, source=0, name="global", epoch=EPOCH, first=1, recovered=False, delivery=0):
        return {
            "subscription": str(subscription), "source": source, "name": name, "epoch": str(epoch),
            "first": str(first), "recovered": recovered, "delivery": delivery,
        }

    yield "a channel", "Header", header()
    yield "an endpoint", "Header", header(source=1, name="ticker")
    yield "recovered", "Header", header(recovered=True)
    yield "by datagram", "Header", header(delivery=2)
    yield "numbers that are bytes", "Header", header(source=255, delivery=251)
    yield "an empty name", "Header", header(name="")
    for edge in EDGES:
        yield f"epoch and first {edge}", "Header", header(subscription=edge, epoch=edge, first=edge)

    def publication(message, offset=1, time=TIME, publisher=None):
        return {"offset": str(offset), "time": str(time), "publisher": publisher, "message": message}

    for name, message in MESSAGES:
        yield name, "Publication", publication(message)
        yield f"{name}, with a publisher", "Publication", publication(message, 300, TIME, "42")
    yield "an empty publisher", "Publication", publication(notification("n"), publisher="")
    for edge in EDGES:
        yield f"offset and time {edge}", "Publication", publication(data("a/b", "00"), edge, edge)

    for edge in EDGES:
        yield f"to {edge}", "Lagged", {"from": "1", "to": str(edge)}
        yield f"to {edge}", "Skipped", {"from": "1", "to": str(edge)}
        yield f"number {edge}", "Lane", {"lane": str(edge)}
        yield f"to {edge}", "Own", {"from": "1", "to": str(edge)}
        yield f"of {edge}", "Turn", {"subscription": str(edge)}
    yield "from 2^53+1", "Lagged", {"from": str(2**53 + 1), "to": str(2**53 + 2)}

    for code in [*SMALL, 1, 2, 401]:
        yield f"code {code}", "End", {"code": code, "reason": ""}
    yield "a reason in UTF-8", "End", {"code": 2, "reason": TEXT}
    yield "a reason of 251 bytes", "End", {"code": 400, "reason": "r" * 251}


def widths():
    """Integers that are wider than they need to be."""
    def other(name, kind, value, body, number=None, head=None):
        inside = (number or integer(NUMBERS[kind])) + body
        return {
            "name": name, "type": kind, "number": f"{NUMBERS[kind]:#04x}", "value": value,
            "hex": ((head or integer(len(inside))) + inside).hex(),
        }

    for width in [2, 4, 8]:
        yield other(f"a length in {width} bytes", "Ping", {"request": "7"}, integer(7), head=integer(2, width))
        yield other(
            f"a type in {width} bytes", "Ping", {"request": "7"}, integer(7), number=integer(NUMBERS["Ping"], width)
        )
        yield other(f"a u64 in {width} bytes", "Ping", {"request": "250"}, integer(250, width))
        yield other(f"a u32 in {width} bytes", "End", {"code": 2, "reason": ""}, integer(2, width) + b"\0")
        yield other(
            f"a u16 in {width} bytes", "Hello", {"version": 1, "token": None, "client": "", "features": []},
            integer(1, width) + bytes(3),
        )
        yield other(
            f"the length of a string in {width} bytes", "End", {"code": 2, "reason": "ab"},
            integer(2) + integer(2, width) + b"ab",
        )
        yield other(
            f"the length of a list in {width} bytes", "Hello",
            {"version": 1, "token": None, "client": "", "features": ["a"]},
            bytes([1, 0, 0]) + integer(1, width) + b"\1a",
        )
        yield other(
            f"the number of a variant and the length of bytes in {width} bytes", "Publish",
            {"request": "1", "channel": "c", "message": data("", "0102")},
            integer(1) + b"\1c" + integer(2, width) + b"\0" + integer(2, width) + b"\1\2",
        )


def invalid():
    def bad(name, error, octets, limit=16384):
        return {"name": name, "hex": octets.hex(), "limit": str(limit), "error": error}

    yield bad("a length of zero", "Empty", integer(0))
    yield bad("a length of zero in two bytes", "Empty", integer(0, 2))
    for marker in [254, 255]:
        yield bad(f"marker {marker} as length", "Integer", bytes([marker]))
        yield bad(f"marker {marker} as length with bytes behind", "Integer", bytes([marker]) + bytes(16))
        yield bad(f"marker {marker} as type", "Integer", integer(2) + bytes([marker, 0]))
        yield bad(f"marker {marker} in a body", "Body", frame(NUMBERS["Ping"], bytes([marker]) + bytes(16)))

    yield bad("a length above the limit", "TooLarge", integer(16385))
    yield bad("a length above a small limit", "TooLarge", integer(5), 4)
    yield bad("a length of 2^32", "TooLarge", integer(2**32))
    yield bad("a length of 2^64-1", "TooLarge", integer(2**64 - 1))

    yield bad("the end inside a length", "Truncated", bytes([251, 1]))
    yield bad("the end after a length", "Truncated", integer(2))
    yield bad("the end inside a body", "Truncated", integer(8) + integer(NUMBERS["Subscribe"]) + b"\1\6glo")
    yield bad("a type that the length cuts off", "Truncated", integer(2) + bytes([251, 0]))
    yield bad("a type that the length cuts off, with bytes behind", "Truncated", integer(1) + bytes([251, 0x13, 0, 7]))

    for name, body in [
        ("Ping", b""), ("Ping", bytes([251, 7])), ("Ping", bytes([253]) + bytes(7)),
        ("Subscribe", b"\1"), ("Subscribe", b"\1\6globa"), ("Subscribe", b"\1" + integer(2**62)),
        ("Publish", b"\1\1c"), ("Publish", b"\1\1c\0\2n"), ("Publish", b"\1\1c\2\0" + integer(2**40) + b"x"),
        ("Hello", b"\1"), ("Hello", b"\1\1"), ("Hello", b"\1\0\0\2\1a"), ("Hello", b"\1\0\0" + integer(2**63)),
        ("Header", b"\1\0\0\1\1\0"), ("Published", b"\1\1\1"), ("GoAway", b""),
        ("Welcome", b"\1\0\0\0\1\1\1\1\1\1c\1"),
    ]:
        yield bad(f"a {name} cut off: {body.hex() or 'no body'}", "Body", frame(NUMBERS[name], body))

    first = {}
    for _, kind, value in frames():
        first.setdefault(kind, value)
    for kind, value in first.items():
        yield bad(f"a byte after {kind}", "Body", frame(NUMBERS[kind], encode(kind, value) + b"\0"))

    for name, octets in [
        ("a lone continuation byte", b"\x80"), ("an overlong slash", b"\xc0\xaf"), ("a surrogate", b"\xed\xa0\x80"),
        ("above U+10FFFF", b"\xf4\x90\x80\x80"), ("a character cut off", b"\xe4\xb8"), ("the byte ff", b"a\xff"),
    ]:
        text = integer(len(octets)) + octets
        yield bad(f"no UTF-8: {name} as channel", "Body", frame(NUMBERS["Subscribe"], b"\1" + text))
        yield bad(f"no UTF-8: {name} as text", "Body", frame(NUMBERS["Publish"], b"\1\1c\0" + text + b"\0"))
        yield bad(f"no UTF-8: {name} in a list", "Body", frame(NUMBERS["Hello"], b"\1\0\0\1" + text))

    for number in [4, 250, 251, 2**32, 2**32 + 2, 2**64 - 1]:
        body = b"\1\1c" + integer(number) + b"\0\0"
        yield bad(f"variant {number} of Message", "Body", frame(NUMBERS["Publish"], body))
    for value in [2, 255]:
        yield bad(f"a bool of {value}", "Body", frame(NUMBERS["Header"], bytes([1, 0, 0, 1, 1, value, 0])))
        yield bad(f"an option of {value}", "Body", frame(NUMBERS["Hello"], bytes([1, value, 0, 0])))
    yield bad("a u16 of 65,536", "Body", frame(NUMBERS["Hello"], integer(65536) + bytes(3)))
    yield bad("a u32 of 2^32", "Body", frame(NUMBERS["End"], integer(2**32) + b"\0"))


def skipped():
    def unknown(name, number, body, request=None, kind=None):
        return {
            "name": name, "number": f"{number:#04x}", "request": request,
            "hex": (integer(len((kind or integer(number)) + body)) + (kind or integer(number)) + body).hex(),
        }

    taken = set(NUMBERS.values())
    for number in [0x00, 0x04, 0x0F, 0x4F, 0x5F, 0x6E, 0xFA, 0xFB, 0xFFFF, 2**32, 2**64 - 1]:
        assert number not in taken
        yield unknown(f"type {number:#04x} without a body", number, b"")
        yield unknown(f"type {number:#04x} with bytes that are nothing", number, bytes([254, 255, 0]))
    yield unknown("type 0x04 in eight bytes", 0x04, b"\1", kind=integer(4, 8))
    yield unknown("a long unknown frame", 0x6E, bytes(1000))
    for number in [0x1E, 0x20, 0x3E]:
        assert number not in taken
        yield unknown(f"an unknown request {number:#04x}", number, integer(7), "7")
        yield unknown(f"an unknown request {number:#04x} with more", number, integer(2**53 + 1) + b"more", str(2**53 + 1))
    yield unknown("an unknown request with a wide id", 0x3E, integer(7, 8), "7")
    yield unknown("an unknown request of id 2^64-1", 0x3E, integer(2**64 - 1), str(2**64 - 1))
    yield unknown("an unknown request without an id", 0x3E, b"")
    yield unknown("an unknown request with an id cut off", 0x3E, bytes([253, 1]))
    yield unknown("an unknown request with marker 254 for an id", 0x3E, bytes([254]) + bytes(16))


def datagrams():
    """Each is an id and one whole frame of type Publication; what is not is passed over (value null)."""
    publication = {"offset": "300", "time": TIME, "publisher": "42", "message": data("a/b", "0102")}
    whole = frame(NUMBERS["Publication"], encode("Publication", publication))

    def datagram(name, octets, subscription=None):
        value = None if subscription is None else publication
        return {"name": name, "hex": octets.hex(), "subscription": subscription, "value": value}

    for edge in EDGES:
        yield datagram(f"subscription {edge}", integer(int(edge)) + whole, str(edge))
    yield datagram("an id in eight bytes", integer(9, 8) + whole, "9")
    yield datagram("a length in two bytes", integer(9) + integer(len(whole) - 1, 2) + whole[1:], "9")
    yield datagram("nothing", b"")
    yield datagram("an id alone", integer(9))
    yield datagram("marker 254 for an id", bytes([254]) + whole)
    yield datagram("a length of zero", integer(9) + integer(0))
    yield datagram("a frame that is cut off", integer(9) + whole[:-1])
    yield datagram("bytes behind the frame", integer(9) + whole + b"\0")
    yield datagram("a body with a byte too many", integer(9) + frame(NUMBERS["Publication"], encode("Publication", publication) + b"\0"))
    yield datagram("a frame of an unknown type", integer(9) + frame(0x6E, b"\1"))
    yield datagram("a frame of another type", integer(9) + frame(NUMBERS["Pong"], encode("Pong", {"request": "3", "time": TIME})))


def document():
    valid = [
        {
            "name": name, "type": kind, "number": f"{NUMBERS[kind]:#04x}", "value": value,
            "hex": frame(NUMBERS[kind], encode(kind, value)).hex(),
        }
        for name, kind, value in frames()
    ]
    assert {entry["type"] for entry in valid} == set(NUMBERS), "every frame of section 8 has a vector"
    assert any(entry["hex"] == "09100106676c6f62616c" for entry in valid), "the example of section 8"
    sections = {"frames": valid, "widths": list(widths()), "invalid": list(invalid()), "skipped": list(skipped()), "datagrams": list(datagrams())}
    for name, entries in sections.items():
        names = [(entry.get("type"), entry["name"]) for entry in entries]
        assert len(names) == len(set(names)), f"a name stands twice in {name}"
    lines = [
        f" {json.dumps(name)}: [\n" + ",\n".join(f"  {json.dumps(entry, ensure_ascii=True)}" for entry in entries) + "\n ]"
        for name, entries in sections.items()
    ]
    return "{\n" + ",\n".join(lines) + "\n}\n"


if __name__ == "__main__":
    text = document()
    if "--check" in sys.argv[1:]:
        if not TARGET.is_file() or TARGET.read_text(encoding="utf-8") != text:
            sys.exit("tests/vectors/frames.json is not what generate.py writes")
    else:
        TARGET.write_text(text, encoding="utf-8")
