"""Two WebSocket servers for Node over TLS, each with the few lines that make it a broker."""

import json

from . import install
from .base import HERE, Missing, run, start

PORT = 8443
SCENARIOS = {"sparse", "burst", "tick", "latency", "idle"}


class _Node:
    load = "websocket"
    slow = False

    def __init__(self, cache):
        self.folder = cache / self.name

    def installed(self):
        return install.is_current(self.folder, [self.pin])

    def install(self):
        install.node(self.folder, [self.pin])

    def version(self):
        package = self.folder / "node_modules" / self.pin.split("@")[0] / "package.json"
        try:
            version = json.loads(package.read_text())["version"]
        except (OSError, ValueError, KeyError) as error:
            raise Missing(f"{package} does not tell the version: {error}") from error
        node = run(["node", "--version"], "ask node for its version").strip()
        return f"{version} on node {node}"

    def start(self, place, _scenario):
        script = HERE / f"{self.name}-server.mjs"
        argv = ["node", script, self.folder, PORT, place.folder / "cert.pem", place.folder / "key.pem"]
        return start(place, self.name, argv, PORT, "tls")


class Uws(_Node):
    """uWebSockets.js, which knows topics itself."""

    name = "uws"
    pin = "uwebsockets@3.0.6"
    scenarios = SCENARIOS


class Ws(_Node):
    """ws, the usual WebSocket server of Node, and a set of subscribers for each channel."""

    name = "ws"
    pin = "ws@8.23.0"
    scenarios = SCENARIOS | {"loss"}
