"""Tests of how peers are installed, started and stopped, with programs of a few lines in their place: nothing is downloaded.

    python3 -m unittest test_peers
"""

import contextlib
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import unittest
import unittest.mock

from peers import ALL, base, install, moq

LISTEN = """
import socket, ssl, sys, threading
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.maximum_version = ssl.TLSVersion[sys.argv[1]]
context.load_cert_chain(sys.argv[2] + "/cert.pem", sys.argv[2] + "/key.pem")
listener = socket.create_server(("127.0.0.1", int(sys.argv[3])))
while True:
    clear, _ = listener.accept()
    if sys.argv[4] == "nats":
        clear.sendall(b"INFO {}\\r\\n")
    try:
        context.wrap_socket(clear, server_side=True).close()
    except OSError:
        pass
"""


class Here:
    """A place without a namespace and without pinning."""

    SERVER, CLIENT = "server", "client"

    def __init__(self, folder):
        self.folder = folder

    def command(self, _core, argv):
        return [str(word) for word in argv]

    def spawn(self, core, argv, log, **popen):
        with open(log, "wb") as output:
            return subprocess.Popen(self.command(core, argv), stdout=output, stderr=subprocess.STDOUT, **popen)


class Case(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(self.enter(tempfile.TemporaryDirectory()))
        self.place = Here(self.folder)

    def enter(self, context):
        self.addCleanup(context.__exit__, None, None, None)
        return context.__enter__()

    def start(self, program, *words, answers, port=0):
        server = base.start(self.place, "toy", [sys.executable, "-c", program, *words], port, answers)
        self.addCleanup(server.stop)
        return server


class Installing(Case):
    def test_an_installation_counts_when_it_came_to_its_end_with_the_same_pins(self):
        home = self.folder / "peer"
        self.assertFalse(install.is_current(home, ["a==1"]))
        with install._fresh(home, ["a==1"]):
            self.assertFalse(install.is_current(home, ["a==1"]))
        self.assertTrue(install.is_current(home, ["a==1"]))
        self.assertFalse(install.is_current(home, ["a==2"]))

    def test_an_installation_that_fails_leaves_nothing(self):
        home = self.folder / "peer"
        with contextlib.suppress(base.Missing), install._fresh(home, ["a==1"]):
            (home / "half").write_text("")
            raise base.Missing("no network")
        self.assertFalse(home.exists())

    def test_a_program_that_is_missing_or_fails_is_told_with_its_reason(self):
        with self.assertRaisesRegex(base.Missing, "install it"):
            base.run(["no-such-program-here"], "try")
        with self.assertRaisesRegex(base.Missing, "try: .* failed: what went wrong"):
            base.run([sys.executable, "-c", "import sys; sys.exit('what went wrong')"], "try")

    def test_a_crate_is_built_as_its_pins_say(self):
        run = self.enter(unittest.mock.patch.object(install, "run"))
        pins = ["a", "--version", "=1.2.3", "--locked"]
        install.cargo(self.folder / "peer", pins)
        self.assertEqual(run.call_args.args[0], ["cargo", "install", *pins, "--root", self.folder / "peer"])
        self.assertTrue(install.is_current(self.folder / "peer", pins))
        self.assertFalse(install.is_current(self.folder / "peer", pins[:-1]))

    def test_every_peer_has_what_the_table_needs(self):
        for kind in ALL:
            peer = kind(self.folder)
            self.assertFalse(peer.installed(), peer.name)
            self.assertTrue(peer.name and peer.scenarios, kind)
        self.assertEqual(len({kind.name for kind in ALL}), len(ALL))


class Starting(Case):
    def certificate(self):
        subject = ["-subj", "/CN=localhost", "-keyout", self.folder / "key.pem", "-out", self.folder / "cert.pem"]
        base.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", *subject], "make a certificate")

    def free_port(self):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            return listener.getsockname()[1]

    def test_a_server_is_there_when_it_speaks_tls_and_gone_when_it_is_stopped(self):
        self.certificate()
        for answers in ["tls", "nats"]:
            with self.subTest(answers):
                port = self.free_port()
                server = self.start(LISTEN, "TLSv1_3", self.folder, port, answers, answers=answers, port=port)
                self.assertEqual(server.address, f"127.0.0.1:{port}")
                server.stop()
                self.assertEqual(server.process.returncode, -signal.SIGTERM)
                with self.assertRaises(ConnectionRefusedError):
                    socket.create_connection(("127.0.0.1", port))

    def test_a_server_without_tls_1_3_is_no_peer(self):
        self.certificate()
        port = self.free_port()
        self.enter(unittest.mock.patch.object(base, "START_SECONDS", 0.5))
        with self.assertRaisesRegex(base.Missing, "toy does not answer: nothing within 0.5 s"):
            self.start(LISTEN, "TLSv1_2", self.folder, port, "tls", answers="tls", port=port)

    def test_a_server_may_say_in_its_log_that_it_is_ready(self):
        program = "import signal; print('ready', flush=True); signal.pause()"
        self.assertIsNone(self.start(program, answers="log").process.poll())

    def test_a_server_may_listen_over_udp(self):
        program = "import signal, socket; s = socket.socket(type=socket.SOCK_DGRAM); s.bind(('127.0.0.1', {})); signal.pause()"
        with socket.socket(type=socket.SOCK_DGRAM) as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.assertIsNone(self.start(program.format(port), answers="udp", port=port).process.poll())
        self.enter(unittest.mock.patch.object(base, "START_SECONDS", 0.5))
        with self.assertRaisesRegex(base.Missing, "nothing listens on UDP port"):
            self.start("import signal; signal.pause()", answers="udp", port=0)

    def test_moq_relay_is_open_to_all_on_loopback_only_and_has_its_certificate_to_itself(self):
        self.certificate()
        start = self.enter(unittest.mock.patch.object(moq, "start"))
        for _ in range(2):
            moq.Moq(self.folder / "cache").start(self.place, None)
        argv = start.call_args.args[2]
        said = {flag: argv[argv.index(flag) + 1] for flag in ["--listen", "--connect-bind", "--auth-public", "--listen-tls-cert", "--listen-tls-key"]}
        self.assertEqual((said["--listen"], said["--connect-bind"]), (f"127.0.0.1:{moq.PORT}", "127.0.0.1:0"))
        self.assertEqual(said["--auth-public"], "**")
        files = {said["--listen-tls-cert"], said["--listen-tls-key"]}
        self.assertEqual({str(path) for path in (self.folder / "moq").iterdir()}, files)

    def test_a_server_that_ends_is_told_with_the_end_of_its_log(self):
        with self.assertRaisesRegex(base.Missing, "toy does not answer: the server has ended; its log ends with: no port"):
            self.start("import sys; sys.exit('no port')", answers="log")

    def test_a_server_that_ignores_sigterm_is_killed(self):
        program = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); signal.pause()"
        self.enter(unittest.mock.patch.object(base, "STOP_SECONDS", 0.2))
        server = self.start(program, answers="log")
        server.stop()
        self.assertEqual(server.process.returncode, -signal.SIGKILL)


if __name__ == "__main__":
    unittest.main()
