"""Clients that stop in the middle: they say half of something, acknowledge nothing, or read nothing. The server bounds each, and
others are not delayed.

Each test states how much more memory the server may hold; see `misbehaviour.attack`.
"""

import asyncio
import base64

from common import ends_with, ends_with_transport_error, new_room, new_user, run, text, usable
from misbehaviour import INTERNAL_ERROR, MIB, attack, clients, in_pieces
from tidings_client import Code, Hello, Ping, Publish, encode_frame, encode_integer, encode_raw

# What the server's rules keep of a channel, and the most that it holds unacknowledged for one connection (ARCHITECTURE.md, "Bounds").
LOG = 256 << 10
SEND_WINDOW = 1 * MIB
SLACK = 6 * MIB


def test_half_a_hello(guarded, watch, transport):
    """§2: the deadline is total, and tells of itself, whoever said half of a Hello by then, or nothing."""

    async def test():
        hello = encode_frame(Hello(1, guarded.token(new_user()), "slow", []))
        async with attack(guarded, watch, SLACK):
            async with clients(guarded, transport, 60, logged_in=False) as crowd:
                for at, client in enumerate(crowd):
                    client.open_control()
                    if at % 3:
                        client.send_raw(hello[: len(hello) * (at % 3) // 3])
                for client in crowd:
                    await ends_with(client, Code.HELLO_TIMEOUT)

    run(test())


def test_half_a_frame_after_hello(guarded, watch, transport):
    """A frame that never becomes whole costs what arrived of it, and only for as long as its connection."""

    async def test():
        count, said = 8, 120 << 10
        async with attack(guarded, watch, count * 2 * said + SLACK):
            async with clients(guarded, transport, count) as crowd:
                streams = []
                for client in crowd:
                    streams.append((await client.subscribe(watch.room))[1])
                    limit = client.welcome.limits.frame
                    client.send_raw(encode_integer(limit) + bytes(said))
                    await client.until(client.delivered, "acknowledgements", 30)
                for client, stream in zip(crowd, streams):
                    # Who stops in the middle of a word still hears.
                    heard = stream.expected
                    await client.until(lambda: stream.expected > heard, "a publication")

    run(test())


def test_lengths_above_the_limit(guarded, watch, transport):
    """§3.5: the length alone is judged, before anything is kept, before Hello and after it."""

    async def test():
        async with attack(guarded, watch, SLACK):
            for logged_in in (False, True):
                async with clients(guarded, transport, 15, logged_in) as crowd:
                    for at, client in enumerate(crowd):
                        length = (1 << 20, 1 << 32, (1 << 64) - 1)[at % 3]
                        client.send_raw(encode_integer(length) + bytes(1_000))
                    for client in crowd:
                        await ends_with(client, Code.FRAME_TOO_LARGE)

    run(test())


def test_a_byte_at_a_time(guarded, watch, transport):
    """Requests that arrive in packets of one byte are answered like any other."""

    async def test():
        room = new_room()
        frame = b"".join(encode_frame(Publish(number, room, text("drop"))) for number in range(1, 6))
        async with attack(guarded, watch, SLACK):
            async with clients(guarded, transport, 10) as crowd:
                await asyncio.gather(*(client.send_slowly(frame) for client in crowd))
                for client in crowd:
                    for number in range(1, 6):
                        await client.answer(number)

    run(test())


def test_every_other_byte(guarded, watch, transport):
    """What comes in pieces of a byte with holes between them is kept, and becomes a frame when the holes are filled; but not any number
    of holes: then the connection ends (§2.1, RFC 9000 §20.1), and only it."""

    async def test():
        async with attack(guarded, watch, SLACK):
            async with clients(guarded, transport, 6) as crowd:
                few, many = crowd[:3], crowd[3:]
                for client in few:
                    data = encode_raw(0x70, bytes(400)) + encode_frame(Ping(7))
                    await client.until(client.delivered, "acknowledgements", 30)
                    start = client.sent_on(client.control)
                    for chosen in (range(1, len(data), 2), range(0, len(data), 2)):
                        in_pieces(client, data, start, chosen)
                        await client.until(client.delivered, "acknowledgements", 30)
                    assert (await client.answer(7)).request == 7
                for client in many:
                    data = encode_raw(0x70, bytes(20_000))
                    in_pieces(client, data, client.sent_on(client.control), range(1, len(data), 2))
                    await ends_with_transport_error(client, INTERNAL_ERROR)

    run(test())


def test_a_peer_that_acknowledges_nothing(guarded, watch, transport):
    """It gets what QUIC sends without a word from it, and no more; when it falls silent its connection ends with the idle timeout."""

    async def test():
        room, count = new_room(), 3
        async with attack(guarded, watch, LOG + count * SEND_WINDOW + SLACK):
            async with clients(guarded, transport, count) as crowd:
                streams = []
                for client in crowd:
                    await client.subscribe(watch.room)
                    streams.append((await client.subscribe(room))[1])
                    client.acknowledge_nothing()
                await publish_much(guarded, [room], 16 * MIB)
                for client, stream in zip(crowd, streams):
                    assert stream.received < 256 << 10
                    # It lives for as long as it says something; then its silence ends it.
                    assert client.closed is None
                    client.vanish()

    run(test())


def test_readers_that_stall(guarded, watch, transport):
    """§1, §2.3: whoever grants no more window than at the beginning, on any of very many streams, holds logs and a send window."""

    async def test():
        rooms, count = [new_room() for _ in range(20)], 4
        async with attack(guarded, watch, len(rooms) * LOG + count * SEND_WINDOW + SLACK):
            async with clients(guarded, transport, count, window=1 << 14) as crowd:
                read = []
                for client in crowd:
                    client.freeze()
                    for room in [watch.room, *rooms]:
                        _, stream = await client.subscribe(room)
                        read.append((client, stream))
                await publish_much(guarded, rooms, 24 * MIB)
                for client, stream in read:
                    assert stream.received <= 1 << 14
                for client in crowd:
                    await usable(client)

    run(test())


async def publish_much(server, rooms, total, size=48_000):
    """So many bytes, in large messages, room after room, over the HTTP API: quicker than a client, and of no connection."""
    content = base64.b64encode(bytes(size)).decode("ascii")
    for at in range(total // size):
        await server.post("/v1/publish", channel=rooms[at % len(rooms)], base64=content)
