"""Requests that fail, §4.3."""

import pytest

from common import run, new_user, new_room, text, says, login, failure, usable
from tidings_client import Code, Data, Notification, Subscribe, encode_frame, encode_integer, encode_raw


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
