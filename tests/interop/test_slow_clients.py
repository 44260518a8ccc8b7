"""Clients that are slow, or gone, disturb nobody."""

from common import run, new_user, new_room, text, says, login, usable
from tidings_client import Code, Data, Hello, Lagged, Publish, encode_frame


def test_half_a_frame_disturbs_nobody(server, transport):
    async def test():
        async with server.connect(transport) as slow, server.connect(transport) as other:
            await login(server, slow)
            await login(server, other)
            room = new_room()
            _, mine = await slow.subscribe(room)
            _, theirs = await other.subscribe(room)
            half = encode_frame(Publish(99, room, text("late")))
            slow.send_raw(half[: len(half) // 2])
            for number in range(20):
                await other.publish(room, text(str(number)))
            await other.message(theirs, says("19"))
            # It still hears, though it has not finished its sentence.
            await slow.message(mine, says("19"))
            slow.send_raw(half[len(half) // 2 :])
            published = await slow.answer(99)
            publication = await other.message(theirs, says("late"))
            assert publication.offset == published.position.offset == theirs.header.first + 20

    run(test())


def test_half_a_hello_disturbs_nobody(server, transport):
    async def test():
        async with server.connect(transport) as slow, server.connect(transport) as other:
            slow.send_raw(encode_frame(Hello(1, server.token(new_user()), "slow", []))[:20])
            user = await login(server, other)
            await server.post("/v1/notify", user=user, text="all is well")
            await other.message(await other.stream_of(f"user-{user}"), says("all is well"))

    run(test())


def test_client_that_vanishes_disturbs_nobody(server, transport):
    async def test():
        async with server.connect(transport) as gone, server.connect(transport) as other:
            user = await login(server, gone)
            await login(server, other, user)
            room = new_room()
            await gone.subscribe(room)
            _, stream = await other.subscribe(room)
            gone.vanish()
            for number in range(50):
                await other.publish(room, text(str(number)))
            await other.message(stream, says("49"))
            await server.post("/v1/notify", user=user, text="to one of two")
            await other.message(await other.stream_of(f"user-{user}"), says("to one of two"))

    run(test())


def test_stream_that_is_not_read(server, transport):
    """§1, §2.3, §5.3: it holds up neither another channel nor another client, and nothing goes missing without a word."""

    async def test():
        window = 1 << 15
        async with server.connect(transport, window=window) as lazy, server.connect(transport) as author:
            await login(server, lazy)
            await login(server, author)
            unread, read = new_room(), new_room()
            _, silent = await lazy.subscribe(unread)
            _, lively = await lazy.subscribe(read)
            _, whole = await author.subscribe(unread)
            lazy.withhold(silent)

            count, size = 200, 2_000
            for number in range(count):
                await author.publish(unread, Data("", f"{number:04}".encode("ascii") * (size // 4)))
                await author.publish(read, text(str(number)))
            await author.until(lambda: len(whole.publications) == count, "the reader that reads")
            await lazy.message(lively, says(str(count - 1)))
            assert [m.bytes for m in lively.messages] == [str(number).encode("ascii") for number in range(count)]
            await usable(lazy)
            assert silent.received <= window
            assert len(silent.publications) < count
            assert not silent.finished and silent.reset is None

            # It reads on: the rest arrives, or is said to be lost.
            lazy.grant(silent)
            last = whole.publications[-1].offset
            await lazy.until(lambda: silent.expected == last + 1, "the rest of the unread stream")
            lost = sum(item.to - item.from_ + 1 for item in silent.frames if isinstance(item, Lagged))
            assert len(silent.publications) + lost == count
            by_offset = {p.offset: p for p in whole.publications}
            assert all(by_offset[p.offset] == p for p in silent.publications)

    run(test())


def test_unsubscribe_from_a_stream_that_is_not_read(server, transport):
    """§4.5: where the stream cannot take more it is reset."""

    async def test():
        async with server.connect(transport, window=1 << 14) as lazy, server.connect(transport) as author:
            await login(server, lazy)
            await login(server, author)
            room = new_room()
            subscribed, stream = await lazy.subscribe(room)
            lazy.withhold(stream)
            for number in range(50):
                await author.publish(room, Data("", bytes(2_000)))
            await lazy.unsubscribe(subscribed.subscription)
            await lazy.until(lambda: stream.finished or stream.reset is not None, "the end of the stream")
            assert stream.reset == Code.UNSUBSCRIBED
            await usable(lazy)

    run(test())
