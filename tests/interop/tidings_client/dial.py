"""Connecting, §2."""

import asyncio
import socket
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from aioquic.h3.connection import H3Connection
from aioquic.quic.configuration import QuicConfiguration

from .client import Client
from .quic import Protocol, Quic
from .waiting import TIMEOUT
from .webtransport import SUBPROTOCOL

ALPN = "tidings/1"


@asynccontextmanager
async def connect(
    url,
    certificate,
    *,
    path=None,
    headers=(),
    subprotocols=(SUBPROTOCOL,),
    server_name=None,
    alpn=None,
    window=1 << 20,
    permitted_streams=None,
    datagrams=False,
    keep_alive=10.0,
):
    """Connects to `quic://HOST:PORT` or `https://HOST:PORT/tidings` and yields a client that has not said Hello.

    `window` is what one stream may carry unread, in bytes; `keep_alive` the seconds between PINGs, for at least every 20 s something
    has to be said (§2).
    """
    address = urlsplit(url)
    webtransport = address.scheme == "https"
    client = Client(webtransport, keep_alive)
    configuration = QuicConfiguration(
        is_client=True,
        alpn_protocols=[alpn or ("h3" if webtransport else ALPN)],
        server_name=server_name or address.hostname,
        cafile=str(certificate),
        max_stream_data=window,
        max_data=max(16 * window, 1 << 20),
        max_datagram_frame_size=65_536 if webtransport or datagrams else None,
    )
    quic = Quic(configuration=configuration, permitted_streams=permitted_streams)
    loop = asyncio.get_running_loop()
    infos = await loop.getaddrinfo(address.hostname, address.port, type=socket.SOCK_DGRAM)
    family, _, _, _, peer = infos[0]
    transport, protocol = await loop.create_datagram_endpoint(
        lambda: Protocol(quic, client), local_addr=("::1" if family == socket.AF_INET6 else "127.0.0.1", 0), family=family
    )
    client._protocol, client._quic = protocol, quic
    if webtransport:
        client._h3 = H3Connection(quic, enable_webtransport=True)
    try:
        protocol.connect(peer)
        await asyncio.wait_for(protocol.wait_connected(), TIMEOUT)
        client._keep()
        if webtransport:
            authority = f"{server_name or address.hostname}:{address.port}"
            offered = [("wt-available-protocols", ", ".join(f'"{name}"' for name in subprotocols))] if subprotocols else []
            await client._open_session(authority, path or address.path, [*offered, *headers])
        yield client
        if client.fault is not None:
            raise client.fault
    finally:
        if client._keep_alive is not None:
            client._keep_alive.cancel()
        client.close()
        if protocol._timer is not None:
            protocol._timer.cancel()
        transport.close()
