"""The servers that the benchmark compares, one class a peer.

A peer is a class with this interface; `ALL` lists them in the order of the tables.

    class Peer:
        name = "nats"                 # what --peers takes and the tables show
        load = "nats"                 # what `load --peer` takes, or None: then `load_command` says what to run
        scenarios = {"sparse", ...}   # the names of the scenarios it takes part in
        slow = False                  # True: only with --slow (its installation takes many minutes)

        def __init__(self, cache): ...            # the folder that installations live in: Path
        def installed(self) -> bool: ...
        def install(self): ...                    # pinned; raises Missing("what is wrong and what to do")
        def version(self) -> str: ...             # as the installed program tells it
        def start(self, place, scenario) -> Server: ...   # returns when it answers; raises Missing
        def load_command(self, place, server, arguments) -> list[str]: ...   # only where `load` is None

`place.command(core, argv)` is the command that runs argv in the run's network namespace, pinned to a core: `place.SERVER` or
`place.CLIENT`. `place.folder` is a temporary folder of the run with `cert.pem` and `key.pem` (P-256, self-signed for localhost
and 127.0.0.1). `place.spawn(core, argv, log, **popen)` starts it and sees to it that it ends with the run.

A Server has `pid` (the process whose CPU time and memory count), `address` ("127.0.0.1:port"), `extra` (further arguments of
`load`, a list), and `stop()`, which ends it and waits.
"""

from .moq import Moq
from .mosquitto import Mosquitto
from .nats import Nats
from .websocket import Uws, Ws
from .zenoh import Zenoh

ALL = [Nats, Uws, Ws, Mosquitto, Zenoh, Moq]
