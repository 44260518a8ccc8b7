"""One run: a link, a server and a publisher on its one end, a subscriber on the other."""

import contextlib
import itertools
import json
import os
import pathlib
import select
import subprocess
import threading
import time

# Name: protocol of the load, server, congestion control of TCP; and how a page in a browser subscribes in place of the load.
CONTENDERS = {
    "tidings": ("tidings", "tidings", "cubic"),
    "tidings-single": ("tidings-single", "tidings", "cubic"),
    "tls": ("floor-tls", "floor", "cubic"),
    "nats": ("nats", "nats", "cubic"),
    "tls-bbr": ("floor-tls", "floor", "bbr"),
    "nats-bbr": ("nats", "nats", "bbr"),
}
BROWSERS = {
    "browser": ("tidings", "cubic", "webtransport"),
    "browser-single": ("tidings-single", "cubic", "webtransport"),
    "browser-websocket": ("tidings", "cubic", "websocket"),
    "browser-websocket-bbr": ("tidings", "bbr", "websocket"),
}
CONTENDERS |= {name: (protocol, "tidings", congestion) for name, (protocol, congestion, _) in BROWSERS.items()}
VARIANTS = ("small", "bulk")

ADDRESS = "10.77.0.1:4433"
# Small flows of the load.
FLOWS = 10
# Everything is delivered, however far a contender falls behind: what the log forgets would make a run void.
TIDINGS = """
listen = "{address}"
origins = ["http://127.0.0.1:*"]
[tls]
chain = "{directory}/cert.pem"
key = "{directory}/key.pem"
[auth]
anonymous = true
[retention]
count = 1000000
bytes = 1000000000
age_seconds = 600
[[rules]]
pattern = "flow-{{flow}}"
subscribe = "everyone"
publish = "everyone"
"""
NATS = """
listen: "{address}"
tls {{ cert_file: "{directory}/cert.pem", key_file: "{directory}/key.pem", timeout: 5 }}
write_deadline: "300s"
"""
# What a server says when it listens.
READY = {"tidings": "QUIC", "floor": "listening", "nats": "Server is ready"}

# Seconds for a process to say that it is ready.
PATIENCE = 20
# Seconds after the last message was published until the last one must have come.
DRAIN = 60
# Milliseconds: a link that was later than this with one packet in a hundred was disturbed.
LINK_LATENESS = 1.0
# A server whose threads together waited for a processor for more than this share of the time, and longer than this on average, was
# starved, and one that waited for more than a fifth of it. Threads that hand work to each other wait as well, many times and for some
# microseconds, which delays nothing by a round trip. What an average hides shows without loss: there nothing may be late.
SERVER_WAIT = 0.02
SERVER_WAIT_MEAN = 0.000_2
SERVER_WAIT_MOST = 0.2


class Failed(Exception):
    """Why a run is void."""


