"""A zenoh router over QUIC: zenoh_router.py PORT CERT KEY. Prints "ready" when it listens; ends on SIGTERM.

All of the router is the native library; Python only waits.
"""

import json
import signal
import sys

import zenoh

port, cert, key = sys.argv[1:]
SETTINGS = {
    "mode": "router",
    "listen/endpoints": [f"quic/127.0.0.1:{port}"],
    "transport/link/tls/listen_certificate": cert,
    "transport/link/tls/listen_private_key": key,
    "scouting/multicast/enabled": False,
    "scouting/gossip/enabled": False,
    # More sessions, and more of them at once, than the defaults of 1,000 and 100.
    "transport/unicast/max_sessions": 100000,
    "transport/unicast/accept_pending": 1000,
}

# The native threads inherit the mask, so that the signal reaches sigwait.
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
config = zenoh.Config()
for name, value in SETTINGS.items():
    config.insert_json5(name, json.dumps(value))
session = zenoh.open(config)
print("ready", flush=True)
signal.sigwait({signal.SIGTERM, signal.SIGINT})
session.close()
