"""§4: what a client asks on the control stream."""

from .errors import Fault, RequestFailed
from .frames import (
    Failed,
    Hello,
    HistoryPage,
    Ping,
    Pong,
    PresencePage,
    Publish,
    Published,
    PublishedOnce,
    PublishOnce,
    PublishWith,
    ReadHistory,
    ReadPresence,
    Refresh,
    Refreshed,
    Subscribe,
    Subscribed,
    SubscribeFrom,
    Unsubscribe,
    Unsubscribed,
)
from .waiting import TIMEOUT

VERSION = 1
HELLO_LIMIT = 16_384  # §4.1


class Requests:
    """Each waits for its answer; `RequestFailed` where that is `Failed`."""

    async def hello(self, token, version=VERSION, client="interop", features=()):
        self.send(Hello(version, token, client, list(features)))
        await self.welcomed()
        return self.welcome

    async def welcomed(self):
        await self.until(lambda: self.welcome, "Welcome")

    async def answer(self, request, timeout=TIMEOUT):
        found = await self.until(lambda: self.answers.get(request), f"the answer to request {request}", timeout)
        if isinstance(found, Failed):
            raise RequestFailed(found)
        return found

    def next_request(self):
        return next(self._requests)

    async def _ask(self, cls, wanted, *values):
        number = self.next_request()
        self.send(cls(number, *values))
        found = await self.answer(number)
        if not isinstance(found, wanted):
            raise Fault(f"{cls.__name__} was answered by {found}")
        return found

    async def subscribe(self, channel):
        """Returns the answer and the stream."""
        found = await self._ask(Subscribe, Subscribed, channel)
        return found, await self.stream(found.subscription)

    async def subscribe_from(self, channel, start):
        """The same from elsewhere than the head."""
        found = await self._ask(SubscribeFrom, Subscribed, channel, start)
        return found, await self.stream(found.subscription)

    async def history(self, channel, query):
        """The page and its publications."""
        page = await self._ask(ReadHistory, HistoryPage, channel, query)
        publications = next(found for known, found in self.pages if known is page)
        await self.until(lambda: len(publications) == page.count, "the publications of a page")
        return page, publications

    async def presence(self, channel, limit=256):
        return await self._ask(ReadPresence, PresencePage, channel, limit)

    async def unsubscribe(self, subscription):
        return await self._ask(Unsubscribe, Unsubscribed, subscription)

    async def publish(self, channel, message):
        return await self._ask(Publish, Published, channel, message)

    async def publish_once(self, channel, key, message):
        return await self._ask(PublishOnce, PublishedOnce, channel, key, message)

    async def publish_with(self, channel, message, key=None, conflation_key=None, echo=True):
        return await self._ask(PublishWith, PublishedOnce, channel, key, conflation_key, echo, message)

    async def refresh(self, token):
        return await self._ask(Refresh, Refreshed, token)

    async def ping(self):
        return await self._ask(Ping, Pong)

    async def stream(self, subscription):
        return await self.until(lambda: self.subscriptions.get(subscription), f"the stream of subscription {subscription}")

    async def stream_of(self, channel):
        """The stream of a subscription that `Welcome` names."""
        for item in self.welcome.subscriptions:
            if item.channel == channel:
                return await self.stream(item.subscription)
        raise AssertionError(f"Welcome names no subscription to {channel}: {self.welcome.subscriptions}")

    async def message(self, stream, wanted, timeout=TIMEOUT):
        """The first publication on `stream` whose message satisfies `wanted`."""

        def found():
            return next((p for p in stream.publications if wanted(p.message)), None)

        return await self.until(found, f"a publication on {stream.header.name}", timeout)
