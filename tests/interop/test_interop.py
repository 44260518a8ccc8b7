"""The server against PROTOCOL.md, by a client that shares no code with it. See README.md for how to run."""

import asyncio
import hashlib
import ssl
import time
import uuid

import pytest

from tidings_client import (
    HELLO_LIMIT,
    TIMEOUT,
    After,
    Announcement,
    Code,
    ConnectionEnded,
    Data,
    End,
    Failed,
    Head,
    Header,
    Hello,
    HistoryQuery,
    Kept,
    Lagged,
    AfterOrOldest,
    Latest,
    Own,
    Notification,
    Ping,
    Pong,
    Member,
    Position,
    Presence,
    PresencePage,
    Publication,
    Publish,
    Published,
    Refused,
    RequestFailed,
    Subscribe,
    Subscribed,
    Unsubscribe,
    Unsubscribed,
    Welcome,
    connect,
    encode_body,
    encode_frame,
    encode_integer,
    encode_raw,
)

# What a test may take in all; every single wait has a shorter time-out of its own.
WHOLE = 60.0


def run(test):
    return asyncio.run(asyncio.wait_for(test, WHOLE))


def new_user():
    return f"u{uuid.uuid4().hex[:12]}"


def new_room():
    return f"chat-room-{uuid.uuid4().hex[:12]}"


def text(content):
    return Data("text/plain", content.encode("utf-8"))


def now():
    return int(time.time() * 1000)


def says(content):
    """Of any variant, for a search on a stream."""
    return lambda message: getattr(message, "text", None) == content or getattr(message, "bytes", None) == content.encode("utf-8")


async def login(server, client, user=None):
    user = user or new_user()
    await client.hello(server.token(user))
    return user


async def failure(awaitable, code):
    """The request fails with `code`."""
    with pytest.raises(RequestFailed) as caught:
        await awaitable
    assert caught.value.code == code, f"{caught.value}, expected {code.name.lower()}"


async def usable(client):
    assert (await client.ping()).time > 0


async def ends_with(client, code, timeout=TIMEOUT):
    closed = await client.wait_closed(timeout)
    assert closed.code == code, f"ended with {closed}, expected {code.name.lower()}"
    return closed


# ------------------------------------------------------------------------------------------------------------ sessions, §2 and §4


def test_certificate_fingerprint(server):
    certificate = ssl.PEM_cert_to_DER_cert(server.certificate.read_text(encoding="ascii"))
    assert hashlib.sha256(certificate).hexdigest() == server.fingerprint


def test_welcome_and_subscriptions(server, transport):
    async def test():
        async with server.connect(transport) as client:
            user = new_user()
            welcome = await client.hello(server.token(user))
            assert welcome.user == user
            assert welcome.features == []
            assert welcome.limits.message > 0
            assert welcome.limits.frame > welcome.limits.message
            assert welcome.limits.subscriptions >= 2
            assert {item.channel for item in welcome.subscriptions} == {f"user-{user}", "global"}
            assert len({item.subscription for item in welcome.subscriptions}) == 2
            for item in welcome.subscriptions:
                stream = await client.stream(item.subscription)
                assert stream.header == Header(
                    subscription=item.subscription,
                    source=0,
                    name=item.channel,
                    epoch=item.position.epoch,
                    first=item.position.offset + 1,
                    recovered=False,
                    delivery=0,
                )

    run(test())


def test_host_name(server, transport):
    async def test():
        async with server.connect(transport, server_name="localhost") as client:
            await login(server, client)
            await usable(client)

    run(test())


def test_hello_with_unknown_features_and_limits(server, transport):
    """Unknown features are ignored, and a frame of exactly the limit is taken."""

    async def test():
        token = server.token(new_user())
        # A feature of n bytes, n > 250, takes n + 3.
        rest = HELLO_LIMIT - (len(encode_frame(Hello(1, token, "", ["x" * 300]))) - 3 - 300)
        hello = encode_frame(Hello(1, token, "", ["x" * rest]))
        assert hello[:3] == b"\xfb" + HELLO_LIMIT.to_bytes(2, "little")
        async with server.connect(transport) as client:
            client.send_raw(hello)
            await client.welcomed()
            assert client.welcome.features == []

    run(test())


