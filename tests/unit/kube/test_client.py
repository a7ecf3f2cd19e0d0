"""The client on the wire: what it sends, what it makes of answers, and that it repeats nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from structlog.testing import capture_logs

from spiderpool import errors
from spiderpool.api.kubernetes.core import ConfigMap, Node, PartialObject, Pod
from spiderpool.api.kubernetes.meta import ObjectMeta
from spiderpool.kube import client as client_module
from spiderpool.kube import transport
from spiderpool.kube.client import KubeClient
from spiderpool.kube.cluster import Change, PatchType
from spiderpool.kube.credentials import BearerToken
from spiderpool.kube.transport import Access

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]
CONFIG_MAP = ConfigMap(
    metadata=ObjectMeta(name="a", namespace="default", uid="u", resource_version="7"),
    data={"k": "v"},
)


class Server:
    """An HTTP server that keeps what it was asked and answers as told."""

    def __init__(self) -> None:
        self.requests: list[web.Request] = []
        self.bodies: list[bytes] = []
        self.answer: Answer = self.say(200, CONFIG_MAP)
        self.url = ""

    @staticmethod
    def say(status: int, body: object, **headers: str) -> Answer:
        """Make an answer of always the same body."""
        raw = body if isinstance(body, bytes) else msgspec.json.encode(body)
        named = {name.replace("_", "-"): value for name, value in headers.items()}

        async def answer(_request: web.Request) -> web.Response:
            await asyncio.sleep(0)
            return web.Response(status=status, body=raw, headers=named)

        return answer

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Keep the request and answer."""
        self.requests.append(request)
        self.bodies.append(await request.read())
        return await self.answer(request)

    def sent(self) -> tuple[str, str, object]:
        """Return method, path with query, and body of the last request."""
        body = self.bodies[-1]
        return (
            self.requests[-1].method,
            self.requests[-1].raw_path,
            msgspec.json.decode(body) if body else None,
        )


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    """Return a server on loopback."""
    server = Server()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.handle)
    async with TestServer(app, host="127.0.0.1") as running:
        server.url = str(running.make_url("")).rstrip("/")
        yield server


@pytest.fixture
async def client(server: Server) -> AsyncIterator[KubeClient]:
    """Return a client of that server."""
    async with KubeClient(Access(server.url), user_agent="test/1") as client:
        yield client


async def test_create(server: Server, client: KubeClient) -> None:
    """A POST to the collection with apiVersion and kind filled in."""
    await client.create(
        ConfigMap(metadata=ObjectMeta(name="a", namespace="default"), data={"k": "v"})
    )
    body = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "a", "namespace": "default"},
        "data": {"k": "v"},
    }
    assert ("POST", "/api/v1/namespaces/default/configmaps", body) == server.sent()
    headers = server.requests[-1].headers
    assert ("application/json", "test/1") == (headers["Content-Type"], headers["User-Agent"])
    assert "Accept-Encoding" not in headers


async def test_delete_on_condition(server: Server, client: KubeClient) -> None:
    """UID, version and propagation travel in DeleteOptions."""
    await client.delete(
        ConfigMap, "a", "default", uid="u", resource_version="7", propagation="Background"
    )
    options = {
        "propagationPolicy": "Background",
        "preconditions": {"uid": "u", "resourceVersion": "7"},
    }
    assert ("DELETE", "/api/v1/namespaces/default/configmaps/a", options) == server.sent()


async def test_replace_and_patch_of_a_subresource(server: Server, client: KubeClient) -> None:
    """The subresource ends the path; a JSON patch says so in its content type."""
    await client.replace(CONFIG_MAP, subresource="status")
    assert ("PUT", "/api/v1/namespaces/default/configmaps/a/status") == server.sent()[:2]
    patch: list[Mapping[str, Any]] = [{"op": "remove", "path": "/data/k"}]
    await client.patch(
        ConfigMap, "a", patch, namespace="default", patch_type=PatchType.JSON, subresource="status"
    )
    assert ("PATCH", "/api/v1/namespaces/default/configmaps/a/status", patch) == server.sent()
    assert "application/json-patch+json" == server.requests[-1].headers["Content-Type"]


