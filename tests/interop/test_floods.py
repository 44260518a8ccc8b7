"""Clients that do too much of what they may, and what they may not: the server bounds each, and others are not delayed.

Each test states how much more memory the server may hold; see `misbehaviour.attack`.
"""

import asyncio
import contextlib
import resource
import socket
from urllib.parse import urlsplit

import pytest

from common import ends_with_transport_error, login, new_room, new_user, run, text, usable
from misbehaviour import (
    MIB,
    STREAM_LIMIT_ERROR,
    STREAM_STATE_ERROR,
    Sender,
    attack,
    clients,
    first_flight,
    garbage,
    open_and_reset,
    overstep,
    reset_what_is_not_ours,
    stop_and_subscribe,
)
from tidings_client import Code, Publish, encode_frame


def test_streams_that_are_reset_at_once(guarded, watch, transport):
    """§2.3: thousands of streams beside the control streams, each refused, and the control streams go on."""

    async def test():
        count = 750 if transport == "quic" else 250
        words = encode_frame(Publish(1, watch.room, text("never heard")))
        async with attack(guarded, watch, 4 * MIB):
            async with clients(guarded, transport, 4) as crowd:
                await asyncio.gather(*(open_and_reset(client, count, words) for client in crowd))
                for client in crowd:
                    await usable(client)
                    if transport == "quic":
                        answers = lambda: [state["reset"] for number, state in client.others.items() if number != client.control]
                        await client.until(lambda: None not in answers(), "the end of each stream")
                        assert answers() == [Code.UNEXPECTED_FRAME] * count

    run(test())


def test_streams_beyond_the_limit(guarded, watch, transport):
    """RFC 9000 §4.6: the connection ends, and only it."""

    async def test():
        async with attack(guarded, watch, 4 * MIB):
            async with clients(guarded, transport, 20) as crowd:
                for at, client in enumerate(crowd):
                    overstep(client, unidirectional=at % 2 == 0)
                for client in crowd:
                    await ends_with_transport_error(client, STREAM_LIMIT_ERROR)

    run(test())


def test_unidirectional_streams_up_to_the_limit(guarded, watch):
    """§2.3: over raw QUIC they are of no use, and never more of them are permitted."""

    async def test():
        async with attack(guarded, watch, 4 * MIB):
            async with clients(guarded, "quic", 20) as crowd:
                for client in crowd:
                    while client.may_open(unidirectional=True):
                        client.reset(client.open_unidirectional(), Code.CLOSED)
                for client in crowd:
                    await usable(client)
                    assert not client.may_open(unidirectional=True)

    run(test())


def test_subscriptions_that_are_stopped_and_asked_for_again(guarded, watch, transport):
    """§4.5: whatever is stopped is forgotten, and can be asked for again, however often."""

    async def test():
        rooms = [watch.room, *(new_room() for _ in range(15))]
        async with attack(guarded, watch, 4 * MIB):
            async with clients(guarded, transport, 2) as crowd:
                await asyncio.gather(*(stop_and_subscribe(client, room, 20) for client in crowd for room in rooms))
                for client in crowd:
                    await usable(client)
                    assert not any(stream.finished for stream in client.streams.values())

    run(test())


def test_resets_of_streams_of_the_server(guarded, watch, transport):
    """RFC 9000 §19.4: a stream on which only the server sends cannot be reset by the client."""

    async def test():
        async with attack(guarded, watch, 4 * MIB):
            async with clients(guarded, transport, 20) as crowd:
                for client in crowd:
                    _, stream = await client.subscribe(watch.room)
                    reset_what_is_not_ours(client, stream)
                for client in crowd:
                    await ends_with_transport_error(client, STREAM_STATE_ERROR)

    run(test())


def test_packets_of_no_connection(guarded, watch):
    """Whatever they are, less goes back than came, and a client that comes meanwhile is let in."""

    async def test():
        async with attack(guarded, watch, 4 * MIB):
            sender = Sender(guarded)
            try:
                noise = asyncio.ensure_future(sender.flood(garbage(1, 20_000)))
                for _ in range(3):
                    async with guarded.connect("quic") as client:
                        await login(guarded, client)
                await noise
            finally:
                sender.close()
            assert 0 < sender.received < sender.sent

    run(test())


def test_handshakes_that_are_never_finished(guarded, watch):
    """§2: they end with the deadline, and a client that comes meanwhile is let in."""

    async def test():
        async with attack(guarded, watch, 16 * MIB):
            senders = []
            try:
                for _ in range(300):
                    senders.append(Sender(guarded))
                    await senders[-1].begin(first_flight(guarded))
                async with guarded.connect("quic") as client:
                    await login(guarded, client)
            finally:
                for sender in senders:
                    sender.close()

    run(test())


def test_sessions_that_come_and_go(guarded, watch, transport):
    """A user who connects and leaves over and over leaves nothing."""

    async def test():
        async with attack(guarded, watch, 4 * MIB):
            user = new_user()
            for at in range(24):
                async with guarded.connect(transport) as client:
                    await login(guarded, client, user)
                    if at % 2:
                        client.vanish()

    run(test())


@pytest.mark.parametrize(
    "start",
    [
        b"",
        b"POST /v1/announce HTTP/1.1\r\nHost: x\r\nX-Slow: ",
        b"POST /v1/announce HTTP/1.1\r\nHost: x\r\nX-API-Key: wrong\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{",
        b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 20,
    ],
    ids=["idle", "slow head", "slow body", "unread answers"],
)
def test_http_connections_that_go_on(guarded, watch, start):
    """More connections to the HTTP API than it takes: requests with the key are answered all the same."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4096)), hard))
    url = urlsplit(guarded.http)

    def connect(stack):
        connection = stack.enter_context(socket.create_connection((url.hostname, url.port)))
        connection.setblocking(False)
        with contextlib.suppress(OSError):
            connection.send(start)

    async def test():
        # A connection has a buffer of 32 KiB, and answers that nobody reads fill the system's.
        async with attack(guarded, watch, 96 * MIB):
            with contextlib.ExitStack() as stack:
                for number in range(1_200):
                    connect(stack)
                    if number % 100 == 99:
                        # Before, this took until the deadline of a head, 10 s.
                        await asyncio.wait_for(guarded.post("/v1/announce", text="still here"), 8)

    run(test())
