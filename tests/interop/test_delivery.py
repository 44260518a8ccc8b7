"""Delivery, §4.4 to §4.6, §4.12, §4.14 and §5."""

import time
import uuid

import pytest

from common import run, new_room, text, now, says, login, failure, usable
from tidings_client import (
    Announcement,
    Code,
    Data,
    Header,
    HistoryQuery,
    Notification,
    Own,
    Position,
    Publication,
    Publish,
    RequestFailed,
    TIMEOUT,
    encode_frame,
)


def test_notification_and_announcement(server, transport):
    async def test():
        async with server.connect(transport) as client:
            user = await login(server, client)
            own, everyone = await client.stream_of(f"user-{user}"), await client.stream_of("global")
            content, shout = f"nötig {uuid.uuid4()}", f"attention {uuid.uuid4()}"

            position = await server.post("/v1/notify", user=user, text=content)
            publication = await client.message(own, says(content))
            assert isinstance(publication.message, Notification)
            assert publication.publisher is None
            assert publication.offset == own.header.first
            assert abs(publication.message.timestamp - now()) < 60_000
            assert abs(publication.time - now()) < 60_000
            if position:
                assert position == {"channel": f"user-{user}", "epoch": f"{own.header.epoch:016x}", "offset": publication.offset}

            await server.post("/v1/announce", text=shout)
            publication = await client.message(everyone, says(shout))
            assert isinstance(publication.message, Announcement)
            assert publication.publisher is None

    run(test())


def test_publish_over_http(server, transport):
    async def test():
        async with server.connect(transport) as client:
            await login(server, client)
            room = new_room()
            _, stream = await client.subscribe(room)
            position = await server.post("/v1/publish", channel=room, text="from outside")
            publication = (await client.until(lambda: stream.publications, "a publication"))[0]
            assert publication.publisher is None
            assert "from outside" in (getattr(publication.message, "text", ""), getattr(publication.message, "bytes", b"").decode())
            assert position == {"channel": room, "epoch": f"{stream.header.epoch:016x}", "offset": publication.offset}

    run(test())


@pytest.mark.parametrize(
    "message",
    [
        Data("application/octet-stream", bytes(range(256)) * 3),
        Data("", b""),
        Notification("a chat may carry it, ä€😀", 12),
        Announcement("", (1 << 64) - 1),
    ],
    ids=lambda message: type(message).__name__,
)
def test_subscribe_and_publish(server, transport, message):
    async def test():
        async with server.connect(transport) as client:
            user, room = await login(server, client), new_room()
            subscribed, stream = await client.subscribe(room)
            assert stream.header == Header(
                subscribed.subscription, 0, room, subscribed.position.epoch, subscribed.position.offset + 1, False, 0
            )
            published = await client.publish(room, message)
            assert published.level == 0
            assert published.position == Position(subscribed.position.epoch, subscribed.position.offset + 1)
            publication = (await client.until(lambda: stream.publications, "the publication"))[0]
            assert publication == Publication(published.position.offset, publication.time, user, message)

    run(test())


def test_subscription_begins_at_the_head(server, transport):
    async def test():
        async with server.connect(transport) as one, server.connect(transport) as two:
            await login(server, one)
            await login(server, two)
            room = new_room()
            _, early = await one.subscribe(room)
            first = await one.publish(room, text("1"))
            subscribed, late = await two.subscribe(room)
            assert subscribed.position == first.position
            await one.publish(room, text("2"))
            await two.message(late, says("2"))
            await one.message(early, says("2"))
            assert [p.message for p in late.publications] == [text("2")]
            assert early.publications[1] == late.publications[0]

    run(test())


def test_publish_without_echo(server, transport):
    """§4.14, §5.8: who publishes is told its offset, and others get the message."""

    async def test():
        async with server.connect(transport) as one, server.connect(transport) as two:
            for client in (one, two):
                await login(server, client)
            room = new_room()
            _, own = await one.subscribe(room)
            _, other = await two.subscribe(room)
            silent = await one.publish_with(room, text("a"), key="k", conflation_key="c", echo=False)
            assert (silent.position.offset, silent.duplicate) == (1, False)
            again = await one.publish_with(room, text("a"), key="k", echo=False)
            assert (again.position.offset, again.duplicate) == (1, True)
            await one.publish_with(room, text("b"))
            for stream, messages in [(own, [text("b")]), (other, [text("a"), text("b")])]:
                client = one if stream is own else two
                await client.until(lambda: len(stream.messages) == len(messages), "the messages")
                assert stream.messages == messages
            assert own.frames[0] == Own(1, 1)
            await failure(one.publish_with(room, text("b"), conflation_key=""), Code.INVALID_KEY)

    run(test())


def test_publish_once(server, transport):
    """§4.12: a key stands for one message of one user in one channel."""

    async def test():
        async with server.connect(transport) as one, server.connect(transport) as two:
            user, room = await login(server, one), new_room()
            first = await one.publish_once(room, "k", text("a"))
            assert not first.duplicate
            # Over another connection of the same user.
            await login(server, two, user)
            again = await two.publish_once(room, "k", text("a"))
            assert (again.position, again.duplicate) == (first.position, True)
            await failure(two.publish_once(room, "k", text("b")), Code.KEY_REUSED)
            await failure(two.publish_once(room, "", text("b")), Code.INVALID_KEY)
            await failure(two.publish_once(room, "k" * 129, text("b")), Code.INVALID_KEY)
            await failure(two.publish_once("user-nobody", "k", text("b")), Code.PERMISSION_DENIED)
            elsewhere = await two.publish_once(new_room(), "k", text("b"))
            assert not elsewhere.duplicate
            page, found = await two.history(room, HistoryQuery(None, 9, False))
            assert [publication.message for publication in found] == [text("a")]

    run(test())


