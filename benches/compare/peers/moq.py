"""moq-relay over QUIC."""

import shutil

from . import install
from .base import run, start

PORT = 4443
# One backend of QUIC, and neither WebSocket nor what finds other relays; the allocator is that of its own default, the system's. It
# needs Rust 1.95 and a C compiler.
PINS = ["moq-relay", "--version", "=0.17.8", "--locked", "--no-default-features", "--features", "noq"]


class Moq:
    """The relay of Media over QUIC; its QUIC is noq, a fork of quinn."""

    name = "moq-relay"
    load = "moq"
    scenarios = {"sparse", "burst", "tick", "latency", "idle"}
    # It comes as source, with several hundred dependencies.
    slow = True

    def __init__(self, cache):
        self.folder = cache / "moq"
        self.program = self.folder / "bin" / "moq-relay"

    def installed(self):
        return install.is_current(self.folder, PINS)

    def install(self):
        install.cargo(self.folder, PINS)

    def version(self):
        return run([self.program, "--version"], "ask moq-relay for its version").split()[-1]

    def start(self, place, _scenario):
        # It reads its certificate again whenever something is written beside it, and its log would be.
        folder = place.folder / "moq"
        folder.mkdir(exist_ok=True)
        cert, key = [shutil.copy2(place.folder / name, folder) for name in ["cert.pem", "key.pem"]]
        argv = [self.program, "--listen", f"127.0.0.1:{PORT}", "--connect-bind", "127.0.0.1:0", "--log-level", "warn"]
        argv += ["--listen-tls-cert", cert, "--listen-tls-key", key]
        # Everybody may publish and subscribe to everything. When it is stopped, it waits for nobody.
        argv += ["--auth-public", "**", "--drain-timeout", "0s"]
        return start(place, self.name, argv, PORT, "udp")
