"""The codec against the examples of PROTOCOL.md (§3.6, §8) and bytes computed by hand."""

import random
from dataclasses import fields

import pytest

from tidings_client import (
    FRAMES,
    U16,
    U32,
    U64,
    After,
    Announcement,
    AutoSubscription,
    Bool,
    Byte,
    Bytes,
    Data,
    DecodeError,
    End,
    Enum,
    Failed,
    FrameReader,
    GoAway,
    Head,
    Header,
    Hello,
    HistoryPage,
    HistoryQuery,
    Integer,
    Kept,
    Lagged,
    AfterOrOldest,
    Latest,
    Limits,
    List,
    Member,
    Notification,
    Option,
    Ping,
    Pong,
    Position,
    Presence,
    PresencePage,
    Publication,
    Publish,
    Own,
    PublishOnce,
    PublishWith,
    Published,
    PublishedOnce,
    Reader,
    ReadHistory,
    ReadPresence,
    String,
    Struct,
    Refresh,
    Refreshed,
    RefusedSubscription,
    Lane,
    Skipped,
    Turn,
    Subscribe,
    SubscribeFrom,
    Subscribed,
    Unknown,
    Unsubscribe,
    Unsubscribed,
    Welcome,
    code_from_http,
    code_to_http,
    encode_frame,
    encode_integer,
    encode_raw,
    make_token,
)

INTEGERS = [
    (0, "00"),
    (1, "01"),
    (250, "fa"),
    (251, "fb fb 00"),
    (252, "fb fc 00"),
    (255, "fb ff 00"),
    (256, "fb 00 01"),
    (65_535, "fb ff ff"),
    (65_536, "fc 00 00 01 00"),
    (4_294_967_295, "fc ff ff ff ff"),
    (4_294_967_296, "fd 00 00 00 00 01 00 00 00"),
    (18_446_744_073_709_551_615, "fd ff ff ff ff ff ff ff ff"),
]

FRAME_BYTES = [
    (Subscribe(1, "global"), "09 10 01 06 67 6c 6f 62 61 6c"),  # the example of §8
    (Hello(1, None, "", []), "05 01 01 00 00 00"),
    (Hello(1, "ab", "c", ["d", "ef"]), "0e 01 01 01 02 61 62 01 63 02 01 64 02 65 66"),
    (
        Welcome(
            7, "u", "s", [], Limits(65_536, 70_000, 100), [AutoSubscription(1, "g", Position(300, 2))],
            9, 30_000, [RefusedSubscription("h", 302, "x")],
        ),
        "28 02 07 01 01 75 01 73 00 fc 00 00 01 00 fc 70 11 01 00 64 01 01 01 67 fb 2c 01 02"
        " 01 09 fb 30 75 01 01 68 fb 2e 01 01 78",
    ),
    (GoAway(401, 5_000), "07 03 fb 91 01 fb 88 13"),
    (Unsubscribe(2, 9), "03 11 02 09"),
    (Publish(3, "a", Notification("hi", 4)), "09 12 03 01 61 00 02 68 69 04"),
    (Publish(3, "a", Announcement("hi", 4)), "09 12 03 01 61 01 02 68 69 04"),
    (Publish(3, "a", Data("t", b"\x00\xff")), "0a 12 03 01 61 02 01 74 02 00 ff"),
    (Ping(251), "04 13 fb fb 00"),
    (SubscribeFrom(1, "a", Head()), "05 14 01 01 61 00"),
    (SubscribeFrom(1, "a", After(Position(300, 2))), "09 14 01 01 61 01 fb 2c 01 02"),
    (SubscribeFrom(1, "a", Latest(10)), "06 14 01 01 61 02 0a"),
    (SubscribeFrom(1, "a", AfterOrOldest(Position(300, 2))), "09 14 01 01 61 03 fb 2c 01 02"),
    (ReadHistory(1, "a", HistoryQuery(None, 10, False)), "07 15 01 01 61 00 0a 00"),
    (ReadHistory(1, "a", HistoryQuery(Position(300, 2), 10, True)), "0b 15 01 01 61 01 fb 2c 01 02 0a 01"),
    (HistoryPage(1, Kept(1, 3, 6), True, 4), "08 45 01 01 01 03 06 01 04"),
    (HistoryPage(1, None, False, 0), "05 45 01 00 00 00"),
    (PublishOnce(3, "a", "k", Notification("hi", 4)), "0b 16 03 01 61 01 6b 00 02 68 69 04"),
    (PublishedOnce(3, Position(1, 5), 0, True), "06 46 03 01 05 00 01"),
    (Failed(1, 105, "no"), "06 40 01 69 02 6e 6f"),
    (Failed(1, 401, ""), "06 40 01 fb 91 01 00"),
    (Subscribed(1, 9, Position(1, 0)), "05 41 01 09 01 00"),
    (Unsubscribed(2), "02 42 02"),
    (Published(3, Position(1, 5), 0), "05 43 03 01 05 00"),
    (Pong(4, 1_700_000_000_000), "0b 44 04 fd 00 68 e5 cf 8b 01 00 00"),
    (Header(9, 0, "g", 1, 6, False, 0), "09 60 09 00 01 67 01 06 00 00"),
    (Header(9, 0, "g", 1, 6, False, 2), "09 60 09 00 01 67 01 06 00 02"),
    (Publication(6, 1, None, Notification("", 0)), "07 61 06 01 00 00 00 00"),
    (Publication(6, 1, "bo", Data("", b"")), "0a 61 06 01 01 02 62 6f 02 00 00"),
    (Refresh(5, "t"), "04 17 05 01 74"),
    (Refreshed(5, None), "03 47 05 00"),
    (Refreshed(5, 7), "04 47 05 01 07"),
    (ReadPresence(4, "a", 251), "07 19 04 01 61 fb fb 00"),
    (PresencePage(4, None, 0, 0, [], True), "07 48 04 00 00 00 00 01"),
    (PresencePage(4, Position(1, 5), 2, 1, [Member(7, "u"), Member(8, None)], False), "0f 48 04 01 01 05 02 01 02 07 01 01 75 08 00 00"),
    (Publication(6, 1, None, Presence([Member(7, "u")], [Member(8, None)], 1, 1, True)), "10 61 06 01 00 03 01 07 01 01 75 01 08 00 01 01 01"),
    (Lagged(3, 8), "03 62 03 08"),
    (Skipped(3, 8), "03 64 03 08"),
    (Lane(1), "02 65 01"),
    (Own(3, 8), "03 67 03 08"),
    (PublishWith(3, "a", None, "c", False, Notification("hi", 4)), "0e 18 03 01 61 00 01 01 63 00 00 02 68 69 04"),
    (Turn(300), "04 66 fb 2c 01"),
    (End(1, ""), "03 63 01 00"),
]


