"""What the peers share: a server that is started, watched until it answers, and stopped; and a peer that is not there."""

import contextlib
import os
import pathlib
import resource
import signal
import subprocess
import sys

HERE = pathlib.Path(__file__).parent
# A server on one loaded core that has not answered by then is stuck.
START_SECONDS = 20
# SIGTERM, and SIGKILL when a server has not ended after this long: some drain their connections first.
STOP_SECONDS = 5
# Of a log, what an error quotes.
LOG_TAIL = 600


class Missing(Exception):
    """A peer cannot be installed or started. The text says what is wrong and what to do; it stands in the peer's row."""


class Server:
    """A running server: the process whose CPU time and memory count, and where it listens."""

    def __init__(self, process, address, log, extra=()):
        self.process = process
        self.address = address
        self.log = log
        self.extra = list(extra)

    @property
    def pid(self):
        """`taskset` and `ip netns exec` replace themselves by the server, so the process that was spawned is the server."""
        return self.process.pid

    def stop(self):
        """Ends it, and waits until it has ended."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(STOP_SECONDS)
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


def start(place, name, argv, port, answers, **popen):
    """Starts a server on the server's core and waits until it answers as `probe.py` asks it ("tls", "nats", "log" or "udp")."""
    raise_file_limit()
    log = pathlib.Path(place.folder) / f"{name}.log"
    process = place.spawn(place.SERVER, [str(word) for word in argv], log, **popen)
    server = Server(process, f"127.0.0.1:{port}", log)
    probe = [sys.executable, str(HERE / "probe.py"), answers, str(port), str(process.pid), str(log), str(START_SECONDS)]
    result = subprocess.run(place.command(place.CLIENT, probe), capture_output=True, text=True)
    if result.returncode != 0:
        server.stop()
        raise Missing(f"{name} does not answer: {result.stderr.strip()}; its log ends with: {tail(log)}")
    return server


def raise_file_limit():
    """5,000 connections pass the usual limit of 1,024 open files. Servers inherit this process's limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def tail(log):
    """The end of a log on one line, or that there is none."""
    try:
        text = pathlib.Path(log).read_text(errors="replace").strip()
    except OSError:
        return "(no log)"
    return " | ".join(text[-LOG_TAIL:].splitlines()) or "(nothing)"


def run(argv, what, **options):
    """Runs a program to its end and returns what it printed; a failure is a `Missing` that says which and why."""
    try:
        result = subprocess.run([str(word) for word in argv], capture_output=True, text=True, **options)
    except OSError as error:
        raise Missing(f"{what}: {argv[0]} cannot be run ({error.strerror}): install it") from error
    if result.returncode != 0:
        lines = (result.stderr or result.stdout).strip()[-LOG_TAIL:].splitlines()
        raise Missing(f"{what}: {' '.join(map(str, argv[:4]))} … failed: {' | '.join(lines)}")
    return result.stdout


def environment(**variables):
    """This process's environment with these variables."""
    return {**os.environ, **variables}
