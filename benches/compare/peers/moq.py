"""moq-relay, which is not measured yet."""

from .base import Missing


class Moq:
    """The relay of Media over QUIC. Its row says why there is no figure: that is better than no row."""

    name = "moq-relay"
    load = None
    scenarios = {"sparse", "burst", "tick", "latency", "idle"}
    # It comes as source, with several hundred dependencies.
    slow = True

    def __init__(self, _cache):
        pass

    def installed(self):
        return False

    def install(self):
        raise Missing("the load does not speak its protocol (moq-lite): add a codec like src/peer_zenoh.rs, then install moq-relay 0.17.10")
