"""Clients that permit few streams, §2.3 and §5.7."""

import pytest

from common import run, new_user, new_room, text, login, usable
from tidings_client import Code, RequestFailed


def test_no_stream_left(server, transport):
    """The client permits four streams, and never more: HTTP/3's own three beside them."""

    async def test():
        permitted = 4 if transport == "quic" else 7
        async with server.connect(transport, permitted_streams=permitted) as client:
            await login(server, client)
            # Two are taken by automatic subscriptions; over HTTP/3 the server may leave some of its own three unused.
            with pytest.raises(RequestFailed) as caught:
                for _ in range(permitted):
                    await client.subscribe(new_room())
            assert caught.value.code == Code.NO_STREAM_LEFT
            await usable(client)

    run(test())


@pytest.mark.parametrize("permitted", [1, 6])
def test_lanes(server, transport, permitted):
    """§5.7: a client that knows lanes is refused nothing for want of a stream."""

    async def test():
        streams = permitted if transport == "quic" else permitted + 3
        async with server.connect(transport, permitted_streams=streams) as client:
            welcome = await client.hello(server.token(new_user()), features=["lanes"])
            assert welcome.features == ["lanes"]
            rooms = [new_room() for _ in range(40)]
            reads = [await client.subscribe(room) for room in rooms]
            for number in range(3):
                for room in rooms:
                    await client.publish(room, text(f"{room} {number}"))
            for room, (_, stream) in zip(rooms, reads):
                await client.until(lambda: len(stream.publications) == 3, room)
                assert stream.messages == [text(f"{room} {number}") for number in range(3)]
            # One ends, and the others go on.
            gone, ended = reads.pop()
            await client.unsubscribe(gone.subscription)
            await client.until(lambda: ended.end, "the end")
            assert ended.end.code == Code.UNSUBSCRIBED
            for room, (_, stream) in zip(rooms, reads):
                await client.publish(room, text("on"))
                await client.message(stream, lambda message: message == text("on"))
            assert any(stream.parts for stream in client.streams.values())
            assert len(client.streams) <= streams

    run(test())
