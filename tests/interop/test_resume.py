"""Subscriptions that begin elsewhere than at the head, §4.10."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from common import failure, login, new_room, run, text
from tidings_client import After, AfterOrOldest, Code, Head, Latest, Notification, Position


def test_subscription_after_a_position(server, transport):
    """§4.10: exactly what is missing, then what is new; or the head, and the header says which."""

    async def test():
        async with server.connect(transport) as one:
            await login(server, one)
            room = new_room()
            _, stream = await one.subscribe(room)
            for number in range(1, 4):
                last = (await one.publish(room, text(str(number)))).position
            for start, recovered, first in [
                (lambda: After(Position(last.epoch, 1)), True, lambda: 2),
                (lambda: After(last), True, lambda: last.offset + 1),
                (lambda: After(Position(last.epoch ^ 1, 1)), False, lambda: last.offset + 1),
                (lambda: After(Position(last.epoch, 99)), False, lambda: last.offset + 1),
                (lambda: AfterOrOldest(Position(last.epoch, 1)), True, lambda: 2),
                (lambda: AfterOrOldest(Position(last.epoch ^ 1, 1)), False, lambda: 1),
                (lambda: Latest(2), False, lambda: last.offset - 1),
                (lambda: Head(), False, lambda: last.offset + 1),
            ]:
                async with server.connect(transport) as two:
                    await login(server, two)
                    subscribed, late = await two.subscribe_from(room, start())
                    begins = first()
                    assert (late.header.recovered, late.header.first) == (recovered, begins)
                    assert subscribed.position == Position(last.epoch, begins - 1)
                    last = (await one.publish(room, text("live"))).position
                    for client, reads in [(one, stream), (two, late)]:
                        arrived = lambda: reads.publications and reads.publications[-1].offset == last.offset
                        await client.until(arrived, "the live one")
                    assert late.publications == stream.publications[begins - 1 :]

    run(test())


class Author:
    """Publishes to some channels all the time, and hears all of it."""

    def __init__(self, client, streams):
        self.client = client
        # By channel.
        self.streams = streams

    def accepted(self, room):
        """The offset of the last publication that was acknowledged."""
        return self._last[room]

    async def publish(self):
        self._last = dict.fromkeys(self.streams, 0)
        number = 0
        while True:
            number += 1
            for room in self.streams:
                self._last[room] = (await self.client.publish(room, text(f"{room} {number}"))).position.offset

    async def reaches(self, offset):
        """Waits until every channel has been heard up to there."""
        heard = lambda: all(stream.expected > offset for stream in self.streams.values())
        await self.client.until(heard, f"offset {offset} of each channel")

    def said(self, room, first):
        """All that was published there from `first` on, as one who missed nothing heard it."""
        return self.streams[room].publications[first - 1 :]


@asynccontextmanager
async def author_of(server, transport, rooms):
    """It begins each channel, so that offsets begin with 1, and stops with the block."""
    async with server.connect(transport) as client:
        await login(server, client)
        author = Author(client, {room: (await client.subscribe(room))[1] for room in rooms})
        publishing = asyncio.ensure_future(author.publish())
        try:
            yield author
        finally:
            publishing.cancel()
            if publishing.done():
                publishing.result()


async def catches_up(reader, stream, author, room):
    """Waits until `stream` goes beyond all that was accepted by now, so that old and new have met on it."""
    last = author.accepted(room) + 10
    await reader.until(lambda: stream.expected > last, "what is new")
    await author.reaches(stream.expected)


STARTS = {
    "After": lambda stream: After(Position(stream.header.epoch, stream.expected - 1)),
    "AfterOrOldest": lambda stream: AfterOrOldest(Position(stream.header.epoch, stream.expected - 1)),
    "Latest": lambda stream: Latest(7),
    "Head": lambda stream: Head(),
}


@pytest.mark.parametrize("start", STARTS)
def test_a_client_that_was_cut_off_comes_back(server, transport, start):
    """§4.10: it vanishes without a word while others go on publishing, and comes back over another connection."""

    async def test():
        rooms = [new_room() for _ in range(3)]
        async with author_of(server, transport, rooms) as author:
            async with server.connect(transport) as reader:
                user = await login(server, reader)
                lost = {}
                for count, room in enumerate(rooms, 2):
                    await author.reaches(5 * count)
                    _, lost[room] = await reader.subscribe_from(room, Latest(count))
                    await reader.until(lambda: len(lost[room].publications) >= 5 * count, "some publications")
                reader.vanish()
            await author.reaches(max(stream.expected for stream in lost.values()) + 20)
            async with server.connect(transport) as reader:
                await login(server, reader, user)
                for room, old in lost.items():
                    before = author.accepted(room)
                    subscribed, stream = await reader.subscribe_from(room, STARTS[start](old))
                    after = author.accepted(room) + 1
                    header = stream.header
                    assert subscribed.position == Position(old.header.epoch, header.first - 1)
                    assert header.epoch == old.header.epoch
                    assert header.recovered == start.startswith("After")
                    if start.startswith("After"):
                        assert header.first == old.expected
                    else:
                        # The head was somewhere between the two.
                        back = 7 if start == "Latest" else 0
                        assert before - back < header.first <= after - back + 1
                    await catches_up(reader, stream, author, room)
                    heard = stream.publications
                    assert heard == author.said(room, header.first)[: len(heard)]
                    if header.recovered:
                        whole = old.publications + heard
                        assert whole == author.said(room, old.header.first)[: len(whole)]

    run(test())


def test_each_channel_resumes_by_itself(server, transport):
    """§4.10: what becomes of one says nothing of the others."""

    async def test():
        rooms = [new_room() for _ in range(6)]
        whole, other_epoch, beyond, oldest, oldest_beyond, none = rooms
        async with author_of(server, transport, rooms) as author, server.connect(transport) as reader:
            await author.reaches(20)
            await login(server, reader)
            epoch = {room: stream.header.epoch for room, stream in author.streams.items()}
            streams = {}
            for room, start, recovered, first in [
                (whole, After(Position(epoch[whole], 3)), True, 4),
                (other_epoch, After(Position(epoch[other_epoch] ^ 1, 3)), False, None),
                (beyond, After(Position(epoch[beyond], 1 << 40)), False, None),
                (oldest, AfterOrOldest(Position(epoch[oldest] ^ 1, 3)), False, 1),
                (oldest_beyond, AfterOrOldest(Position(epoch[oldest_beyond], 1 << 40)), False, 1),
                (none, After(Position(epoch[none], 0)), True, 1),
            ]:
                before = author.accepted(room)
                _, stream = await reader.subscribe_from(room, start)
                assert (stream.header.recovered, stream.header.epoch) == (recovered, epoch[room])
                if first is None:
                    assert before < stream.header.first <= author.accepted(room) + 2
                else:
                    assert stream.header.first == first
                streams[room] = stream
            await failure(reader.subscribe_from(whole, After(Position(epoch[whole], 3))), Code.ALREADY_SUBSCRIBED)
            for room, stream in streams.items():
                await catches_up(reader, stream, author, room)
                heard = stream.publications
                assert heard == author.said(room, stream.header.first)[: len(heard)]

    run(test())


def test_what_the_log_dropped_is_not_recovered(short_server, transport):
    """§4.10: `After` is all or nothing; `AfterOrOldest` gives what is left."""

    async def test():
        room = new_room()
        async with short_server.connect(transport) as author, short_server.connect(transport) as reader:
            await login(short_server, author)
            await login(short_server, reader)
            _, stream = await author.subscribe(room)
            for number in range(1, 31):
                await author.publish(room, text(str(number)))
            # The log keeps the last ten: 21 to 30.
            for start, recovered, first in [
                (After, True, 21),
                (After, False, 31),
                (AfterOrOldest, True, 21),
                (AfterOrOldest, False, 21),
            ]:
                asked = 20 if recovered else 19
                subscribed, late = await reader.subscribe_from(room, start(Position(stream.header.epoch, asked)))
                assert (late.header.recovered, late.header.first) == (recovered, first)
                await reader.until(lambda: late.expected == 31, "the rest")
                await author.until(lambda: stream.expected == 31, "all of it")
                assert late.publications == stream.publications[first - 1 :]
                await reader.unsubscribe(subscribed.subscription)

    run(test())


def test_a_channel_that_comes_unasked_is_resumed(server, transport):
    """§4.10: the client ends what the server began at the head, and asks for its own place."""

    async def test():
        async with server.connect(transport) as reader:
            user = await login(server, reader)
            old = await reader.stream_of(f"user-{user}")
            await server.post("/v1/notify", user=user, text="0")
            await reader.until(lambda: old.publications, "a notification")
            reader.vanish()
        for number in range(1, 4):
            await server.post("/v1/notify", user=user, text=str(number))
        async with server.connect(transport) as reader:
            await login(server, reader, user)
            given = await reader.stream_of(f"user-{user}")
            assert (given.header.recovered, given.header.first) == (False, old.expected + 3)
            await reader.unsubscribe(given.header.subscription)
            _, stream = await reader.subscribe_from(f"user-{user}", After(Position(old.header.epoch, old.expected - 1)))
            assert (stream.header.recovered, stream.header.first) == (True, old.expected)
            await server.post("/v1/notify", user=user, text="4")
            await reader.until(lambda: len(stream.publications) == 4, "what was missed, and what is new")
            assert [message.text for message in stream.messages] == ["1", "2", "3", "4"]
            assert all(isinstance(message, Notification) for message in stream.messages)

    run(test())
