"""Tidings and the floors, with the interface of a peer."""

import re
import secrets
import time

from peers.base import Missing, Server, run, tail

from .build import COMPARE

# A server on one loaded core that has not said where it listens by then is stuck.
START_SECONDS = 20
# How often its log is looked at meanwhile.
LOOK_SECONDS = 0.02

# What another build of Tidings is called where two are compared.
BEFORE = "tidings-before"

# Every channel of a run, for every user; nothing is subscribed automatically, as no other peer does that. Sessions are
# logged at info: a line for each of 10,000 is no part of what is measured.
CONFIGURATION = """
listen = "127.0.0.1:0"

[tls]
chain = "{folder}/cert.pem"
key = "{folder}/key.pem"

[[auth.keys]]
algorithm = "HS256"
secret_file = "{folder}/token.secret"

[[rules]]
pattern = "bench-{{channel}}"
subscribe = "everyone"
publish = "everyone"

[log]
level = "warn"
"""


def prepare(place, programs):
    """The certificate that all peers show, and the token that Tidings takes."""
    tidings, folder = programs.tidings, place.folder
    run([tidings, "cert", "--out", folder], "make a certificate")
    (folder / "token.secret").write_text(secrets.token_hex(32))
    secret = ["--secret-file", folder / "token.secret"]
    token = run([tidings, "token", "--user", "load", "--for", "7d", *secret], "sign a token")
    (folder / "token").write_text(token)


class _Ours:
    scenarios = {"sparse", "burst", "tick", "latency"}
    slow = False

    def __init__(self, programs):
        self.programs = programs

    def installed(self):
        return True

    def install(self):
        pass


class Tidings(_Ours):
    """`tidings serve`, over QUIC."""

    name = "tidings"
    load = "tidings"
    scenarios = {"sparse", "burst", "tick", "latency", "idle", "handshake", "subscribers", "channels", "churn", "slow"}

    def binary(self):
        return self.programs.tidings

    def version(self):
        return run([self.binary(), "--version"], "ask tidings for its version").split()[-1]

    def start(self, place, _case):
        configuration = place.folder / "tidings.toml"
        configuration.write_text(CONFIGURATION.format(folder=place.folder))
        argv = [self.binary(), "serve", "--config", configuration]
        server = _start(place, self.name, argv, r"quic://(127\.0\.0\.1:\d+)")
        server.extra = ["--token-file", str(place.folder / "token")]
        return server


class TidingsWebTransport(Tidings):
    """The same over WebTransport."""

    name = "tidings-webtransport"
    load = "tidings-webtransport"


class TidingsBefore(Tidings):
    """Another build of it."""

    name = BEFORE

    def binary(self):
        return self.programs.before


class _Floor(_Ours):
    def version(self):
        lock = (COMPARE / "Cargo.lock").read_text()
        crate = self.crate
        return f"{crate} " + re.search(rf'name = "{crate}"\nversion = "([^"]+)"', lock)[1]

    def start(self, place, case):
        argv = [self.programs[self.name], *case.floor_arguments()]
        return _start(place, self.name, argv, r"listening (127\.0\.0\.1:\d+)")


class FloorQuinn(_Floor):
    """quinn without a broker."""

    name = load = "floor-quinn"
    crate = "quinn"
    scenarios = {"sparse", "burst", "tick", "latency", "idle", "handshake", "subscribers"}


class FloorUdp(_Floor):
    """The datagrams alone."""

    name = load = "floor-udp"
    crate = "quinn-udp"


class FloorTls(_Floor):
    """rustls over TCP without a broker."""

    name = load = "floor-tls"
    crate = "rustls"
    scenarios = {"sparse", "burst", "tick", "latency", "idle"}


def _start(place, name, argv, pattern):
    """Starts a server that says where it listens."""
    log = place.folder / f"{name}.log"
    process = place.spawn(place.SERVER, argv, log)
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        found = re.search(pattern, log.read_text(errors="replace"))
        if found:
            return Server(process, found[1], log)
        if process.poll() is not None:
            raise Missing(f"{name} ended with {process.returncode}; its log: {tail(log)}")
        time.sleep(LOOK_SECONDS)
    Server(process, "", log).stop()
    raise Missing(f"{name} did not say where it listens; its log: {tail(log)}")
