"""The server under test: the binary that TIDINGS_BIN names, started for the tests and stopped after them."""

import asyncio
import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tidings_client import connect, make_token
from watch import Watch

START_TIMEOUT = 30.0
STOP_TIMEOUT = 30.0
# For what a test leaves behind to be given back: the idle timeout, the shortest of a test, is most of it.
SETTLE_TIMEOUT = 15.0
POLL = 0.05


class Server:
    def __init__(self, binary, folder, settings=None):
        self.folder = Path(folder)
        options = []
        if settings is not None:
            (self.folder / "tidings.toml").write_text(settings, encoding="utf-8")
            options = ["--config", "tidings.toml"]
        self.log = self.folder / "output.txt"
        with self.log.open("wb") as output:
            self.terminated = False
            self.process = subprocess.Popen(
                [binary, "serve", "--dev", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", *options],
                cwd=self.folder,
                # The server reads TIDINGS_... as settings, and refuses those that it does not know.
                env={name: value for name, value in os.environ.items() if not name.startswith("TIDINGS_")},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            addresses = self._wait_for_addresses()
        except BaseException:
            self.process.kill()
            self.process.wait()
            raise
        self.quic = addresses["quic"]
        self.webtransport = addresses["webtransport"]
        self.http = addresses["http"]
        self.fingerprint = addresses["certificate_sha256"]
        certificates = self.folder / "certs" / "dev"
        self.certificate = certificates / "cert.pem"
        self.secret = (certificates / "token.secret").read_text(encoding="utf-8").strip().encode("utf-8")
        self.key = (certificates / "api.key").read_text(encoding="utf-8").strip()

    def output(self):
        return self.log.read_text(encoding="utf-8", errors="replace")

    def _wait_for_addresses(self):
        file = self.folder / "certs" / "dev" / "server.json"
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline:
            try:
                return json.loads(file.read_text(encoding="utf-8"))
            except (FileNotFoundError, json.JSONDecodeError):
                pass
            try:
                code = self.process.wait(POLL)
            except subprocess.TimeoutExpired:
                continue
            raise RuntimeError(f"the server exited with {code} before it listened; its output:\n{self.output()}")
        raise RuntimeError(f"the server wrote no {file} within {START_TIMEOUT:g} s; its output:\n{self.output()}")

    def terminate(self):
        """Once: a second signal would end the server at once."""
        if not self.terminated:
            self.terminated = True
            self.process.send_signal(signal.SIGTERM)

    def wait(self):
        try:
            return self.process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"the server did not stop within {STOP_TIMEOUT:g} s; its output:\n{self.output()}") from None

    def stop(self):
        if self.process.poll() is None:
            self.terminate()
        code = self.wait()
        assert code == 0, f"the server ended with {code}; its output:\n{self.output()}"
        assert self.faults() == [], self.output()

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    # --- what a client of it needs

    def token(self, user, lifetime=3_600, secret=None, algorithm="HS256", **claims):
        claims = {"sub": user, "exp": int(time.time()) + lifetime, **claims}
        claims = {name: value for name, value in claims.items() if value is not None}
        return make_token(self.secret if secret is None else secret, claims, algorithm)

    def url(self, transport):
        return {"quic": self.quic, "webtransport": self.webtransport}[transport]

    def connect(self, transport, **options):
        return connect(self.url(transport), self.certificate, **options)

    def resident(self):
        """Bytes of memory that the process has (VmRSS)."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        kilobytes = next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:"))
        return int(kilobytes) * 1024

    def faults(self):
        """Lines of its log that say that it failed."""
        return [line for line in self.output().splitlines() if "ERROR" in line or "panicked" in line]

    async def held(self):
        """How many sessions and subscriptions there are."""
        sessions, page = 0, await self.post("/v1/sessions")
        while page["sessions"]:
            sessions += len(page["sessions"])
            page = await self.post("/v1/sessions", after=page["sessions"][-1]["id"])
        health = await asyncio.to_thread(self._request, "/health")
        return sessions, health["subscriptions"]

    async def holds(self, sessions, subscriptions):
        """Waits until there are so many."""
        deadline = time.monotonic() + SETTLE_TIMEOUT
        while (held := await self.held()) != (sessions, subscriptions):
            assert time.monotonic() < deadline, f"{held} sessions and subscriptions, {(sessions, subscriptions)} are expected"
            await asyncio.sleep(POLL)

    def _request(self, path, body=None):
        request = urllib.request.Request(
            self.http + path,
            data=None if body is None else json.dumps(body).encode("utf-8"),
            headers={"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"},
            method="GET" if body is None else "POST",
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                text = response.read().decode("utf-8")
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{path}: {error.code} {error.read().decode('utf-8', 'replace')}") from None
        return json.loads(text) if text else None

    def document(self):
        """The OpenAPI document of its HTTP API."""
        return self._request("/openapi.json")

    async def post(self, path, **body):
        return await asyncio.to_thread(self._request, path, body)


def start(folder, settings=None):
    binary = os.environ.get("TIDINGS_BIN")
    if not binary:
        pytest.fail(
            "TIDINGS_BIN is not set: run `cargo build`, then set TIDINGS_BIN to the binary, target/debug/tidings; "
            "tests/run.sh does both",
            pytrace=False,
        )
    path = Path(binary).resolve()
    if not path.is_file():
        pytest.fail(f"TIDINGS_BIN names {path}, which is no file: run `cargo build`; tests/run.sh does it", pytrace=False)
    return Server(str(path), folder, settings)


# Tests wait for neither clients that vanished nor clocks that differ.
SETTINGS = """
[timeouts]
grace = 1

[auth]
leeway_seconds = 1
"""


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    server = start(tmp_path_factory.mktemp("server"), SETTINGS)
    try:
        yield server
        server.stop()
    finally:
        server.kill()


@pytest.fixture
def own_server(tmp_path):
    """A server for one test, which may stop it or fill it up."""
    server = start(tmp_path)
    try:
        yield server
        server.stop()
    finally:
        server.kill()


GUARDED = """
[timeouts]
deadline = 2
grace = 1
idle = 2

[retention]
count = 4096
bytes = 262144
age_seconds = 60
"""


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """A server whose deadlines and logs are small, to be attacked."""
    server = start(tmp_path_factory.mktemp("guarded"), GUARDED)
    try:
        yield server
        server.stop()
    finally:
        server.kill()


@pytest.fixture(scope="module")
def watch(guarded):
    """A client of that server that does as it should, all the time."""
    watch = Watch(guarded, "quic", "chat-room-watch")
    try:
        yield watch
        watch.stop()
    finally:
        watch.kill()


SHORT = """
[timeouts]
grace = 1

[retention]
count = 10
"""


@pytest.fixture(scope="session")
def short_server(tmp_path_factory):
    """A server that keeps ten publications of each channel."""
    server = start(tmp_path_factory.mktemp("short"), SHORT)
    try:
        yield server
        server.stop()
    finally:
        server.kill()


STATES = """
[timeouts]
grace = 1

[[rules]]
pattern = "state-{name}"
subscribe = "everyone"
publish = "everyone"
delivery = "datagram"
keyframe_messages = 3
keyframe_interval_milliseconds = 3600000

[[rules]]
pattern = "beat-{name}"
subscribe = "everyone"
publish = "everyone"
delivery = "datagram"
keyframe_interval_milliseconds = 400
"""


@pytest.fixture(scope="session")
def state_server(tmp_path_factory):
    """A server whose channels `state-*` travel as datagrams, §5.6, with a keyframe every three publications and none by the clock, and
    `beat-*` with keyframes by the clock alone.
    """
    server = start(tmp_path_factory.mktemp("states"), STATES)
    try:
        yield server
        server.stop()
    finally:
        server.kill()


PRESENCE = """
[[rules]]
pattern = "room-{room}"
subscribe = "authenticated"
publish = "authenticated"
presence = true

[[rules]]
pattern = "vote-{vote}"
subscribe = "authenticated"
publish = "authenticated"
presence = true
hide_publisher = true

[[rules]]
pattern = "quiet"
subscribe = "authenticated"
publish = "authenticated"
"""


@pytest.fixture(scope="session")
def presence_server(tmp_path_factory):
    """A server whose rules have presence."""
    server = start(tmp_path_factory.mktemp("presence"), PRESENCE)
    try:
        yield server
        server.stop()
    finally:
        server.kill()


@pytest.fixture(params=["quic", "webtransport"])
def transport(request):
    return request.param
