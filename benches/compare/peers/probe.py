"""Waits until a server answers, from within its network namespace; ends with 0 when it does.

    probe.py tls|nats|log|udp PORT PID LOG SECONDS

`tls`: a TLS 1.3 handshake succeeds. `nats`: the same after the server's greeting in clear. `log`: the server's log has a line
"ready". `udp`: something listens on the port over UDP. A server whose process is gone is not waited for.
"""

import socket
import ssl
import sys
import time

# Between two attempts. A server is up within tens of milliseconds, and the wait is no part of what is measured.
PAUSE = 0.05


def tls(port, greeting):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", port), timeout=5) as clear:
        if greeting and not clear.recv(4096).startswith(b"INFO "):
            raise OSError("no greeting")
        with context.wrap_socket(clear) as secure:
            if secure.version() != "TLSv1.3":
                raise OSError(f"it speaks {secure.version()}")


def log_says_ready(log):
    with open(log, encoding="utf-8", errors="replace") as lines:
        if "ready" not in (line.strip() for line in lines):
            raise OSError('no line "ready" in its log')


def udp(port):
    """A handshake over QUIC is beyond Python; one that comes early waits in the socket."""
    # As the kernel writes 127.0.0.1 and 0.0.0.0.
    wanted = {f"{address}:{port:04X}" for address in ["0100007F", "00000000"]}
    with open("/proc/net/udp", encoding="ascii") as sockets:
        if not any(line.split()[1] in wanted for line in list(sockets)[1:]):
            raise OSError(f"nothing listens on UDP port {port}")


def is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def main():
    how, port, pid, log, seconds = sys.argv[1:]
    end = time.monotonic() + float(seconds)
    while True:
        try:
            if how == "log":
                log_says_ready(log)
            elif how == "udp":
                udp(int(port))
            else:
                tls(int(port), how == "nats")
            return
        except OSError as error:
            if not is_alive(pid):
                sys.exit("the server has ended")
            if time.monotonic() > end:
                sys.exit(f"nothing within {seconds} s: {error}")
        time.sleep(PAUSE)


main()