async def test_names_and_selectors_are_escaped(server: Server, client: KubeClient) -> None:
    """Nothing in a name or a selector changes the request's meaning."""
    await client.get(ConfigMap, "a/../b?x=1", "default")
    assert (
        "/api/v1/namespaces/default/configmaps/a%2F..%2Fb%3Fx%3D1" == server.requests[-1].raw_path
    )
    server.answer = server.say(200, {"items": []})
    await client.list_objects(
        Pod, labels="a in (b,c)", fields="spec.nodeName=n&limit=1", resource_version="0"
    )
    expected = "labelSelector=a+in+%28b%2Cc%29&fieldSelector=spec.nodeName%3Dn%26limit%3D1&resourceVersion=0"
    assert (
        f"/api/v1/pods?{expected}&resourceVersionMatch=NotOlderThan" == server.requests[-1].raw_path
    )


@pytest.mark.parametrize(("name", "namespace"), [("", "default"), ("a", "")])
async def test_empty_name_or_namespace_is_refused_here(
    client: KubeClient, name: str, namespace: str
) -> None:
    """A deletion without a name would be one of everything."""
    with pytest.raises(ValueError, match="is empty"):
        await client.delete(ConfigMap, name, namespace)


async def test_metadata_only_asks_for_the_partial_form(server: Server, client: KubeClient) -> None:
    """The Accept header names the transformation (Kubernetes API concepts, "Metadata-only fetches")."""
    server.answer = server.say(200, {"metadata": {"name": "a"}, "spec": {"x": 1}})
    assert PartialObject(metadata=ObjectMeta(name="a")) == await client.get_metadata(
        Pod, "a", "default"
    )
    assert (
        "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
        == server.requests[-1].headers["Accept"]
    )
    server.answer = server.say(200, {"items": []})
    await client.list_metadata(Pod)
    assert (
        "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
        == server.requests[-1].headers["Accept"]
    )