def test_hello_above_the_limit(server, transport):
    async def test():
        async with server.connect(transport) as client:
            client.send_raw(encode_integer(HELLO_LIMIT + 1))
            await ends_with(client, Code.FRAME_TOO_LARGE)

    run(test())


def test_hello_timeout_of_silence(server, transport):
    async def test():
        async with server.connect(transport) as client:
            await ends_with(client, Code.HELLO_TIMEOUT, 15)

    run(test())


def test_hello_timeout_is_total(server, transport):
    """A Hello that arrives in drops does not move the deadline."""

    async def test():
        async with server.connect(transport) as client:
            hello = encode_frame(Hello(1, server.token(new_user()), "slow", []))
            begin = time.monotonic()
            for at in range(len(hello) - 1):
                client.send_raw(hello[at : at + 1])
                try:
                    await client.until(lambda: client.closed, "the end", 0.5, closed_is_fine=True)
                    break
                except TimeoutError:
                    pass
            await ends_with(client, Code.HELLO_TIMEOUT)
            assert time.monotonic() - begin < 15

    run(test())


def test_unknown_alpn(server):
    async def test():
        with pytest.raises(ConnectionError):
            async with server.connect("quic", alpn="tidings/9"):
                pass

    run(test())


@pytest.mark.parametrize("case", ["garbage", "empty", "wrong-key", "none", "no-exp", "no-sub", "sub-with-space", "sub-too-long"])
def test_bad_token(server, transport, case):
    user = new_user()
    token = {
        "garbage": "not.a.token",
        "empty": "",
        "wrong-key": server.token(user, secret=b"another secret"),
        "none": server.token(user, algorithm="none"),
        "no-exp": server.token(user, exp=None),
        "no-sub": server.token(None),
        "sub-with-space": server.token("a user"),
        "sub-too-long": server.token("u" * 201),
    }[case]

    async def test():
        async with server.connect(transport) as client:
            with pytest.raises(ConnectionEnded) as caught:
                await client.hello(token)
            code = caught.value.closed.code
            if case in ("garbage", "wrong-key", "none"):
                assert code == Code.INVALID_TOKEN, str(caught.value)
            else:
                # §4.1 leaves the code open, but for its range.
                assert code is not None and 200 <= code <= 299, str(caught.value)
            assert caught.value.closed.reason

    run(test())


def test_longest_user(server, transport):
    async def test():
        async with server.connect(transport) as client:
            user = await login(server, client, uuid.uuid4().hex + "u" * 168)
            assert len(user) == 200
            assert client.welcome.user == user
            await client.stream_of(f"user-{user}")

    run(test())


def test_expired_token(server, transport):
    async def test():
        async with server.connect(transport) as client:
            with pytest.raises(ConnectionEnded) as caught:
                await client.hello(server.token(new_user(), lifetime=-600))
            assert caught.value.closed.code == Code.TOKEN_EXPIRED, str(caught.value)

    run(test())


def test_token_that_expires(server, transport):
    async def test():
        async with server.connect(transport) as client:
            await client.hello(server.token(new_user(), lifetime=2))
            await ends_with(client, Code.TOKEN_EXPIRED, 15)

    run(test())


def test_no_token(server, transport):
    """§4.1, §7: a server may do without; then the session has no user."""

    async def test():
        async with server.connect(transport) as client:
            try:
                welcome = await client.hello(None)
            except ConnectionEnded as ended:
                assert ended.closed.code == Code.UNAUTHENTICATED, str(ended)
            else:
                assert welcome.user is None
                assert not [item for item in welcome.subscriptions if item.channel.startswith("user-")]

    run(test())