def test_publish_without_a_subscription(server, transport):
    async def test():
        async with server.connect(transport) as one, server.connect(transport) as two:
            author = await login(server, one)
            await login(server, two)
            room = new_room()
            _, stream = await two.subscribe(room)
            published = await one.publish(room, text("hello"))
            publication = await two.message(stream, says("hello"))
            assert (publication.offset, publication.publisher) == (published.position.offset, author)

    run(test())


def test_two_devices_and_another_user(server, transport):
    async def test():
        async with server.connect(transport) as phone, server.connect(transport) as laptop, server.connect(transport) as other:
            user = await login(server, phone)
            await login(server, laptop, user)
            stranger = await login(server, other)
            content = f"for two {uuid.uuid4()}"
            await server.post("/v1/notify", user=user, text=content)
            seen = []
            for device in (phone, laptop):
                seen.append(await device.message(await device.stream_of(f"user-{user}"), says(content)))
            assert seen[0] == seen[1]

            # What is sent to the stranger afterwards is the first that arrives there.
            await server.post("/v1/notify", user=stranger, text="for one")
            stream = await other.stream_of(f"user-{stranger}")
            await other.message(stream, says("for one"))
            assert len(stream.publications) == 1
            assert len(other.streams) == 2
            assert not [m for s in other.streams.values() for m in s.messages if says(content)(m)]

    run(test())


def test_both_transports_meet(server):
    async def test():
        async with server.connect("quic") as one, server.connect("webtransport") as two:
            await login(server, one)
            await login(server, two)
            room = new_room()
            (_, first), (_, second) = await one.subscribe(room), await two.subscribe(room)
            await one.publish(room, text("from quic"))
            await two.publish(room, text("from webtransport"))
            for client, stream in ((one, first), (two, second)):
                await client.message(stream, says("from webtransport"))
                assert stream.messages == [text("from quic"), text("from webtransport")]
            assert first.publications == second.publications

    run(test())


def test_concurrent_publishes(server, transport):
    async def test():
        async with server.connect(transport) as client:
            await login(server, client)
            room = new_room()
            _, stream = await client.subscribe(room)
            requests = [client.next_request() for _ in range(10)]
            before = len(client.control_frames)
            client.send_raw(b"".join(encode_frame(Publish(request, room, text(str(request)))) for request in requests))
            answers = [await client.answer(request) for request in requests]
            assert client.control_frames[before:] == answers
            first = answers[0].position
            assert [answer.position for answer in answers] == [Position(first.epoch, first.offset + n) for n in range(10)]
            await client.until(lambda: len(stream.publications) == 10, "ten publications")
            assert [(p.offset, p.message) for p in stream.publications] == [
                (answer.position.offset, text(str(answer.request))) for answer in answers
            ]

    run(test())


def test_unsubscribe(server, transport):
    async def test():
        async with server.connect(transport) as client:
            await login(server, client)
            room = new_room()
            subscribed, stream = await client.subscribe(room)
            await client.publish(room, text("last"))
            await client.message(stream, says("last"))
            await client.unsubscribe(subscribed.subscription)
            await client.until(lambda: stream.finished, "the end of the stream")
            assert stream.reset is None
            assert stream.end is not None and stream.end.code == Code.UNSUBSCRIBED

            await client.publish(room, text("unheard"))
            again, fresh = await client.subscribe(room)
            assert again.subscription != subscribed.subscription
            await client.publish(room, text("heard"))
            await client.message(fresh, says("heard"))
            assert fresh.messages == [text("heard")]
            assert stream.messages == [text("last")]

    run(test())


def test_unsubscribe_from_what_welcome_named(server, transport):
    async def test():
        async with server.connect(transport) as client:
            user = await login(server, client)
            stream = await client.stream_of(f"user-{user}")
            await client.unsubscribe(stream.header.subscription)
            await client.until(lambda: stream.finished, "the end of the stream")
            assert stream.end.code == Code.UNSUBSCRIBED
            await usable(client)

    run(test())


def test_stop_sending_ends_a_subscription(server, transport):
    async def test():
        async with server.connect(transport) as client:
            await login(server, client)
            room = new_room()
            subscribed, stream = await client.subscribe(room)
            client.stop(stream, Code.UNSUBSCRIBED)

            # When the server notices is its own affair: it does so at the latest within the time-out.
            deadline = time.monotonic() + TIMEOUT
            while True:
                try:
                    again, fresh = await client.subscribe(room)
                    break
                except RequestFailed as failed:
                    assert failed.code == Code.ALREADY_SUBSCRIBED
                    assert time.monotonic() < deadline, "the subscription is still there"
            await failure(client.unsubscribe(subscribed.subscription), Code.NOT_SUBSCRIBED)
            await client.publish(room, text("after"))
            await client.message(fresh, says("after"))
            assert not stream.finished

    run(test())
