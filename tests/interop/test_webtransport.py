"""The CONNECT of WebTransport, §2.2."""

import pytest

from common import run, login
from tidings_client import Refused


def test_subprotocol(server):
    async def test():
        async with server.connect("webtransport") as client:
            assert client.headers.get("wt-protocol") == '"tidings.v1"'
        async with server.connect("webtransport", subprotocols=("tidings.v9", "tidings.v1")) as client:
            assert client.headers.get("wt-protocol") == '"tidings.v1"'
            await login(server, client)
        async with server.connect("webtransport", subprotocols=()) as client:
            assert "wt-protocol" not in client.headers
            await login(server, client)

    run(test())


async def refused(server, status, **options):
    with pytest.raises(Refused) as caught:
        async with server.connect("webtransport", **options):
            pass
    assert caught.value.status == status


def test_wrong_subprotocol(server):
    run(refused(server, 400, subprotocols=("tidings.v9",)))


def test_wrong_origin(server):
    run(refused(server, 403, headers=[("origin", "https://evil.example")]))


@pytest.mark.parametrize("origin", ["https://localhost", "http://127.0.0.1:8000"])
def test_allowed_origin(server, origin):
    async def test():
        async with server.connect("webtransport", headers=[("origin", origin)]) as client:
            await login(server, client)

    run(test())


@pytest.mark.parametrize("path", ["/", "/other", "/tidings/more"])
def test_wrong_path(server, path):
    run(refused(server, 404, path=path))
