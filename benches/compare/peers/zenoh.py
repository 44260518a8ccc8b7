"""zenoh's router over QUIC."""

from . import install
from .base import HERE, run, start

PORT = 7447
PINS = ["eclipse-zenoh==1.10.2"]


class Zenoh:
    """The router of zenoh, whose QUIC is quinn. The package has no program of it: a few lines of Python hold the session."""

    name = "zenoh"
    load = "zenoh"
    scenarios = {"sparse", "burst", "tick", "latency", "idle"}
    slow = False

    def __init__(self, cache):
        self.folder = cache / "zenoh"
        self.python = self.folder / "bin" / "python"

    def installed(self):
        return install.is_current(self.folder, PINS)

    def install(self):
        install.python(self.folder, PINS)

    def version(self):
        asked = "from importlib.metadata import version; print(version('eclipse-zenoh'))"
        return run([self.python, "-c", asked], "ask eclipse-zenoh for its version").strip()

    def start(self, place, _scenario):
        # -I: the module that the script imports is not this file, which lies beside it.
        argv = [self.python, "-I", HERE / "zenoh_router.py", PORT, place.folder / "cert.pem", place.folder / "key.pem"]
        return start(place, self.name, argv, PORT, "log")
