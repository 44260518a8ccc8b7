"""Presence, §4.15."""

from common import run, new_room, failure, usable
from tidings_client import Code, Member, Position, Presence, PresencePage


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
