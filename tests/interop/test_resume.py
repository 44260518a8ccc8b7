"""Subscriptions that begin elsewhere than at the head, §4.10."""

from common import run, new_room, text, login
from tidings_client import After, AfterOrOldest, Head, Latest, Position


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