@pytest.mark.parametrize("version", [0, 2, 251, 65_535])
def test_unsupported_version(server, transport, version):
    async def test():
        async with server.connect(transport) as client:
            with pytest.raises(ConnectionEnded) as caught:
                await client.hello(server.token(new_user()), version=version)
            assert caught.value.closed.code == Code.UNSUPPORTED_VERSION, str(caught.value)

    run(test())


def test_control_stream_finished(server, transport):
    async def test():
        async with server.connect(transport) as client:
            await login(server, client)
            client.send_raw(b"", fin=True)
            await ends_with(client, Code.CLOSED)

    run(test())


def test_second_bidirectional_stream(server, transport):
    async def test():
        async with server.connect(transport) as client:
            await login(server, client)
            number = client.open_bidirectional()
            client.send_on(number, encode_frame(Ping(1)))
            await client.until(lambda: client.others[number]["reset"] is not None, "the reset of the second stream")
            assert client.others[number]["reset"] == Code.UNEXPECTED_FRAME
            assert client.others[number]["data"] == b""
            await usable(client)

    run(test())


def test_ping(server, transport):
    async def test():
        async with server.connect(transport) as client:
            await login(server, client)
            before = now()
            pong = await client.ping()
            assert before - 60_000 < pong.time < now() + 60_000

    run(test())


def test_byte_by_byte(server, transport):
    async def test():
        async with server.connect(transport) as client:
            user, room = new_user(), new_room()
            await client.send_slowly(encode_frame(Hello(1, server.token(user), "drops", [])))
            await client.welcomed()
            await client.send_slowly(encode_frame(Subscribe(1, room)))
            subscribed = await client.answer(1)
            stream = await client.stream(subscribed.subscription)
            await client.send_slowly(encode_frame(Publish(2, room, text("drop"))))
            published = await client.answer(2)
            publication = await client.message(stream, says("drop"))
            assert publication.offset == published.position.offset

    run(test())


def test_all_in_one_write(server, transport):
    """Requests may follow Hello at once, before Welcome is there."""

    async def test():
        async with server.connect(transport) as client:
            room = new_room()
            frames = [Hello(1, server.token(new_user()), "hasty", []), Subscribe(1, room), Publish(2, room, text("a")), Ping(3)]
            client.send_raw(b"".join(encode_frame(item) for item in frames))
            await client.answer(3)
            assert [type(item) for item in client.control_frames] == [Welcome, Subscribed, Published, Pong]
            stream = await client.stream(client.answers[1].subscription)
            await client.message(stream, says("a"))

    run(test())


def test_integers_of_any_length(server, transport):
    """§3.6: a reader takes any form."""

    async def test():
        async with server.connect(transport) as client:
            await login(server, client)
            room = new_room().encode("ascii")
            body = encode_integer(7, 253) + encode_integer(len(room), 253) + room
            content = encode_integer(0x10, 252) + body
            client.send_raw(encode_integer(len(content), 253) + content)
            subscribed = await client.answer(7)
            assert (await client.stream(subscribed.subscription)).header.name == room.decode("ascii")
            client.send_raw(encode_integer(4, 251) + encode_integer(0x13, 251) + encode_integer(8))
            await client.answer(8)

    run(test())


# ---------------------------------------------------------------------------------------------------- delivery, §4.4 to §4.6, §5


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


