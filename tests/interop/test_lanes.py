"""Clients that permit few streams, §2.3 and §5.7."""

import asyncio

import pytest

from common import failure, login, new_room, new_user, run, text, usable
from tidings_client import After, Code, Position, Publish, RequestFailed, Subscribe, encode_frame

# Streams of HTTP/3 itself: the server's control stream, and two of QPACK that it may leave unused.
OF_HTTP3 = {"quic": 0, "webtransport": 3}


def test_no_stream_left(server, transport):
    """§2.3: a client that permits eight streams and knows no lanes has eight subscriptions, two of them automatic."""

    async def test():
        async with server.connect(transport, permitted_streams=8 + OF_HTTP3[transport]) as client:
            await login(server, client)
            made = []
            with pytest.raises(RequestFailed) as caught:
                for _ in range(8 + OF_HTTP3[transport]):
                    made.append(await client.subscribe(new_room()))
            assert caught.value.code == Code.NO_STREAM_LEFT
            assert len(made) in ([6] if transport == "quic" else range(6, 9))
            await usable(client)
            # An end makes room for another.
            subscribed, _ = made[0]
            await client.unsubscribe(subscribed.subscription)
            await client.until(lambda: client.subscriptions[subscribed.subscription].finished, "the end of the stream")
            await subscribes_again(client, new_room())

    run(test())


async def subscribes_again(client, room):
    """The server learns of the stream that it may open instead a little later than of the end that it told."""
    while True:
        try:
            return await client.subscribe(room)
        except RequestFailed as failed:
            assert failed.code == Code.NO_STREAM_LEFT, str(failed)
            await client.ping()


def test_automatic_subscriptions_without_a_stream(server):
    """§2.3: where none is left an automatic subscription is not made, and nobody is told off."""

    async def test():
        for permitted in (0, 1):
            async with server.connect("quic", permitted_streams=permitted) as client:
                welcome = await client.hello(server.token(new_user()))
                assert len(welcome.subscriptions) == permitted
                await failure(client.subscribe(new_room()), Code.NO_STREAM_LEFT)
                await usable(client)

    run(test())


def test_lanes_of_a_client_that_permits_no_stream(server):
    """§5.7: that is all that `no_stream_left` is left for."""

    async def test():
        async with server.connect("quic", permitted_streams=0) as client:
            await client.hello(server.token(new_user()), features=["lanes"])
            await failure(client.subscribe(new_room()), Code.NO_STREAM_LEFT)
            await usable(client)

    run(test())


async def knowing(server, transport, client):
    welcome = await client.hello(server.token(new_user()), features=["lanes"])
    assert welcome.features == ["lanes"]


async def subscribe_all(client, rooms):
    """In one write; the streams, in the order of the rooms."""
    requests = [client.next_request() for _ in rooms]
    client.send_raw(b"".join(encode_frame(Subscribe(request, room)) for request, room in zip(requests, rooms)))
    streams = []
    for request, room in zip(requests, rooms):
        stream = await client.stream((await client.answer(request)).subscription)
        assert stream.header.name == room
        streams.append(stream)
    return streams


def lanes_of(client):
    return [stream for stream in client.streams.values() if stream.parts is not None]


@pytest.mark.parametrize("permitted", [1, 6, 8])
def test_lanes(server, transport, permitted):
    """§5.7: a client that knows lanes is refused nothing for want of a stream, and gets all of each channel in order."""

    async def test():
        streams = permitted + OF_HTTP3[transport]
        async with server.connect(transport, permitted_streams=streams) as client:
            await knowing(server, transport, client)
            rooms = [new_room() for _ in range(120)]
            reads = await subscribe_all(client, rooms)
            publish = [Publish(client.next_request(), room, text(f"{room} {number}")) for number in range(5) for room in rooms]
            client.send_raw(b"".join(map(encode_frame, publish)))
            for room, stream in zip(rooms, reads):
                await client.until(lambda: len(stream.publications) == 5, room)
                assert stream.messages == [text(f"{room} {number}") for number in range(5)]
            assert lanes_of(client)
            assert len(client.streams) <= streams
            # One part of a lane ends, and the others go on.
            gone = parts(client)[-1]
            await client.unsubscribe(gone.header.subscription)
            await client.until(lambda: gone.end, "the end")
            assert gone.end.code == Code.UNSUBSCRIBED
            for room, stream in zip(rooms, reads):
                await client.publish(room, text("on"))
                if stream is not gone:
                    await client.message(stream, lambda message: message == text("on"))
            assert len(gone.publications) == 5

    run(test())


