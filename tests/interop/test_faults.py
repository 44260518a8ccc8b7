"""Faults of the protocol, §3.5 and §4.3."""

import pytest

from common import run, new_user, login, usable, ends_with
from tidings_client import Code, End, Hello, Ping, Subscribe, Unsubscribed, encode_body, encode_frame, encode_integer, encode_raw


FAULTS = {
    "marker 255 as length": (b"\xff" * 64, Code.PROTOCOL_VIOLATION),
    "marker 254 as length": (b"\xfe\x00\x00", Code.PROTOCOL_VIOLATION),
    "length 0": (b"\x00", Code.PROTOCOL_VIOLATION),
    "marker 255 as type": (b"\x01\xff", Code.PROTOCOL_VIOLATION),
    "type longer than the frame": (b"\x01\xfb\x10\x00", Code.PROTOCOL_VIOLATION),
    "two gigabytes": (b"\xfc\x00\x00\x00\x80", Code.FRAME_TOO_LARGE),
    "sixteen exabytes": (b"\xfd" + b"\xff" * 8, Code.FRAME_TOO_LARGE),
}

LATER_FAULTS = {
    **FAULTS,
    "trailing byte": (encode_raw(0x13, encode_integer(1) + b"\x00"), Code.PROTOCOL_VIOLATION),
    "body cut off": (encode_raw(0x10, encode_integer(1) + b"\x09glob"), Code.PROTOCOL_VIOLATION),
    "no body": (encode_raw(0x13, b""), Code.PROTOCOL_VIOLATION),
    "no UTF-8": (encode_raw(0x10, encode_integer(1) + b"\x02\xc3\x28"), Code.PROTOCOL_VIOLATION),
    "string of exabytes": (encode_raw(0x10, encode_integer(1) + b"\xfd" + b"\xff" * 8), Code.PROTOCOL_VIOLATION),
    "unknown message": (encode_raw(0x12, encode_integer(1) + b"\x01a\x03\x00\x00"), Code.PROTOCOL_VIOLATION),
    "second Hello": (encode_frame(Hello(1, None, "", [])), Code.UNEXPECTED_FRAME),
    "a frame of the server": (encode_frame(Unsubscribed(1)), Code.UNEXPECTED_FRAME),
    "a frame of another stream": (encode_frame(End(0, "")), Code.UNEXPECTED_FRAME),
}


@pytest.mark.parametrize("case", FAULTS)
def test_fault_before_hello(server, transport, case):
    data, code = FAULTS[case]

    async def test():
        async with server.connect(transport) as client:
            client.send_raw(data)
            await ends_with(client, code)

    run(test())


@pytest.mark.parametrize("case", ["trailing byte", "cut off", "bad option"])
def test_hello_that_does_not_decode(server, transport, case):
    body = encode_body(Hello(1, server.token(new_user()), "c", []))
    body = {"trailing byte": body + b"\x00", "cut off": body[:-1], "bad option": b"\x01\x02" + body[2:]}[case]

    async def test():
        async with server.connect(transport) as client:
            client.send_raw(encode_raw(0x01, body))
            await ends_with(client, Code.PROTOCOL_VIOLATION)

    run(test())


@pytest.mark.parametrize("item", [Ping(1), Subscribe(1, "global"), End(0, "")], ids=lambda item: type(item).__name__)
def test_first_frame_is_not_hello(server, transport, item):
    async def test():
        async with server.connect(transport) as client:
            client.send(item)
            await ends_with(client, Code.UNEXPECTED_FRAME)

    run(test())


@pytest.mark.parametrize("case", LATER_FAULTS)
def test_fault_after_welcome(server, transport, case):
    data, code = LATER_FAULTS[case]

    async def test():
        async with server.connect(transport) as client:
            await login(server, client)
            client.send_raw(data)
            await ends_with(client, code)

    run(test())


def test_frame_above_the_limit(server, transport):
    async def test():
        async with server.connect(transport) as client:
            await login(server, client)
            client.send_raw(encode_integer(client.welcome.limits.frame + 1))
            await ends_with(client, Code.FRAME_TOO_LARGE)

    run(test())


def test_frame_of_the_limit(server, transport):
    """An unknown frame that is as long as may be is skipped, not refused."""

    async def test():
        async with server.connect(transport) as client:
            await login(server, client)
            client.send_raw(encode_raw(0x70, b"\xff" * (client.welcome.limits.frame - 1)))
            await usable(client)

    run(test())