def test_history(server, transport):
    """§4.11: pages of what is kept, in both directions."""

    async def test():
        async with server.connect(transport) as one, server.connect(transport) as two:
            await login(server, one)
            await login(server, two)
            room = new_room()
            page, found = await two.history(room, HistoryQuery(None, 10, False))
            assert (page.kept, page.complete, found) == (None, True, [])
            _, stream = await one.subscribe(room)
            for number in range(1, 301):
                await one.publish(room, text(str(number)))
            await one.until(lambda: len(stream.publications) == 300, "the publications")
            said = stream.publications
            epoch = stream.header.epoch
            for query, expected in [
                (HistoryQuery(None, 10, False), said[:10]),
                (HistoryQuery(None, 10, True), said[:-11:-1]),
                (HistoryQuery(None, 1000, False), said[:256]),
                (HistoryQuery(Position(epoch, 256), 1000, False), said[256:]),
                (HistoryQuery(Position(epoch, 4), 1000, True), said[2::-1]),
                (HistoryQuery(None, 0, False), []),
            ]:
                page, found = await two.history(room, query)
                assert (page.kept, page.complete) == (Kept(epoch, 1, 300), True)
                assert found == expected
            for lost in [Position(epoch ^ 1, 4), Position(epoch, 301)]:
                page, found = await two.history(room, HistoryQuery(lost, 10, False))
                assert (page.kept, page.complete, found) == (Kept(epoch, 1, 300), False, [])
            await failure(two.history("user-nobody", HistoryQuery(None, 1, False)), Code.PERMISSION_DENIED)
            await usable(two)

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


def test_refresh(server, transport):
    """§4.13: a new token decides what the session may from then on."""

    async def test():
        async with server.connect(transport) as one:
            may = {"tidings": {"subscribe": {"allow": ["game-*"]}}}
            await one.hello(server.token("alice", **may))
            subscribed, stream = await one.subscribe("game-1")
            expires = int(time.time()) + 1_800
            refreshed = await one.refresh(server.token("alice", 1_800))
            assert abs(refreshed.expires - expires * 1000) < 60_000
            await one.until(lambda: stream.end, "the end of what is no longer allowed")
            assert stream.end.code == Code.PERMISSION_DENIED
            await failure(one.subscribe("game-1"), Code.PERMISSION_DENIED)
            await failure(one.refresh(server.token("bob")), Code.PERMISSION_DENIED)
            await failure(one.refresh("x"), Code.INVALID_TOKEN)
            await failure(one.refresh(server.token("alice", -60)), Code.TOKEN_EXPIRED)
            await usable(one)

    run(test())


def test_presence(presence_server, transport):
    """§4.15: a page, and what follows it, is who is there."""

    def changes(stream):
        return [publication for publication in stream.publications if isinstance(publication.message, Presence)]

    async def test():
        async with presence_server.connect(transport) as one, presence_server.connect(transport) as two:
            await one.hello(presence_server.token("ann"))
            await two.hello(presence_server.token("bob"))
            ann, bob = Member(one.welcome.session, "ann"), Member(two.welcome.session, "bob")
            room = f"room-{new_room()}"
            page = await two.presence(room)
            assert page == PresencePage(page.request, None, 0, 0, [], True)
            _, stream = await one.subscribe(room)
            await one.until(lambda: changes(stream), "the own coming")
            page = await two.presence(room)
            assert page.position == Position(stream.header.epoch, 1)
            assert (page.connections, page.users, page.members, page.complete) == (1, 1, [ann], True)
            subscribed, _ = await two.subscribe(room)
            await one.until(lambda: len(changes(stream)) == 2, "the coming of another")
            page = await one.presence(room, 1)
            assert (page.connections, page.users, len(page.members), page.complete) == (2, 2, 1, False)
            await two.unsubscribe(subscribed.subscription)
            await one.until(lambda: len(changes(stream)) == 3, "the going of another")
            assert [publication.message for publication in changes(stream)] == [
                Presence([ann], [], 1, 1, True), Presence([bob], [], 2, 2, True), Presence([], [bob], 1, 1, True),
            ]
            assert all(publication.publisher is None for publication in changes(stream))
            await failure(two.publish(room, Presence([], [ann], 0, 0, True)), Code.RESERVED_MESSAGE)
            await failure(two.publish_once(room, "k", Presence([], [], 0, 0, True)), Code.RESERVED_MESSAGE)
            await failure(two.presence("quiet"), Code.PERMISSION_DENIED)
            await failure(two.presence("elsewhere"), Code.PERMISSION_DENIED)
            await failure(two.presence("no name"), Code.INVALID_CHANNEL)
            vote = f"vote-{new_room()}"
            _, stream = await one.subscribe(vote)
            await one.until(lambda: changes(stream), "the own coming")
            page = await two.presence(vote)
            [hidden] = page.members
            assert hidden.user is None and hidden.id != ann.id and page.users == 1
            await usable(two)

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


