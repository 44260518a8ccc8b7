"""§5: the streams of subscriptions, and lanes."""

from .errors import Fault
from .frames import End, Header, Lagged, Lane, Own, Publication, Skipped, Turn, Unknown
from .framing import FrameReader


class Stream:
    """A unidirectional stream of the server, §5."""

    def __init__(self, number, subscriptions, turn=None):
        self.number = number
        # Of the client, by subscription: each has one stream, or one part of one lane, for good.
        self._subscriptions = subscriptions
        # Of a part of a lane: the subscription that Turn names.
        self._turn = turn
        self.reader = FrameReader(canonical=True)
        self.header = None
        self.frames = []
        self.expected = None
        self.received = 0
        self.finished = False
        self.reset = None
        # Of a lane, §5.7: its subscriptions, and whose turn it is.
        self.parts = None
        self.turn = None

    @property
    def publications(self):
        return [f for f in self.frames if isinstance(f, Publication)]

    @property
    def messages(self):
        return [p.message for p in self.publications]

    @property
    def end(self):
        return self.frames[-1] if self.frames and isinstance(self.frames[-1], End) else None

    def feed(self, data, fin):
        self.received += len(data)
        for item in self.reader.feed(data):
            self._frame(item)
        if fin:
            self.finished = True
            if self.reader.buffer:
                raise Fault(f"stream {self.number} was finished within a frame")

    def _frame(self, item):
        if isinstance(item, Unknown):
            return
        if self.parts is not None:
            if isinstance(item, Turn):
                self.turn = self.parts.get(item.subscription)
                if self.turn is None:
                    self.turn = Stream(f"{self.number} for {item.subscription}", self._subscriptions, item.subscription)
                    self.parts[item.subscription] = self.turn
            elif self.turn is None:
                raise Fault(f"{item} on lane {self.number}, where it is nobody's turn")
            else:
                self.turn._frame(item)
            return
        if self.header is None and isinstance(item, Lane):
            self.parts = {}
            return
        if self.header is None:
            if not isinstance(item, Header):
                raise Fault(f"stream {self.number} begins with {item}")
            if self._turn not in (None, item.subscription):
                raise Fault(f"{item} when it is the turn of {self._turn}")
            if item.subscription in self._subscriptions:
                raise Fault(f"a second stream of subscription {item.subscription}: {self.number}")
            self._subscriptions[item.subscription] = self
            self.header = item
            self.expected = item.first
            return
        if self.end is not None:
            raise Fault(f"{item} follows End on stream {self.number}")
        if self.header.delivery == 2:
            # §5.6: offsets only grow.
            if not isinstance(item, (Publication, End)):
                raise Fault(f"{item} on stream {self.number}, which goes with datagrams")
            if isinstance(item, Publication):
                if item.offset < self.expected:
                    raise Fault(f"offset {item.offset} on stream {self.number} after {self.expected - 1}")
                self.expected = item.offset + 1
        elif isinstance(item, Publication):
            if item.offset != self.expected:
                raise Fault(f"offset {item.offset} on stream {self.number}, {self.expected} was next")
            self.expected = item.offset + 1
        elif isinstance(item, Skipped) and self.header.delivery == 0:
            raise Fault(f"{item} on stream {self.number}, which delivers every publication")
        elif isinstance(item, (Lagged, Skipped, Own)):
            if item.from_ != self.expected or item.to < item.from_:
                raise Fault(f"{item} on stream {self.number}, {self.expected} was next")
            self.expected = item.to + 1
        elif not isinstance(item, End):
            raise Fault(f"{item} on stream {self.number}")
        self.frames.append(item)