class Stage:
    def __init__(self, options, tools, directory):
        self.options = options
        self.tools = tools
        self.directory = directory
        self.numbers = itertools.count()
        self.lock = threading.Lock()
        certificate = [tools["tidings"], "cert", "--out", directory, "--name", "localhost", "--name", "10.77.0.1"]
        subprocess.run(certificate, check=True, stdout=subprocess.DEVNULL)
        fingerprint = [tools["tidings"], "cert", "--hash", directory / "cert.pem"]
        self.hash = subprocess.run(fingerprint, check=True, capture_output=True, text=True).stdout.strip()
        (directory / "tidings.toml").write_text(TIDINGS.format(address=ADDRESS, directory=directory))
        (directory / "nats.conf").write_text(NATS.format(address=ADDRESS, directory=directory))

    def calibrate(self, loss):
        command = [self.tools["link"], "calibrate", "--json", *self.link(loss, self.options.seed, "cubic")]
        result = subprocess.run(command, capture_output=True, text=True)
        if not result.stdout:
            raise SystemExit(result.stderr.strip())
        return json.loads(result.stdout)

    def link(self, loss, seed, congestion):
        options = self.options
        return [
            "--delay", f"{options.delay_ms:g}ms", "--loss", f"{loss:g}%", "--rate", options.rate, "--queue", options.queue,
            "--seed", str(seed), "--tcp-congestion", congestion,
        ]

    def run(self, repeat, variant, loss, contender):
        seed = self.options.seed + repeat
        result = {"repeat": repeat, "variant": variant, "loss": loss, "contender": contender, "seed": seed, "void": None}
        with self.lock:
            name = f"loss-{os.getpid()}-{next(self.numbers)}"
        try:
            result |= self.perform(name, variant, loss, contender, seed)
        except Failed as failed:
            result["void"] = str(failed)
        return result

    def perform(self, name, variant, loss, contender, seed):
        protocol, server, congestion = CONTENDERS[contender]
        counters = self.directory / f"{name}.json"
        up = [self.tools["link"], "up", "--name", name, "--json", counters, *self.link(loss, seed, congestion)]
        link = Process("the link", up, self.directory / f"{name}.log")
        try:
            link.wait_line("{")
            summary = self.deliver(name, contender, protocol, server, variant)
        finally:
            # It ends what runs inside.
            link.end()
        counters = json.loads(counters.read_text())
        check(counters)
        return summary | {"link": counters}

    def deliver(self, name, contender, protocol, server, variant):
        def start(side, what, command):
            inside = [self.tools["link"], "exec", side, "--link", name, "--", *command]
            return Process(what, inside, self.directory / f"{name}-{what}.log")

        processes = [start("server", "server", self.server(server))]
        try:
            processes[0].wait_log(READY[server])
            peer = ["--protocol", protocol, "--address", ADDRESS, "--certificate", self.directory / "cert.pem"]
            load = ["--flows", str(FLOWS), "--rate", str(self.options.message_rate), "--seconds", str(self.options.seconds), "--warm-up", str(self.options.warm_up)]
            if variant == "bulk":
                load += ["--bulk-rate", str(self.options.bulk_rate)]
            delay = ["--delay", str(self.options.delay_ms)]
            subscribe = self.browser(contender, variant) if contender in BROWSERS else [self.tools["load"], "subscribe", *peer]
            subscriber = start("client", "subscriber", [*subscribe, *load, *delay])
            processes.append(subscriber)
            subscriber.wait_line("ready")
            begin, (waited, times) = time.monotonic(), processes[0].waited()
            publisher = start("server", "publisher", [self.tools["load"], "publish", *peer, *load])
            processes.append(publisher)
            summary = json.loads(subscriber.wait_line("{", self.options.seconds + DRAIN))
            waited, times = (now - before for now, before in zip(processes[0].waited(), (waited, times)))
            share, mean = waited / (time.monotonic() - begin), waited / max(times, 1)
            if share > SERVER_WAIT_MOST or (share > SERVER_WAIT and mean > SERVER_WAIT_MEAN):
                raise Failed(
                    f"the server waited {share:.1%} of the time for a processor, {mean * 1000:.2f} ms on average: the machine is busy"
                )
            return summary | {"server_wait": share, "server_wait_mean": mean}
        finally:
            for process in reversed(processes):
                process.end()

    def browser(self, contender, variant):
        """A page that subscribes, and has what arrived judged by the load."""
        protocol, _, transport = BROWSERS[contender]
        bulk = variant == "bulk"
        channels = 1 if protocol == "tidings-single" else FLOWS + bulk
        messages = (FLOWS * self.options.message_rate + bulk * self.options.bulk_rate) * self.options.seconds
        observer = [self.tools["node"], self.tools["observer"], f"https://{ADDRESS}/tidings", self.hash, transport]
        return [*observer, str(channels), str(messages), self.tools["load"], "judge"]

    def server(self, kind):
        certificate = ["--certificate", self.directory / "cert.pem", "--key", self.directory / "key.pem"]
        return {
            "tidings": lambda: [self.tools["tidings"], "serve", "--config", self.directory / "tidings.toml"],
            "floor": lambda: [self.tools["load"], "floor-tls", "--listen", ADDRESS, *certificate],
            "nats": lambda: [self.tools["nats"], "--config", self.directory / "nats.conf"],
        }[kind]()


class Process:
    """A process whose lines are waited for, within a bound; what it says otherwise goes into a log."""

    def __init__(self, what, command, log):
        self.what = what
        self.log = log
        with log.open("wb") as file:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=file)
        self.buffer = b""

    def wait_line(self, start, seconds=PATIENCE):
        """The next line that starts so."""
        deadline = time.monotonic() + seconds
        while True:
            line, found, rest = self.buffer.partition(b"\n")
            if found:
                self.buffer = rest
                if line.startswith(start.encode()):
                    return line.decode()
                continue
            left = deadline - time.monotonic()
            if left <= 0:
                raise Failed(f"{self.what} does not say {start!r} within {seconds} s: {self.last_words()}")
            if select.select([self.process.stdout], [], [], left)[0]:
                read = os.read(self.process.stdout.fileno(), 65536)
                if not read:
                    self.process.wait()
                    raise Failed(f"{self.what} ended with {self.process.returncode}: {self.last_words()}")
                self.buffer += read

    def wait_log(self, words):
        """Until it has said these words, on standard output or in its log."""
        deadline = time.monotonic() + PATIENCE
        while words not in self.log.read_text(errors="replace"):
            if select.select([self.process.stdout], [], [], 0.02)[0]:
                self.buffer += os.read(self.process.stdout.fileno(), 65536)
                if words.encode() in self.buffer:
                    return
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise Failed(f"{self.what} does not begin: {self.last_words()}")

    def waited(self):
        """Seconds for which its threads wanted a processor and had none, and how many times they got one; 0 where the kernel does not
        count them."""
        nanoseconds = times = 0
        for file in pathlib.Path(f"/proc/{self.process.pid}/task").glob("*/schedstat"):
            # A thread may just have ended.
            with contextlib.suppress(OSError):
                _, waited, got = map(int, file.read_text().split())
                nanoseconds, times = nanoseconds + waited, times + got
        return nanoseconds / 1e9, times

    def last_words(self):
        return self.log.read_text(errors="replace").strip()[-300:]

    def end(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process.stdout.close()


def check(counters):
    """A run over a link that was not what was asked for is void."""
    late = counters["lateness"]["p99_ms"]
    if late > LINK_LATENESS:
        raise Failed(f"the link handed packets on late (p99 {late:.2f} ms): the machine is busy")
    for direction in ("to_client", "to_server"):
        for counter in ("held_back", "refused"):
            if counters[direction][counter]:
                raise Failed(f"the link {counter} {counters[direction][counter]} packets {direction}")
