"""A client that does as it should, in a process of its own: what a test does beside it does not slow its clock.

`Watch` starts it. It publishes to its room a hundred times a second, by a timetable, over one connection, and hears itself over
another, in order and without a hole, or the process ends with what was wrong.
"""

import asyncio
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tidings_client import Data, Publish, Published, connect

INTERVAL = 0.01
# Longer than this a process that wakes up every `INTERVAL` sleeps only where the machine is busy with others.
PAUSE = 0.1
# From a publication to its arrival, whatever happens beside it.
LATEST = 20.0


@dataclass(frozen=True)
class Latencies:
    """From publishing to hearing, in seconds."""

    count: int
    median: float
    p99: float

    def __str__(self):
        return f"{self.count} publications, median {1000 * self.median:.1f} ms, p99 {1000 * self.p99:.1f} ms"


class Watch:
    """The healthy client, as a test sees it."""

    def __init__(self, server, transport, room):
        self.room = room
        self.log = server.folder / f"watch-{room}.txt"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(Path(__file__).resolve()), server.url(transport), str(server.certificate), server.token("watch"), room],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        self._answer()

    async def hear(self, count=0):
        """Waits until at least `count` publications arrived since the last call, and all that were sent by now; their latencies."""
        self.process.stdin.write(b"%d\n" % count)
        self.process.stdin.flush()
        return Latencies(**await asyncio.to_thread(self._answer))

    def stop(self):
        self.process.stdin.close()
        self.process.stdout.close()
        assert self.process.wait(LATEST) == 0, self.log.read_text(encoding="utf-8", errors="replace")

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def _answer(self):
        line = self.process.stdout.readline()
        if not line:
            self.process.wait(LATEST)
            raise AssertionError(f"the healthy client ended: {self.log.read_text(encoding='utf-8', errors='replace')}")
        return json.loads(line)


class _Clock:
    """When each publication was sent and heard, by a clock that stands while this process is not given the processor."""

    def __init__(self):
        self._time = asyncio.get_running_loop().time
        self._last = self._time()
        self._lost = 0.0
        self.sent = []
        self.heard = []
        self.told = 0

    def now(self):
        time = self._time()
        if time - self._last > PAUSE:
            self._lost += time - self._last
        self._last = time
        return time - self._lost

    async def tick(self):
        """Looks at the clock, whatever the server does."""
        while True:
            self.now()
            await asyncio.sleep(INTERVAL)

    async def publish(self, author, room):
        begin = self.now()
        while True:
            number = len(self.sent)
            self.sent.append(self.now())
            author.send(Publish(number + 1, room, Data("", b"%d" % number)))
            # What was published earlier is looked at, for an author that is refused is not healthy.
            if number > 200:
                answer = await author.answer(number - 200, LATEST)
                assert isinstance(answer, Published), answer
            await asyncio.sleep(max(0.0, begin + (number + 1) * INTERVAL - self.now()))

    async def hear(self, reader, stream):
        while True:
            await reader.until(lambda: len(stream.frames) > len(self.heard), "the next publication", LATEST)
            for item in stream.frames[len(self.heard) :]:
                assert item.message == Data("", b"%d" % len(self.heard)), f"{item}, number {len(self.heard)} was next"
                self.heard.append(self.now())

    async def latencies(self, reader, count):
        wanted = max(len(self.sent), self.told + count)
        await reader.until(lambda: len(self.heard) >= wanted, f"publication {wanted}", LATEST)
        found = sorted(heard - sent for sent, heard in zip(self.sent[self.told : wanted], self.heard[self.told : wanted]))
        self.told = wanted
        at = lambda part: found[min(len(found) - 1, int(part * len(found)))] if found else 0.0
        return Latencies(len(found), at(0.5), at(0.99))


async def _main(url, certificate, token, room):
    async with connect(url, certificate, keep_alive=0.5) as author, connect(url, certificate, keep_alive=0.5) as reader:
        await author.hello(token)
        await reader.hello(token)
        _, stream = await reader.subscribe(room)
        questions = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(questions), sys.stdin.buffer)
        clock = _Clock()

        async def answer():
            print("{}", flush=True)
            while line := await questions.readline():
                print(json.dumps(vars(await clock.latencies(reader, int(line)))), flush=True)

        parts = (clock.tick(), clock.publish(author, room), clock.hear(reader, stream), answer())
        work = [asyncio.ensure_future(part) for part in parts]
        done, rest = await asyncio.wait(work, return_when=asyncio.FIRST_COMPLETED)
        for task in rest:
            task.cancel()
        for task in done:
            task.result()


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
