"""States by datagram, §5.6."""

import uuid

from common import run, new_user, text, usable
from tidings_client import Data


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