async def test_pages_are_followed(
    server: Server, client: KubeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each page asks for the next one with the token of the last."""
    monkeypatch.setattr(client_module, "PAGE", 2)
    pages = {
        None: {
            "metadata": {"resourceVersion": "9", "continue": "t=1"},
            "items": [CONFIG_MAP, CONFIG_MAP],
        },
        "t=1": {"metadata": {"resourceVersion": "9"}, "items": [CONFIG_MAP]},
    }

    async def page(request: web.Request) -> web.Response:
        await asyncio.sleep(0)
        return web.Response(body=msgspec.json.encode(pages[request.query.get("continue")]))

    server.answer = page
    listing = await client.list_objects(ConfigMap)
    assert (3, "9") == (len(listing.items), listing.resource_version)
    assert ["2", "2"] == [request.query["limit"] for request in server.requests]


STATUS = {"kind": "Status", "message": "the server's own words", "reason": "x", "code": 0}
UID_CAUSE = {"details": {"causes": [{"reason": "FieldValueInvalid", "field": "metadata.uid"}]}}
ENDING = {"details": {"causes": [{"reason": "NamespaceTerminating"}]}}


@pytest.mark.parametrize(
    ("code", "extra", "write", "read"),
    [
        (400, {}, errors.Rejected, errors.Rejected),
        (401, {}, errors.Forbidden, errors.Forbidden),
        (403, {}, errors.Forbidden, errors.Forbidden),
        (
            403,
            {"message": 'admission webhook "w" denied: the server\'s own words'},
            errors.Rejected,
            errors.Rejected,
        ),
        (403, ENDING, errors.Rejected, errors.Rejected),
        (404, {}, errors.NotFound, errors.NotFound),
        (409, {}, errors.Conflict, errors.Conflict),
        (409, {"reason": "AlreadyExists"}, errors.AlreadyExists, errors.AlreadyExists),
        (410, {}, errors.Gone, errors.Gone),
        (413, {}, errors.Rejected, errors.Rejected),
        (422, {}, errors.Rejected, errors.Rejected),
        (422, UID_CAUSE, errors.Conflict, errors.Conflict),
        (429, {}, errors.TooManyRequests, errors.TooManyRequests),
        (
            500,
            {"message": "etcdserver: request timed out; the server's own words"},
            errors.UnknownOutcome,
            errors.Unreachable,
        ),
        (
            500,
            {"message": "failed calling webhook: the server's own words"},
            errors.Unreachable,
            errors.Unreachable,
        ),
        (503, {}, errors.Unreachable, errors.Unreachable),
        (504, {}, errors.UnknownOutcome, errors.Unreachable),
    ],
)
async def test_refusals(
    server: Server,
    client: KubeClient,
    code: int,
    extra: dict[str, object],
    write: type[errors.SpiderpoolError],
    read: type[errors.SpiderpoolError],
) -> None:
    """Each status becomes its error, for writes and reads, with the API server's own words and what was asked."""
    server.answer = server.say(code, STATUS | extra)
    for expected, attempt, subject in (
        (write, client.create(CONFIG_MAP), "create configmaps a: "),
        (read, client.get(ConfigMap, "a", "default"), "get configmaps a: "),
    ):
        with pytest.raises(errors.SpiderpoolError) as caught:
            await attempt
        assert expected is type(caught.value)
        assert caught.value.message.startswith(subject)
        assert "the server's own words" in caught.value.message


@pytest.mark.parametrize(
    ("headers", "details", "expected"),
    [
        ({"Retry_After": "7"}, {}, 7.0),
        ({}, {"retryAfterSeconds": 3}, 3.0),
        ({}, {}, 1.0),
        ({"Retry_After": "soon"}, {}, 1.0),
    ],
)
async def test_retry_after(
    server: Server,
    client: KubeClient,
    headers: dict[str, str],
    details: dict[str, int],
    expected: float,
) -> None:
    """The wait comes from the header, else from the Status, else it is a second."""
    server.answer = server.say(429, STATUS | {"details": details}, **headers)
    with pytest.raises(errors.TooManyRequests) as caught:
        await client.get(ConfigMap, "a", "default")
    assert expected == caught.value.retry_after_s


async def test_body_that_is_no_status_is_cut(server: Server, client: KubeClient) -> None:
    """A proxy's page is quoted up to 256 characters."""
    server.answer = server.say(502, b"<html>" + b"x" * 5000)
    with pytest.raises(errors.Unreachable) as caught:
        await client.get(ConfigMap, "a", "default")
    assert "get configmaps a: <html>" + "x" * 250 == caught.value.message


async def test_answer_that_is_no_object(server: Server, client: KubeClient) -> None:
    """An answer of the wrong shape names the field."""
    server.answer = server.say(200, {"metadata": {"name": 5}})
    with pytest.raises(
        errors.Undecodable,
        match=r"get configmaps a: Expected `str`, got `int` - at `\$\.metadata\.name`",
    ):
        await client.get(ConfigMap, "a", "default")


BAD = {"metadata": {"name": "bad", "namespace": "default", "uid": "b", "resourceVersion": "9"}}


async def test_an_object_that_cannot_be_read_hides_no_others(
    server: Server, client: KubeClient
) -> None:
    """A list leaves it out, and the log names it."""
    good = msgspec.to_builtins(CONFIG_MAP)
    items = [good, {**BAD, "data": "no mapping"}, {**good, "metadata": BAD["metadata"]}]
    server.answer = server.say(200, {"metadata": {"resourceVersion": "9"}, "items": items})
    with capture_logs() as lines:
        listing = await client.list_objects(ConfigMap)
    assert ["a", "bad"] == [found.metadata.name for found in listing.items]
    assert "9" == listing.resource_version
    (line,) = lines
    assert ("bad", "default", "configmaps") == (line["name"], line["namespace"], line["kind"])
    assert "$.data" in line["reason"]


async def test_a_list_that_is_none_is_an_error(server: Server, client: KubeClient) -> None:
    """Without any structure there is nothing to pass over."""
    for body in (b"{", {"items": [5]}, {"items": [{"metadata": 5}]}):
        server.answer = server.say(200, body)
        with pytest.raises(errors.Undecodable, match="list configmaps"):
            await client.list_objects(ConfigMap)


async def test_an_object_that_becomes_unreadable_is_gone(
    server: Server, client: KubeClient
) -> None:
    """A watch goes on; what is known of that object holds no longer."""
    good = msgspec.to_builtins(CONFIG_MAP)
    events = [
        {"type": "MODIFIED", "object": {**BAD, "data": 5}},
        {"type": "ADDED", "object": good},
    ]
    server.answer = server.say(200, b"\n".join(map(msgspec.json.encode, events)) + b"\n")
    with capture_logs() as lines:
        async with aclosing(client.watch(ConfigMap, resource_version="1")) as watch:
            seen = [(event.change, event.object.key) async for event in watch]
    assert [(Change.DELETED, ("default", "bad")), (Change.ADDED, ("default", "a"))] == seen
    assert ["bad"] == [line["name"] for line in lines]


async def test_nothing_listens() -> None:
    """A refused connection is Unreachable, for writes too: nothing was sent."""
    async with KubeClient(Access("http://127.0.0.1:1")) as client:
        for attempt in (client.get(ConfigMap, "a", "default"), client.create(CONFIG_MAP)):
            with pytest.raises(errors.Unreachable, match="Connect call failed") as caught:
                await attempt
            assert errors.Unreachable is type(caught.value)


async def test_no_answer_in_time(server: Server) -> None:
    """After the time-out a read is Unreachable, and a write's outcome is unknown."""

    async def never(_request: web.Request) -> web.Response:
        await asyncio.sleep(0.5)
        return web.Response()

    server.answer = never
    async with KubeClient(Access(server.url), timeout_s=0.1) as client:
        for expected, attempt in (
            (errors.Unreachable, client.get(ConfigMap, "a", "default")),
            (errors.UnknownOutcome, client.create(CONFIG_MAP)),
        ):
            with pytest.raises(errors.Unreachable) as caught:
                await attempt
            assert expected is type(caught.value)


async def test_wait_for_a_connection_is_not_an_unknown_outcome(server: Server) -> None:
    """A write that never got a connection was not sent."""

    async def slow(_request: web.Request) -> web.Response:
        await asyncio.sleep(0.6)
        return web.Response(body=msgspec.json.encode(CONFIG_MAP))

    server.answer = slow
    async with KubeClient(Access(server.url), limit=1, timeout_s=0.4) as client:
        first = asyncio.create_task(client.create(CONFIG_MAP))
        await asyncio.sleep(0)
        with pytest.raises(errors.Unreachable) as caught:
            await client.create(CONFIG_MAP)
        assert errors.Unreachable is type(caught.value)
        with pytest.raises(errors.UnknownOutcome):
            await first
    assert 1 == len(server.requests)


async def test_watches_take_no_connection_of_calls(server: Server) -> None:
    """However many watches are open, a call has its connection at once."""

    async def answer(request: web.Request) -> web.StreamResponse:
        if "watch" not in request.query:
            return web.Response(body=msgspec.json.encode(CONFIG_MAP))
        stream = web.StreamResponse()
        await stream.prepare(request)
        await asyncio.sleep(5)
        return stream

    server.answer = answer
    async with KubeClient(Access(server.url), limit=1, timeout_s=1) as client:

        async def follow() -> None:
            async for _ in client.watch(ConfigMap, resource_version="1"):
                pass

        watches = [asyncio.create_task(follow()) for _ in range(8)]
        while len(server.requests) < len(watches):
            await asyncio.sleep(0.01)
        await client.get(ConfigMap, "a", "default")
        for watch in watches:
            watch.cancel()
        await asyncio.gather(*watches, return_exceptions=True)


def cut_off(request: web.Request) -> None:
    """End a connection without an answer."""
    assert request.transport is not None
    request.transport.abort()


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("verb", ["create", "replace", "patch", "delete"])
async def test_cut_write_is_sent_once(
    server: Server, client: KubeClient, verb: str, *, kept: bool
) -> None:
    """Return whether the connection is new or kept: one request, and UnknownOutcome."""
    if kept:
        await client.get(ConfigMap, "a", "default")

    async def cut(request: web.Request) -> web.Response:
        cut_off(request)
        await asyncio.sleep(0)
        return web.Response()

    server.answer = cut
    before = len(server.requests)
    writes: dict[str, Callable[[], Awaitable[object]]] = {
        "create": lambda: client.create(CONFIG_MAP),
        "replace": lambda: client.replace(CONFIG_MAP),
        "patch": lambda: client.patch(ConfigMap, "a", {}, namespace="default"),
        "delete": lambda: client.delete(ConfigMap, "a", "default"),
    }
    with pytest.raises(errors.UnknownOutcome):
        await writes[verb]()
    assert 1 == len(server.requests) - before


async def test_answer_that_breaks_off(server: Server, client: KubeClient) -> None:
    """Half an answer to a write is no answer."""

    async def half(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "100"})
        await response.prepare(request)
        await response.write(b"{")
        cut_off(request)
        return response

    server.answer = half
    with pytest.raises(errors.UnknownOutcome):
        await client.create(CONFIG_MAP)