def of_hex(text):
    return bytes.fromhex(text)


def one(data, **options):
    found = FrameReader(**options).feed(data)
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize("value, data", INTEGERS)
def test_integer(value, data):
    assert encode_integer(value) == of_hex(data)
    reader = Reader(of_hex(data), canonical=True)
    assert reader.integer() == value
    reader.finish()


@pytest.mark.parametrize("data", ["fb 05 00", "fc 05 00 00 00", "fd 05 00 00 00 00 00 00 00"])
def test_reader_takes_any_length_of_an_integer(data):
    assert Reader(of_hex(data)).integer() == 5
    with pytest.raises(DecodeError):
        Reader(of_hex(data), canonical=True).integer()


@pytest.mark.parametrize("data", ["", "fb 00", "fc 00 00 00", "fd 00 00 00 00 00 00 00", "fe", "ff"])
def test_integer_that_is_none(data):
    with pytest.raises(DecodeError):
        Reader(of_hex(data)).integer()


def test_integer_out_of_range():
    with pytest.raises(DecodeError):
        U16.decode(Reader(encode_integer(65_536)))
    with pytest.raises(DecodeError):
        U32.decode(Reader(encode_integer(1 << 32)))
    with pytest.raises(ValueError):
        U16.encode(65_536)
    with pytest.raises(ValueError):
        U64.encode(1 << 64)


@pytest.mark.parametrize("kind, data", [(Bool(), "02"), (Option(String()), "02 00"), (String(), "02 c3 28"), (String(), "05 61")])
def test_value_that_is_none(kind, data):
    with pytest.raises(DecodeError):
        kind.decode(Reader(of_hex(data)))


def test_u8_is_the_byte():
    assert Byte().encode(251) == b"\xfb"
    assert Byte().decode(Reader(b"\xff")) == 255


def test_enum_variants():
    for number, value in enumerate([Notification("a", 1), Announcement("a", 1), Data("a", b"b")]):
        frame = encode_frame(Publish(0, "", value))
        assert frame[4] == number
    with pytest.raises(DecodeError):
        one(of_hex("04 12 03 00 03"))


