"""Clients that do what they should not, and what has to be true of the server meanwhile and afterwards."""

import asyncio
import random
import socket
from contextlib import AsyncExitStack, asynccontextmanager
from urllib.parse import urlsplit

from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.packet import QuicFrameType

from common import login
from tidings_client import TIMEOUT, Code, RequestFailed

MIB = 1 << 20
# How often the server's memory is looked at, in seconds.
SAMPLE = 0.05
# Datagrams that a socket holds, whatever the system gives it.
BATCH = 32
# Publications of the healthy client that are measured before an attack, and at least during it.
MEASURED = 25
# Codes of QUIC, RFC 9000 §20.1, as a client's `Closed` shows them.
INTERNAL_ERROR = "0x1"
STREAM_LIMIT_ERROR = "0x4"
STREAM_STATE_ERROR = "0x5"


class Attack:
    """What was seen of the server and of its healthy client."""

    def __init__(self, server):
        self.server = server
        self.before = self.peak = server.resident()
        self.calm = None
        self.during = None

    async def sample(self):
        while True:
            self.peak = max(self.peak, self.server.resident())
            await asyncio.sleep(SAMPLE)

    @property
    def grown(self):
        """Bytes that the server held more than before, at the most."""
        return self.peak - self.before

    def __str__(self):
        return f"calm: {self.calm}; during: {self.during}; at most {self.grown / MIB:.1f} MiB more"


@asynccontextmanager
async def attack(server, watch, memory):
    """What is done within delays the healthy client by little, lets the server hold at most `memory` bytes more, and leaves nothing
    behind: no session, no subscription, no error in the log. The clients of the attack end within."""
    held = await server.held()
    await watch.hear()
    calm = await watch.hear(MEASURED)
    seen = Attack(server)
    seen.calm = calm
    sampler = asyncio.ensure_future(seen.sample())
    try:
        yield seen
        seen.during = await watch.hear(MEASURED)
    finally:
        sampler.cancel()
    print(seen)
    # Both are of one run on one machine, however busy that is.
    assert seen.during.median <= 5 * seen.calm.median + 0.05, str(seen)
    assert seen.during.p99 <= 5 * seen.calm.p99 + 0.5, str(seen)
    assert seen.grown <= memory, str(seen)
    await server.holds(*held)
    assert server.faults() == []


@asynccontextmanager
async def clients(server, transport, count, logged_in=True, **options):
    """So many at a time, which say something more often than the guarded server's idle timeout; the user of each has no other session."""
    async with AsyncExitStack() as stack:
        found = []
        for _ in range(count):
            found.append(await stack.enter_async_context(server.connect(transport, keep_alive=0.5, **options)))
            if logged_in:
                await login(server, found[-1])
        yield found


# ----------------------------------------------------------------------------------------------------------------------- floods


async def open_and_reset(client, count, words):
    """Opens bidirectional streams as fast as the server permits them, and resets each at once; on each second one come `words`."""
    for at in range(count):
        await client.until(lambda: client.may_open(), "permission for another stream")
        number = client.open_bidirectional()
        if at % 2:
            client.send_on(number, words)
        client.reset(number, Code.CLOSED)


def overstep(client, unidirectional):
    """Data on a stream that the server does not permit."""
    client.inject(QuicFrameType.STREAM_BASE | 2, client.first_forbidden(unidirectional), 1, data=b"x")


def reset_what_is_not_ours(client, stream):
    """RESET_STREAM on a stream on which only the server sends."""
    client.inject(QuicFrameType.RESET_STREAM, stream.number, 0, 0)


async def stop_and_subscribe(client, room, rounds):
    """Ends a subscription by STOP_SENDING and asks for it again at once, over and over; how often that came too soon."""
    refused = 0
    for _ in range(rounds):
        while True:
            try:
                _, stream = await client.subscribe(room)
                break
            except RequestFailed as failed:
                assert failed.code == Code.ALREADY_SUBSCRIBED, str(failed)
                refused += 1
        client.stop(stream, Code.UNSUBSCRIBED)
    return refused


# ---------------------------------------------------------------------------------------------------------------------- packets


def garbage(seed, count):
    """Datagrams that are no packet of any connection: noise, other versions of QUIC, and what claims to be version 1."""
    chance = random.Random(seed)
    for at in range(count):
        noise = chance.randbytes(chance.choice([0, 1, 20, 40, 200, 1_199, 1_200, 1_400]))
        ids = b"\x08" + chance.randbytes(8) + b"\x08" + chance.randbytes(8)
        match at % 4:
            case 0:
                yield noise
            case 1:  # a short header
                yield bytes([0x40 | chance.randrange(64)]) + noise
            case 2:  # a long header of another version, §17.2.1 of RFC 9000
                yield bytes([0xC0 | chance.randrange(64)]) + chance.randbytes(4) + ids + noise
            case 3:  # Initial, 0-RTT, Handshake or Retry of version 1
                yield bytes([0xC0 | chance.randrange(64)]) + b"\x00\x00\x00\x01" + ids + noise


class Sender:
    """A socket at the server's port that belongs to no connection."""

    def __init__(self, server):
        address = urlsplit(server.url("quic"))
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.connect((address.hostname, address.port))
        self.socket.setblocking(False)
        self.sent = 0
        self.received = 0

    def close(self):
        self.socket.close()

    async def send(self, datagrams):
        for datagram in datagrams:
            await asyncio.get_running_loop().sock_sendall(self.socket, datagram)
            self.sent += len(datagram)

    async def begin(self, datagrams):
        """Sends what begins a handshake, and waits for the answer."""
        await self.send(datagrams)
        answer = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(self.socket, 2_048), TIMEOUT)
        self.received += len(answer)

    async def flood(self, datagrams):
        """Sends as fast as the server takes it: after each batch it is asked whether it is there, so that the system drops nothing. Other
        versions of QUIC have to be answered with those that the server speaks, RFC 9000 §6."""
        batch = []
        for number, datagram in enumerate(datagrams):
            batch.append(datagram)
            if len(batch) == BATCH:
                id = number.to_bytes(8, "big")
                await self.send([*batch, b"\xc0\x1a\x2a\x3a\x4a\x08" + bytes(8) + b"\x08" + id + bytes(1_200)])
                await asyncio.wait_for(self._hear(b"\x08" + id), TIMEOUT)
                batch.clear()

    async def _hear(self, id):
        """Takes what comes back up to the answer to a packet from this connection id."""
        while True:
            datagram = await asyncio.get_running_loop().sock_recv(self.socket, 2_048)
            self.received += len(datagram)
            if datagram[1:14] == bytes(4) + id:
                return


def in_pieces(client, data, start, chosen):
    """The bytes of `data` at the offsets `chosen`, each in a STREAM frame of its own on the control stream, where `data` begins at `start`."""
    for at in chosen:
        client.inject(QuicFrameType.STREAM_BASE | 6, client.control, start + at, 1, data=data[at : at + 1])


def first_flight(server):
    """The datagrams that begin a handshake, as raw QUIC's clients send them."""
    address = urlsplit(server.url("quic"))
    configuration = QuicConfiguration(is_client=True, alpn_protocols=["tidings/1"], server_name=address.hostname)
    quic = QuicConnection(configuration=configuration)
    quic.connect((address.hostname, address.port), now=0.0)
    return [data for data, _ in quic.datagrams_to_send(now=0.0)]