# --------------------------------------------------------------------------------------------------------- failed requests, §4.3


@pytest.mark.parametrize("name", ["", "a b", "ü", "a\n", "a\0b", "quote\"", "x" * 256, "chat-room-?", "chat-room-\\"])
def test_invalid_channel(server, transport, name):
    async def test():
        async with server.connect(transport) as client:
            await login(server, client)
            await failure(client.subscribe(name), Code.INVALID_CHANNEL)
            await failure(client.publish(name, text("x")), Code.INVALID_CHANNEL)
            await usable(client)

    run(test())


def test_longest_channel_and_whole_alphabet(server, transport):
    async def test():
        async with server.connect(transport) as client:
            await login(server, client)
            name = f"{new_room()}azAZ09-_.:/@+=~,|%"
            for channel in (name, name + "x" * (255 - len(name))):
                _, stream = await client.subscribe(channel)
                assert stream.header.name == channel

    run(test())


def test_missing_permission(server, transport):
    async def test():
        async with server.connect(transport) as client:
            await login(server, client)
            await failure(client.publish("topic-x", text("x")), Code.PERMISSION_DENIED)
            await failure(client.publish("global", text("x")), Code.PERMISSION_DENIED)
            await failure(client.subscribe(f"user-{new_user()}"), Code.PERMISSION_DENIED)
            await failure(client.publish(f"user-{new_user()}", text("x")), Code.PERMISSION_DENIED)
            await usable(client)

    run(test())


def test_subscribed_twice(server, transport):
    async def test():
        async with server.connect(transport) as client:
            user = await login(server, client)
            room = new_room()
            _, stream = await client.subscribe(room)
            await failure(client.subscribe(room), Code.ALREADY_SUBSCRIBED)
            await failure(client.subscribe(f"user-{user}"), Code.ALREADY_SUBSCRIBED)
            await client.publish(room, text("still here"))
            await client.message(stream, says("still here"))
            assert len(client.streams) == 3

    run(test())


def test_not_subscribed(server, transport):
    async def test():
        async with server.connect(transport) as client:
            await login(server, client)
            await failure(client.unsubscribe(1 << 40), Code.NOT_SUBSCRIBED)
            subscribed, _ = await client.subscribe(new_room())
            await client.unsubscribe(subscribed.subscription)
            await failure(client.unsubscribe(subscribed.subscription), Code.NOT_SUBSCRIBED)
            await usable(client)

    run(test())


def test_size_of_a_message(server, transport):
    async def test():
        async with server.connect(transport) as client:
            await login(server, client)
            room = new_room()
            _, stream = await client.subscribe(room)
            limit = client.welcome.limits.message
            await failure(client.publish(room, Data("t", b"x" * limit)), Code.MESSAGE_TOO_LARGE)
            await failure(client.publish(room, Notification("x" * (limit + 1), 0)), Code.MESSAGE_TOO_LARGE)
            largest = [Data("t", b"x" * (limit - 1)), Notification("x" * limit, 0)]
            for message in largest:
                await client.publish(room, message)
            await client.until(lambda: len(stream.publications) == 2, "two large publications")
            assert stream.messages == largest

    run(test())