async def test_watch_reads_lines_whatever_the_chunks(server: Server, client: KubeClient) -> None:
    """Events cut anywhere, several in one chunk, and one of 300 kB."""
    big = msgspec.structs.replace(CONFIG_MAP, data={"k": "x" * 300_000})
    events = [("ADDED", CONFIG_MAP), ("MODIFIED", big), ("DELETED", CONFIG_MAP)]
    raw = b"".join(
        msgspec.json.encode({"type": change, "object": obj}) + b"\n" for change, obj in events
    )

    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for chunk in (raw[:10], raw[10:400], raw[400:200_000], raw[200_000:]):
            await response.write(chunk)
            await asyncio.sleep(0.01)
        return response

    server.answer = stream
    async with aclosing(
        client.watch(ConfigMap, namespace="default", resource_version="5")
    ) as watch:
        assert events == [(event.change, event.object) async for event in watch]
    query = server.requests[-1].query
    assert ("1", "true", "5") == (
        query["watch"],
        query["allowWatchBookmarks"],
        query["resourceVersion"],
    )


async def test_bookmark_and_error_of_a_watch(server: Server, client: KubeClient) -> None:
    """
    A bookmark gives its version, also for kinds with required fields.

    An ERROR event is raised.
    """
    bookmark = {
        "type": "BOOKMARK",
        "object": {"kind": "Node", "metadata": {"resourceVersion": "12"}},
    }
    error = {"type": "ERROR", "object": STATUS | {"code": 410}}
    server.answer = server.say(200, b"\n".join(map(msgspec.json.encode, (bookmark, error))) + b"\n")
    async with aclosing(client.watch(Node, resource_version="5")) as watch:
        event = await anext(watch)
        assert ("BOOKMARK", "12") == (event.change, event.object.metadata.resource_version)
        with pytest.raises(errors.Gone, match="the server's own words"):
            await anext(watch)


