"""States by datagram, §5.6."""

import uuid

import pytest

from common import new_user, run, text, usable
from tidings_client import After, AfterOrOldest, Data, Head, Latest, Position, Publish, Skipped, encode_frame


async def state_of(client, name):
    """A subscription to a channel of states, and its publications so far by datagram."""
    subscribed, stream = await client.subscribe(name)

    def by_datagram():
        return [item for subscription, item in client.datagrams if subscription == subscribed.subscription]

    return stream, by_datagram


def test_states_by_datagram(state_server, transport):
    """§5.6: the newest first, on the stream; then datagrams, and a keyframe on the stream every three of them."""

    async def test():
        channel = f"state-{uuid.uuid4().hex}"
        async with state_server.connect(transport, datagrams=True) as client:
            await client.hello(state_server.token(new_user()), features=["datagram"])
            assert client.welcome.features == ["datagram"]
            for number in range(2):
                await client.publish(channel, text(f"before {number}"))
            stream, by_datagram = await state_of(client, channel)
            assert (stream.header.delivery, stream.header.first) == (2, 2)
            await client.until(lambda: stream.publications, "the newest state")
            assert stream.messages == [text("before 1")]
            sent = []
            for number in range(7):
                await client.publish(channel, text(f"state {number}"))
                sent.append(text(f"state {number}"))
                await client.until(lambda: len(by_datagram()) == len(sent), "the next state")
            assert [item.message for item in by_datagram()] == sent
            assert [item.offset for item in by_datagram()] == list(range(3, 10))
            await client.until(lambda: len(stream.publications) == 3, "two keyframes")
            assert stream.publications[1:] == [by_datagram()[2], by_datagram()[5]]
            # What fits no datagram.
            await client.publish(channel, Data("a/b", bytes(5_000)))
            await client.until(lambda: len(stream.publications) == 4, "the large state")
            assert stream.messages[-1] == Data("a/b", bytes(5_000))

    run(test())


def test_states_without_datagrams(state_server, transport):
    """§5.6: who does not ask for datagrams, or takes none, has the latest on the stream."""

    async def test():
        for features, datagrams in [((), True), (("datagram",), transport == "webtransport")]:
            channel = f"state-{uuid.uuid4().hex}"
            async with state_server.connect(transport, datagrams=datagrams) as client:
                await client.hello(state_server.token(new_user()), features=features)
                asked = bool(features) and datagrams
                assert client.welcome.features == (["datagram"] if asked else [])
                stream, by_datagram = await state_of(client, channel)
                assert stream.header.delivery == (2 if asked else 1)
                await client.publish(channel, text("state"))
                arrived = by_datagram if asked else lambda: stream.publications
                await client.until(arrived, "the state")

    run(test())


def test_datagrams_of_a_client_are_passed_over(state_server, transport):
    """§2.3: whatever they are."""

    async def test():
        async with state_server.connect(transport, datagrams=True) as client:
            await client.hello(state_server.token(new_user()))
            for size in (0, 1, 2, 100, 1_000):
                for byte in (0, 9, 255):
                    client.send_datagram(bytes([byte]) * size)
            await usable(client)

    run(test())


def new_state(prefix="state"):
    return f"{prefix}-{uuid.uuid4().hex}"


async def publish_all(client, channel, messages):
    """In one write; returns when all are accepted."""
    requests = [client.next_request() for _ in messages]
    client.send_raw(b"".join(encode_frame(Publish(request, channel, message)) for request, message in zip(requests, messages)))
    for request in requests:
        await client.answer(request)


def newest(stream, by_datagram):
    """The state that a client has which takes stream and datagrams together."""
    return max([*stream.publications, *by_datagram()], key=lambda item: item.offset, default=None)


async def reader_of(state_server, client):
    await client.hello(state_server.token(new_user()), features=["datagram"])
    assert client.welcome.features == ["datagram"]


def test_the_newest_wins(state_server, transport):
    """§5.6: of many at once some may be left out without a word, but never the newest; what comes is what was published."""

    async def test():
        channel = new_state()
        async with state_server.connect(transport, datagrams=True) as client:
            await reader_of(state_server, client)
            stream, by_datagram = await state_of(client, channel)
            states = [text(f"state {number} {'x' * 500}") for number in range(1, 501)]
            await publish_all(client, channel, states)
            await client.until(lambda: (item := newest(stream, by_datagram)) and item.offset == 500, "the newest state")
            for heard in (stream.publications, by_datagram()):
                offsets = [item.offset for item in heard]
                assert offsets == sorted(set(offsets))
                assert all(item.message == states[item.offset - 1] for item in heard)
            assert by_datagram()

    run(test())