@pytest.mark.parametrize("number", [0x1E, 0x3F])
def test_unknown_request(server, transport, number):
    async def test():
        async with server.connect(transport) as client:
            await login(server, client)
            client.send_raw(encode_raw(number, encode_integer(300) + b"what else a later version has"))
            await failure(client.answer(300), Code.UNKNOWN_REQUEST)
            client.send_raw(encode_raw(number, encode_integer(301)))
            await failure(client.answer(301), Code.UNKNOWN_REQUEST)
            await usable(client)

    run(test())


def test_unknown_types_are_skipped(server, transport):
    async def test():
        async with server.connect(transport) as client:
            await login(server, client)
            before = len(client.control_frames)
            for number in (0x00, 0x04, 0x0F, 0x4F, 0x5F, 0x6E, 0x70, 250, 251, 0x1234, (1 << 64) - 1):
                client.send_raw(encode_raw(number, b"\xff" * 5) + encode_raw(number, b""))
            await usable(client)
            assert len(client.control_frames) == before + 1

    run(test())


def test_too_many_subscriptions(own_server, transport):
    async def test():
        async with own_server.connect(transport, permitted_streams=1 << 16) as client:
            await login(own_server, client)
            left = client.welcome.limits.subscriptions - len(client.welcome.subscriptions)
            room = new_room()
            requests = [client.next_request() for _ in range(left + 1)]
            client.send_raw(b"".join(encode_frame(Subscribe(request, f"{room}-{request}")) for request in requests))
            for request in requests[:-1]:
                await client.answer(request, 30)
            await failure(client.answer(requests[-1]), Code.TOO_MANY_SUBSCRIPTIONS)
            await client.until(lambda: len(client.streams) == client.welcome.limits.subscriptions, "all streams")

            # An end makes room for another.
            await client.unsubscribe(client.answers[requests[0]].subscription)
            await client.subscribe(room)

    run(test())


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


# --------------------------------------------------------------------------------------------------- faults of the protocol, §4.3


FAULTS = {
    "marker 255 as length": (b"\xff" * 64, Code.PROTOCOL_VIOLATION),
    "marker 254 as length": (b"\xfe\x00\x00", Code.PROTOCOL_VIOLATION),
    "length 0": (b"\x00", Code.PROTOCOL_VIOLATION),
    "marker 255 as type": (b"\x01\xff", Code.PROTOCOL_VIOLATION),
    "type longer than the frame": (b"\x01\xfb\x10\x00", Code.PROTOCOL_VIOLATION),
    "two gigabytes": (b"\xfc\x00\x00\x00\x80", Code.FRAME_TOO_LARGE),
    "sixteen exabytes": (b"\xfd" + b"\xff" * 8, Code.FRAME_TOO_LARGE),
}

LATER_FAULTS = {
    **FAULTS,
    "trailing byte": (encode_raw(0x13, encode_integer(1) + b"\x00"), Code.PROTOCOL_VIOLATION),
    "body cut off": (encode_raw(0x10, encode_integer(1) + b"\x09glob"), Code.PROTOCOL_VIOLATION),
    "no body": (encode_raw(0x13, b""), Code.PROTOCOL_VIOLATION),
    "no UTF-8": (encode_raw(0x10, encode_integer(1) + b"\x02\xc3\x28"), Code.PROTOCOL_VIOLATION),
    "string of exabytes": (encode_raw(0x10, encode_integer(1) + b"\xfd" + b"\xff" * 8), Code.PROTOCOL_VIOLATION),
    "unknown message": (encode_raw(0x12, encode_integer(1) + b"\x01a\x03\x00\x00"), Code.PROTOCOL_VIOLATION),
    "second Hello": (encode_frame(Hello(1, None, "", [])), Code.UNEXPECTED_FRAME),
    "a frame of the server": (encode_frame(Unsubscribed(1)), Code.UNEXPECTED_FRAME),
    "a frame of another stream": (encode_frame(End(0, "")), Code.UNEXPECTED_FRAME),
}


