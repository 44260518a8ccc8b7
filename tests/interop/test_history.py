"""Pages of history, §4.11."""

from common import run, new_room, text, login, failure, usable
from tidings_client import Code, HistoryQuery, Kept, Position


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
