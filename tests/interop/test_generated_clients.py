"""Clients that are generated from the OpenAPI document call every route of the HTTP API."""

import asyncio
import json

from common import new_room, new_user, run
from generated import execute, python_client, routes, typescript_client


async def attended(server, call):
    """Calls `call` with a user and the room that the user's one session is subscribed to."""
    async with server.connect("quic") as client:
        user, room = new_user(), f"room-{new_room()}"
        await client.hello(server.token(user))
        _, stream = await client.subscribe(room)
        # Presence is listed from its first publication on.
        await client.until(lambda: stream.publications, "the presence of the user")
        await asyncio.to_thread(call, user, room)


def test_python_client_calls_every_route(presence_server, tmp_path):
    document = presence_server.document()
    package = python_client(document, tmp_path)
    called, answers = set(), []
    client = package.AuthenticatedClient(
        base_url=presence_server.http,
        token=presence_server.key,
        raise_on_unexpected_status=True,
        httpx_args={"event_hooks": {"request": [lambda request: called.add(f"{request.method} {request.url.path}")]}},
    )
    models = package.models

    def call(module, **arguments):
        """The model of a successful answer, which holds all that came and nothing else."""
        tag = next(iter(next(iter(document["paths"][ROUTES[module]].values()))["tags"]))
        route = getattr(getattr(package.api, tag), module)
        response = route.sync_detailed(client=client, **arguments)
        assert response.status_code == 200, response.content
        answers.append(response)
        assert not without_model(response.parsed), f"{module}: {without_model(response.parsed)} are not in the schema"
        assert response.parsed.to_dict() == json.loads(response.content), module
        return response.parsed

    def without_model(model):
        """Fields of an answer that its schema does not name."""
        extra = list(getattr(model, "additional_properties", {})) if type(model) is not models.OpenapiResponse200 else []
        for value in (getattr(model, field.name) for field in model.__attrs_attrs__):
            for item in value if isinstance(value, list) else [value]:
                if type(item).__module__.startswith("tidings_api.models"):
                    extra += without_model(item)
        return extra

    def calls(user, room):
        assert call("health").status == "ok"
        assert call("openapi").to_dict() == document
        assert call("notify", body=models.Notify(user=user, text="one", key="py-1")).channel == f"user-{user}"
        assert call("announce", body=models.Announce(text="two", key=f"py-{room}")).channel == "global"
        first = call("publish", body=models.Publish(channel=room, text="three", key="py-1"))
        again = call("publish", body=models.Publish(channel=room, text="three", key="py-1"))
        assert (first.duplicate, again.duplicate, again.offset) == (False, True, first.offset)
        call("publish", body=models.Publish(channel=room, json={"likes": 3}, user=user))
        call("publish", body=models.Publish(channel=room, json=None))
        call("publish", body=models.Publish(channel=room, base64="AP8="))
        page = call("history", body=models.History(channel=room, from_=f"{first.epoch}:{first.offset - 1}"))
        assert [entry.offset for entry in page.publications] == [first.offset + step for step in range(4)]
        assert [entry.user for entry in page.publications] == [None, user, None, None]
        changes = call("history", body=models.History(channel=room, limit=1)).publications[0]
        assert changes.kind == "presence" and changes.presence.joined[0].user == user
        nothing = call("history", body=models.History(channel=f"{room}-none"))
        assert (nothing.epoch, nothing.first, nothing.last, nothing.publications) == (None, None, None, [])
        present = call("presence", channel=room, limit=10)
        assert [member.user for member in present.members] == [user]
        assert room in [entry.channel for entry in call("channels", limit=1000).channels]
        assert call("channels", limit=1).next_ is not None
        [session] = call("list_sessions", body=models.ListSessions(user=user)).sessions
        assert room in [subscription.name for subscription in session.subscriptions]
        member = models.Membership(session=session.id, channel=f"{room}-more")
        assert call("subscribe", body=member).changed == 1
        assert call("unsubscribe", body=member).changed == 1
        assert call("disconnect", body=models.Disconnect(user=user, code=1001, reason="signed out")).sessions == 1
        revoked = call("revoke", body=models.Revoke(user=user, seconds=60))
        assert revoked.sessions <= 1 and revoked.expires == revoked.issued_before + 60_000
        refused = package.api.publish.publish.sync_detailed(client=client, body=models.Publish(channel="a b", text="x"))
        assert (refused.status_code, refused.parsed.error.code) == (422, "invalid_channel")

    ROUTES = {
        operation["operationId"]: path for path, operations in document["paths"].items() for operation in operations.values()
    }
    run(attended(presence_server, calls))
    assert called == routes(document)


def test_typescript_client_calls_every_route(presence_server):
    document = presence_server.document()
    main = typescript_client(document)

    def calls(_, room):
        output = execute(["node", str(main), presence_server.http, presence_server.key, room], main.parent)
        assert set(json.loads(output)) == routes(document)

    run(attended(presence_server, calls))
