"""§7, `stalled`: clients that acknowledge nothing are disconnected, and idle ones are not."""

import asyncio

import pytest

from common import ends_with, login, new_room, run, says, text, usable
from conftest import start
from tidings_client import Code

STALLED = 2

SETTINGS = f"""
[timeouts]
grace = 1
stalled = {STALLED}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server that soon disconnects clients without progress."""
    server = start(tmp_path_factory.mktemp("progress"), SETTINGS)
    try:
        yield server
        server.stop()
    finally:
        server.kill()


async def send_pings(client, seconds):
    """QUIC PINGs alone, which aioquic sends without an acknowledgement beside."""
    for _ in range(seconds * 5):
        client._quic.send_ping(0)
        client._flush()
        await asyncio.sleep(0.2)


def test_an_idle_client_that_only_pings_stays(server, transport):
    async def test():
        async with server.connect(transport) as client:
            await login(server, client)
            room = new_room()
            _, stream = await client.subscribe(room)
            await send_pings(client, 4 * STALLED)
            assert client.closed is None
            await client.publish(room, text("still here"))
            await client.message(stream, says("still here"))
            await usable(client)

    run(test())


def test_a_client_that_pings_and_acknowledges_nothing_is_disconnected(server, transport):
    async def test():
        async with server.connect(transport) as client, server.connect(transport) as other:
            await login(server, client)
            await login(server, other)
            room = new_room()
            await client.subscribe(room)
            client.acknowledge_nothing()
            await other.publish(room, text("in flight"))
            pings = asyncio.create_task(send_pings(client, 10 * STALLED))
            await ends_with(client, Code.STALLED)
            pings.cancel()
            await usable(other)

    run(test())