def parts(client):
    return [part for lane in lanes_of(client) for part in lane.parts.values()]


def test_resume_on_a_lane(server, transport):
    """§4.10, §5.7: a part of a lane begins where it was asked to, as a stream of its own would."""

    async def test():
        streams = 1 + OF_HTTP3[transport]
        rooms = [new_room() for _ in range(20)]
        async with server.connect(transport, permitted_streams=streams) as client:
            await knowing(server, transport, client)
            reads = await subscribe_all(client, rooms)
            for room, stream in zip(rooms, reads):
                await client.publish(room, text("1"))
                await client.until(lambda: stream.publications, "the first")
            client.vanish()
        async with server.connect(transport, permitted_streams=streams) as client:
            await knowing(server, transport, client)
            for room in rooms:
                await client.publish(room, text("2"))
            for count, (room, old) in enumerate(zip(rooms, reads)):
                epoch = old.header.epoch ^ (count % 2)
                _, stream = await client.subscribe_from(room, After(Position(epoch, old.expected - 1)))
                assert stream.header.recovered == (count % 2 == 0)
                await client.publish(room, text("3"))
                await client.message(stream, lambda message: message == text("3"))
                assert stream.messages == ([text("3")] if count % 2 else [text("2"), text("3")])
                assert stream in parts(client)

    run(test())


def test_a_lane_that_is_stopped(server, transport):
    """§5.7: who stops a lane ends all of its subscriptions, and may ask for them again."""

    async def test():
        streams = 5 + OF_HTTP3[transport]
        async with server.connect(transport, permitted_streams=streams) as client:
            await knowing(server, transport, client)
            rooms = [new_room() for _ in range(30)]
            await subscribe_all(client, rooms)
            lane = max(lanes_of(client), key=lambda lane: len(lane.parts))
            assert len(lane.parts) > 10
            client.stop(lane, Code.UNSUBSCRIBED)
            await client.until(lambda: lane.reset is not None, "the reset of the lane")
            assert lane.reset == Code.UNSUBSCRIBED
            for part in list(lane.parts.values()):
                await failure(client.unsubscribe(part.header.subscription), Code.NOT_SUBSCRIBED)
                if part.header.name not in rooms:  # what Welcome named
                    continue
                _, stream = await client.subscribe(part.header.name)
                await client.publish(part.header.name, text("again"))
                await client.message(stream, lambda message: message == text("again"))
            assert len(lanes_of(client)) >= 2

    run(test())


def test_a_part_of_a_lane_that_comes_and_goes(server, transport):
    """§5.7: the same channel, over and over, on a lane that others use meanwhile."""

    async def test():
        streams = 1 + OF_HTTP3[transport]
        async with server.connect(transport, permitted_streams=streams) as client:
            await knowing(server, transport, client)
            busy, room = new_room(), new_room()
            _, other = await client.subscribe(busy)
            for number in range(100):
                subscribed, stream = await client.subscribe(room)
                await asyncio.gather(client.publish(room, text(str(number))), client.publish(busy, text(str(number))))
                await client.until(lambda: stream.publications, "the publication")
                await client.unsubscribe(subscribed.subscription)
                await client.until(lambda: stream.end, "the end")
                assert (stream.messages, stream.end.code) == ([text(str(number))], Code.UNSUBSCRIBED)
            await client.until(lambda: len(other.publications) == 100, "the other part")
            assert other.messages == [text(str(number)) for number in range(100)]
            assert len(lanes_of(client)) == 1

    run(test())
