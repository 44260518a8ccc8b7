"""Where a run happens: a network namespace of its own, two cores, a temporary folder."""

import ctypes
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile

from peers.base import Missing, run

# Loopback's own MTU of 64 KiB would let a datagram carry what no path does. Of 1500, QUIC finds out 1452.
MTU = 1500
PR_SET_PDEATHSIG = 1


class Place:
    """Use it with `with`: at its end, whatever was started in it is gone, and so are the namespace and the folder."""

    SERVER, CLIENT = "server", "client"

    def __init__(self, server_core, client_core):
        if os.geteuid() != 0:
            raise Missing("a network namespace needs root: run this as root")
        for program, package in [("ip", "iproute2"), ("taskset", "util-linux")]:
            if not shutil.which(program):
                raise Missing(f"{program} is missing: install {package}")
        available = os.sched_getaffinity(0)
        if server_core == client_core or not {server_core, client_core} <= available:
            raise Missing(f"cores {server_core} and {client_core} are not two of {sorted(available)}: name two with --cores")
        self._cores = {self.SERVER: server_core, self.CLIENT: client_core}
        self._namespace = f"tidings-{os.getpid()}"
        self._started = []

    def __enter__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="tidings-compare-"))
        run(["ip", "netns", "add", self._namespace], "make a network namespace")
        try:
            run(["ip", "-n", self._namespace, "link", "set", "lo", "mtu", MTU, "up"], "bring up its loopback")
        except Missing:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for process in self._started:
            if process.poll() is None:
                process.kill()
            process.wait()
        subprocess.run(["ip", "netns", "del", self._namespace], capture_output=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def command(self, core, argv):
        """`ip` and `taskset` replace themselves by what they start, so its process is the one that is spawned."""
        pinned = ["taskset", "-c", self._cores[core], *argv]
        return [str(word) for word in ["ip", "netns", "exec", self._namespace, *pinned]]

    def spawn(self, core, argv, log, **popen):
        """Starts a program whose output goes to a file. It ends with this process, whatever ends that."""
        with open(log, "wb") as output:
            process = subprocess.Popen(
                self.command(core, argv),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                preexec_fn=_end_with_parent,
                **popen,
            )
        self._started.append(process)
        return process


def _end_with_parent():
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
