"""Waiting for a state of a connection."""

import asyncio

from .errors import ConnectionEnded

TIMEOUT = 10.0


class Waiting:
    """What breaks a rule becomes `fault`, and every wait then raises it."""

    def __init__(self):
        self.closed = None
        self.fault = None
        self._waiters = set()

    def _changed(self):
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def until(self, condition, what, timeout=TIMEOUT, closed_is_fine=False):
        """Waits until `condition()` is true, and returns its value."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        while True:
            if self.fault is not None:
                raise self.fault
            if value := condition():
                return value
            if self.closed is not None and not closed_is_fine:
                raise ConnectionEnded(self.closed)
            waiter = loop.create_future()
            self._waiters.add(waiter)
            try:
                await asyncio.wait_for(waiter, deadline - loop.time())
            except asyncio.TimeoutError:
                raise TimeoutError(f"{what}: not within {timeout:g} s; {self._state()}") from None
            finally:
                self._waiters.discard(waiter)

    def _state(self):
        streams = [(s.header and s.header.name, len(s.frames)) for s in self.streams.values()]
        return f"control frames: {self.control_frames[-5:]}, streams: {streams}, status: {self.status}"

    async def wait_closed(self, timeout=TIMEOUT):
        return await self.until(lambda: self.closed, "the end of the connection", timeout, closed_is_fine=True)
