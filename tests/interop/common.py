"""What the scenarios share."""

import asyncio
import time
import uuid

import pytest

from tidings_client import TIMEOUT, Data, RequestFailed

# What a test may take in all; every single wait has a shorter time-out of its own.
WHOLE = 60.0


def run(test):
    return asyncio.run(asyncio.wait_for(test, WHOLE))


def new_user():
    return f"u{uuid.uuid4().hex[:12]}"


def new_room():
    return f"chat-room-{uuid.uuid4().hex[:12]}"


def text(content):
    return Data("text/plain", content.encode("utf-8"))


def now():
    return int(time.time() * 1000)


def says(content):
    """Of any variant, for a search on a stream."""
    return lambda message: getattr(message, "text", None) == content or getattr(message, "bytes", None) == content.encode("utf-8")


async def login(server, client, user=None):
    user = user or new_user()
    await client.hello(server.token(user))
    return user


async def failure(awaitable, code):
    """The request fails with `code`."""
    with pytest.raises(RequestFailed) as caught:
        await awaitable
    assert caught.value.code == code, f"{caught.value}, expected {code.name.lower()}"


async def usable(client):
    assert (await client.ping()).time > 0


async def ends_with(client, code, timeout=TIMEOUT):
    closed = await client.wait_closed(timeout)
    assert closed.code == code, f"ended with {closed}, expected {code.name.lower()}"
    return closed


async def ends_with_transport_error(client, code):
    """By QUIC itself, RFC 9000 §20.1; `code` as in the reason."""
    closed = await client.wait_closed()
    assert closed.how == "the transport" and closed.reason.split()[0] == code, f"ended with {closed}, expected {code}"