def test_every_frame_has_bytes_here():
    assert {type(value) for value, _ in FRAME_BYTES} == set(FRAMES.values())


@pytest.mark.parametrize("value, data", FRAME_BYTES, ids=lambda part: type(part).__name__ if not isinstance(part, str) else "")
def test_frame(value, data):
    assert encode_frame(value).hex(" ") == data
    assert one(of_hex(data), canonical=True) == value


@pytest.mark.parametrize("value, data", FRAME_BYTES, ids=lambda part: type(part).__name__ if not isinstance(part, str) else "")
def test_frame_in_pieces(value, data):
    data = of_hex(data)
    reader = FrameReader()
    for at in range(len(data) - 1):
        assert reader.feed(data[at : at + 1]) == []
    assert reader.feed(data[-1:]) == [value]


@pytest.mark.parametrize("value, data", FRAME_BYTES, ids=lambda part: type(part).__name__ if not isinstance(part, str) else "")
def test_body_too_long_or_too_short(value, data):
    content = of_hex(data)[1:]
    with pytest.raises(DecodeError):
        one(encode_integer(len(content) + 1) + content + b"\x00")
    with pytest.raises(DecodeError):
        one(encode_integer(len(content) - 1) + content[:-1])


@pytest.mark.parametrize("data", ["00", "fe", "ff", "01 ff", "02 fb 00"])
def test_bytes_that_are_no_frame(data):
    with pytest.raises(DecodeError):
        FrameReader().feed(of_hex(data))


def test_length_is_checked_before_the_body_arrives():
    reader = FrameReader(limit=100)
    with pytest.raises(DecodeError):
        reader.feed(of_hex("fc 00 00 00 80"))


def test_unknown_type_is_cut_by_its_length():
    data = encode_raw(0x70, b"abc") + encode_raw(0x1234, b"") + encode_frame(Ping(1))
    assert FrameReader().feed(data) == [Unknown(0x70, b"abc"), Unknown(0x1234, b""), Ping(1)]


def sample(kind, source):
    if isinstance(kind, Integer):
        return source.choice([0, 1, 250, 251, (1 << kind.bits) - 1, source.getrandbits(kind.bits)])
    if isinstance(kind, Byte):
        return source.randrange(256)
    if isinstance(kind, Bool):
        return source.random() < 0.5
    if isinstance(kind, Bytes):
        return source.randbytes(source.choice([0, 1, 250, 251, 70_000]))
    if isinstance(kind, String):
        return "".join(source.choice("az09ä€😀") for _ in range(source.choice([0, 1, 20, 300])))
    if isinstance(kind, Option):
        return sample(kind.item, source) if source.random() < 0.5 else None
    if isinstance(kind, List):
        return [sample(kind.item, source) for _ in range(source.randrange(4))]
    if isinstance(kind, Enum):
        return sample(Struct(source.choice(kind.variants)), source)
    return kind.cls(**{f.name: sample(f.metadata["kind"], source) for f in fields(kind.cls)})


@pytest.mark.parametrize("cls", FRAMES.values(), ids=lambda cls: cls.__name__)
def test_round_trip(cls):
    source = random.Random(cls.__name__)
    for _ in range(200):
        value = sample(Struct(cls), source)
        assert one(encode_frame(value), canonical=True) == value


def test_http_codes():
    """The first and the last code, and those around a code that HTTP/3 reserves."""
    assert code_to_http(0) == 0x52E4A40FA8DB
    assert code_to_http(0xFFFF_FFFF) == 0x52E5AC983162
    assert code_to_http(29) + 2 == code_to_http(30)
    for code in (0, 1, 29, 30, 31, 100, 104, 202, 401, 2_999, 0xFFFF_FFFF):
        assert code_from_http(code_to_http(code)) == code
    assert code_from_http(code_to_http(30) - 1) is None
    assert code_from_http(0x100) is None


def test_token():
    """The example that jwt.io shows."""
    token = make_token(b"your-256-bit-secret", {"sub": "1234567890", "name": "John Doe", "iat": 1_516_239_022})
    assert token == (
        "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9"
        ".eyJzdWIiOiIxMjM0NTY3ODkwIiwibmFtZSI6IkpvaG4gRG9lIiwiaWF0IjoxNTE2MjM5MDIyfQ"
        ".SflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV_adQssw5c"
    )
    assert make_token(b"secret", {"sub": "u"}, "none").endswith(".eyJzdWIiOiJ1In0.")