async def test_watch_that_says_nothing_ends(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A quiet cluster is no trouble.

    The watch ends as if the server ended it, and the next shows whether anybody is there.
    """
    monkeypatch.setattr(transport, "SILENCE_S", 0.1)

    async def quiet(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await asyncio.sleep(30)
        return response

    server.answer = quiet
    async with (
        KubeClient(Access(server.url)) as client,
        aclosing(client.watch(Node, resource_version="5")) as watch,
    ):
        assert [] == [event async for event in watch]


async def test_only_aborted_connections_are_overlooked(caplog: pytest.LogCaptureFixture) -> None:
    """What uvloop says of a connection that we ended is no news; any other error of the loop is."""
    loop = asyncio.get_running_loop()
    closed = RuntimeError(
        "unable to perform operation on <TCPTransport closed=True>; the handler is closed"
    )
    transport.overlook_aborted(
        loop, {"message": "Fatal error on SSL protocol", "exception": closed}
    )
    assert [] == caplog.messages

    transport.overlook_aborted(
        loop, {"message": "Task exception was never retrieved", "exception": RuntimeError("other")}
    )
    assert ["Task exception was never retrieved"] == [
        message.splitlines()[0] for message in caplog.messages
    ]


async def test_every_request_is_observed(server: Server) -> None:
    """Verb, resource and code, also when no answer came (0)."""
    seen = []
    observe = lambda *what: seen.append(what[:3])  # noqa: E731
    async with KubeClient(Access(server.url), observe=observe) as client:
        await client.get(ConfigMap, "a", "default")
        server.answer = server.say(404, STATUS)
        with pytest.raises(errors.NotFound):
            await client.delete(ConfigMap, "a", "default")
    async with KubeClient(Access("http://127.0.0.1:1"), observe=observe) as client:
        with pytest.raises(errors.Unreachable):
            await client.create(CONFIG_MAP)
    assert [
        ("get", "configmaps", 200),
        ("delete", "configmaps", 404),
        ("create", "configmaps", 0),
    ] == seen


async def test_credentials_are_sent_and_told_of_a_refusal(server: Server) -> None:
    """The header is on every request; a 401 asks for a fresh token and says what is wrong."""

    class Counting(BearerToken):
        refusals = 0

        def refused(self) -> None:
            self.refusals += 1

    token = Counting("secret")
    async with KubeClient(Access(server.url, credentials=token)) as client:
        await client.get(ConfigMap, "a", "default")
        assert "Bearer secret" == server.requests[-1].headers["Authorization"]
        server.answer = server.say(401, STATUS | {"message": "Unauthorized"})
        with pytest.raises(errors.Forbidden, match="does not accept these credentials"):
            await client.get(ConfigMap, "a", "default")
    assert 1 == token.refusals


async def test_a_pods_port(server: Server) -> None:
    """A port of a pod is read through the API server; its answer comes back as it is."""
    server.answer = server.say(200, b"whatever")
    async with KubeClient(Access(server.url)) as client:
        assert b"whatever" == await client.read_from_pod(
            "agent-1", "kube-system", 5710, "/v1/interfaces"
        )

    assert (
        "GET",
        "/api/v1/namespaces/kube-system/pods/agent-1:5710/proxy/v1/interfaces",
        None,
    ) == server.sent()