@pytest.mark.parametrize("case", FAULTS)
def test_fault_before_hello(server, transport, case):
    data, code = FAULTS[case]

    async def test():
        async with server.connect(transport) as client:
            client.send_raw(data)
            await ends_with(client, code)

    run(test())


@pytest.mark.parametrize("case", ["trailing byte", "cut off", "bad option"])
def test_hello_that_does_not_decode(server, transport, case):
    body = encode_body(Hello(1, server.token(new_user()), "c", []))
    body = {"trailing byte": body + b"\x00", "cut off": body[:-1], "bad option": b"\x01\x02" + body[2:]}[case]

    async def test():
        async with server.connect(transport) as client:
            client.send_raw(encode_raw(0x01, body))
            await ends_with(client, Code.PROTOCOL_VIOLATION)

    run(test())


@pytest.mark.parametrize("item", [Ping(1), Subscribe(1, "global"), End(0, "")], ids=lambda item: type(item).__name__)
def test_first_frame_is_not_hello(server, transport, item):
    async def test():
        async with server.connect(transport) as client:
            client.send(item)
            await ends_with(client, Code.UNEXPECTED_FRAME)

    run(test())


@pytest.mark.parametrize("case", LATER_FAULTS)
def test_fault_after_welcome(server, transport, case):
    data, code = LATER_FAULTS[case]

    async def test():
        async with server.connect(transport) as client:
            await login(server, client)
            client.send_raw(data)
            await ends_with(client, code)

    run(test())


def test_frame_above_the_limit(server, transport):
    async def test():
        async with server.connect(transport) as client:
            await login(server, client)
            client.send_raw(encode_integer(client.welcome.limits.frame + 1))
            await ends_with(client, Code.FRAME_TOO_LARGE)

    run(test())


def test_frame_of_the_limit(server, transport):
    """An unknown frame that is as long as may be is skipped, not refused."""

    async def test():
        async with server.connect(transport) as client:
            await login(server, client)
            client.send_raw(encode_raw(0x70, b"\xff" * (client.welcome.limits.frame - 1)))
            await usable(client)

    run(test())


# ------------------------------------------------------------------------------------------------------------- WebTransport, §2.2


def test_subprotocol(server):
    async def test():
        async with server.connect("webtransport") as client:
            assert client.headers.get("wt-protocol") == '"tidings.v1"'
        async with server.connect("webtransport", subprotocols=("tidings.v9", "tidings.v1")) as client:
            assert client.headers.get("wt-protocol") == '"tidings.v1"'
            await login(server, client)
        async with server.connect("webtransport", subprotocols=()) as client:
            assert "wt-protocol" not in client.headers
            await login(server, client)

    run(test())


async def refused(server, status, **options):
    with pytest.raises(Refused) as caught:
        async with server.connect("webtransport", **options):
            pass
    assert caught.value.status == status


def test_wrong_subprotocol(server):
    run(refused(server, 400, subprotocols=("tidings.v9",)))


def test_wrong_origin(server):
    run(refused(server, 403, headers=[("origin", "https://evil.example")]))


@pytest.mark.parametrize("origin", ["https://localhost", "http://127.0.0.1:8000"])
def test_allowed_origin(server, origin):
    async def test():
        async with server.connect("webtransport", headers=[("origin", origin)]) as client:
            await login(server, client)

    run(test())


@pytest.mark.parametrize("path", ["/", "/other", "/tidings/more"])
def test_wrong_path(server, path):
    run(refused(server, 404, path=path))


# ------------------------------------------------------------------------------------------------- clients that misbehave, and ends


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


def test_client_says_goodbye(server, transport):
    """A session that a client ends in order is over, and its user can come back."""

    async def test():
        user = new_user()
        async with server.connect(transport) as client:
            await login(server, client, user)
            first = client.welcome.session
        async with server.connect(transport) as client:
            await login(server, client, user)
            assert client.welcome.session != first
            await usable(client)

    run(test())


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