def test_a_keyframe_heals_what_was_lost(state_server, transport):
    """§5.6: every datagram is lost, nothing more is published, and the newest comes on the stream."""

    async def test():
        channel = new_state("beat")
        async with state_server.connect(transport, datagrams=True) as client, state_server.connect(transport) as author:
            await reader_of(state_server, client)
            await author.hello(state_server.token(new_user()))
            stream, by_datagram = await state_of(client, channel)
            await author.publish(channel, text("heard"))
            await client.until(by_datagram, "a state by datagram")
            client.lose()
            for number in range(5):
                await author.publish(channel, text(f"lost {number}"))
            client.lose(False)
            await client.until(lambda: stream.messages[-1:] == [text("lost 4")], "the newest on the stream")
            assert stream.publications[-1].offset == 6
            assert text("lost 0") not in [item.message for item in by_datagram()]
            assert newest(stream, by_datagram).message == text("lost 4")

    run(test())


def test_what_is_too_large_for_a_datagram(state_server, transport):
    """§5.6: it comes on the stream, in its turn."""

    async def test():
        channel = new_state("beat")
        async with state_server.connect(transport, datagrams=True) as client:
            await reader_of(state_server, client)
            stream, by_datagram = await state_of(client, channel)
            for number, size in enumerate((10, 5_000, 20, 60_000, 30), 1):
                await client.publish(channel, Data("", bytes(size)))
                await client.until(lambda: newest(stream, by_datagram) and newest(stream, by_datagram).offset == number, f"{size} bytes")
            assert [len(item.message.bytes) for item in by_datagram()] == [10, 20, 30]
            assert {len(item.message.bytes) for item in stream.publications} >= {5_000, 60_000}

    run(test())


STARTS = {
    "Head": lambda epoch: (Head(), 10, False),
    "Latest": lambda epoch: (Latest(3), 8, False),
    "After": lambda epoch: (After(Position(epoch, 4)), 5, True),
    "After another epoch": lambda epoch: (After(Position(epoch ^ 1, 4)), 11, False),
    "AfterOrOldest": lambda epoch: (AfterOrOldest(Position(epoch ^ 1, 4)), 1, False),
}


@pytest.mark.parametrize("start", STARTS)
def test_a_client_that_comes_back_begins_with_the_newest(state_server, transport, start):
    """§4.10, §5.6: the beginning is the same as with a stream, but of what is there only the newest comes."""

    async def test():
        channel = new_state()
        async with state_server.connect(transport, datagrams=True) as client, state_server.connect(transport) as author:
            await author.hello(state_server.token(new_user()))
            epoch = (await author.publish(channel, text("1"))).position.epoch
            for number in range(2, 11):
                await author.publish(channel, text(str(number)))
            await reader_of(state_server, client)
            begin, first, recovered = STARTS[start](epoch)
            subscribed, stream = await client.subscribe_from(channel, begin)
            header = stream.header
            assert (header.delivery, header.first, header.recovered) == (2, first, recovered)
            if first <= 10:
                await client.until(lambda: stream.publications, "the newest")
                assert [item.offset for item in stream.publications] == [10]
            await author.publish(channel, text("11"))
            await client.until(lambda: client.datagrams, "the next by datagram")
            assert [(number, item.offset) for number, item in client.datagrams] == [(subscribed.subscription, 11)]

    run(test())


def test_the_latest_on_a_stream_that_is_not_read(state_server, transport):
    """§5.5, §5.6: who takes no datagrams and reads slowly is told what it missed, and has the newest in the end."""

    async def test():
        channel = new_state()
        async with state_server.connect(transport, window=1 << 14) as lazy, state_server.connect(transport) as author:
            await lazy.hello(state_server.token(new_user()))
            await author.hello(state_server.token(new_user()))
            _, stream = await lazy.subscribe(channel)
            assert stream.header.delivery == 1
            lazy.withhold(stream)
            states = [Data("", bytes([number]) * 4_000) for number in range(200)]
            await publish_all(author, channel, states)
            lazy.grant(stream)
            await lazy.until(lambda: stream.expected == 201, "the newest")
            assert stream.messages[-1] == states[-1]
            assert all(item.message == states[item.offset - 1] for item in stream.publications)
            assert any(isinstance(item, Skipped) for item in stream.frames)
            assert not lazy.datagrams

    run(test())
