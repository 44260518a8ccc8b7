"""A server that stops, §4.9."""

import asyncio

from common import run, new_room, text, login, ends_with
from tidings_client import Code, ConnectionEnded, RequestFailed


def test_server_that_stops(own_server, transport):
    """§4.9: GoAway, what was accepted, `End`, and the close, all with one code; the server's exit code is 0."""

    async def test():
        async with own_server.connect(transport) as client:
            user = await login(own_server, client)
            room = new_room()
            _, stream = await client.subscribe(room)
            await client.publish(room, text("accepted"))
            own_server.terminate()
            closed = await client.wait_closed(30)
            assert closed.code == Code.GOING_AWAY, str(closed)
            assert client.go_away is not None and client.go_away.code == Code.GOING_AWAY
            assert stream.messages == [text("accepted")]
            for item in (stream, await_stream(client, f"user-{user}"), await_stream(client, "global")):
                assert item.finished
                assert item.end is not None and item.end.code == Code.GOING_AWAY
        await asyncio.to_thread(own_server.wait)

    run(test())


def await_stream(client, channel):
    return next(stream for stream in client.streams.values() if stream.header.name == channel)


def test_requests_fail_while_the_server_stops(own_server, transport):
    """A request that arrives after GoAway fails with `going_away`, or the connection is gone with that code by then."""

    async def test():
        async with own_server.connect(transport) as client:
            await login(own_server, client)
            room = new_room()
            own_server.terminate()
            await client.until(lambda: client.go_away, "GoAway", 30)
            for awaitable in (client.publish(room, text("late")), client.subscribe(room)):
                try:
                    await awaitable
                except RequestFailed as failed:
                    assert failed.code == Code.GOING_AWAY, str(failed)
                except ConnectionEnded as ended:
                    assert ended.closed.code == Code.GOING_AWAY, str(ended)
                else:
                    raise AssertionError("a request was accepted after GoAway")
            await ends_with(client, Code.GOING_AWAY, 30)

    run(test())
