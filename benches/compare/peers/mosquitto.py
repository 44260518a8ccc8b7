"""mosquitto over TLS."""

import re
import subprocess

from . import install
from .base import Missing, environment, start

PORT = 8883
# With what it links to that a system without it does not have.
PINS = ["mosquitto=2.0.11*", "libcjson1", "libdlt2", "libmosquitto1", "libwrap0"]


class Mosquitto:
    """The MQTT broker of Eclipse, at QoS 0."""

    name = "mosquitto"
    load = "mqtt"
    scenarios = {"sparse", "burst", "tick", "latency", "idle"}
    slow = False

    def __init__(self, cache):
        self.folder = cache / "mosquitto"
        self.program = self.folder / "usr" / "sbin" / "mosquitto"

    def installed(self):
        return install.is_current(self.folder, PINS)

    def install(self):
        install.debian(self.folder, PINS)

    def version(self):
        # It ends with 3 after its help.
        result = subprocess.run([self.program, "-h"], capture_output=True, text=True, env=self._environment())
        found = re.search(r"mosquitto version (\S+)", result.stdout)
        if not found:
            raise Missing(f"mosquitto does not tell its version: {(result.stderr or result.stdout).strip()}")
        return found[1]

    def start(self, place, _scenario):
        configuration = place.folder / "mosquitto.conf"
        configuration.write_text(CONFIGURATION.format(port=PORT, folder=place.folder))
        argv = [self.program, "-c", configuration]
        return start(place, self.name, argv, PORT, "tls", env=self._environment())

    def _environment(self):
        return environment(LD_LIBRARY_PATH=":".join(map(str, self.folder.glob("usr/lib/*-linux-gnu*"))))


# Neither a limit of connections or of what waits for one (a burst would be cut), nor Nagle's delay.
CONFIGURATION = """
listener {port} 127.0.0.1
certfile {folder}/cert.pem
keyfile {folder}/key.pem
tls_version tlsv1.3
allow_anonymous true
max_connections -1
max_queued_messages 0
set_tcp_nodelay true
persistence false
user root
log_type error
log_type warning
"""
