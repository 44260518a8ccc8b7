"""Sessions, §2 and §4."""

import asyncio
import hashlib
import ssl
import time
import uuid

import pytest

from common import run, new_user, new_room, text, now, says, login, failure, usable, ends_with
from tidings_client import (
    Code,
    ConnectionEnded,
    HELLO_LIMIT,
    Header,
    Hello,
    Ping,
    Pong,
    Publish,
    Published,
    Subscribe,
    Subscribed,
    Welcome,
    encode_frame,
    encode_integer,
)


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


def test_hello_timeout_is_total(server):
    """A Hello that arrives in drops does not move the deadline of 5 s. Over both transports at once, for it takes so long."""

    async def drops(transport):
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

    async def test():
        await asyncio.gather(drops("quic"), drops("webtransport"))

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
