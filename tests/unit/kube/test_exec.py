"""How an exec ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from urllib.parse import parse_qsl

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from spiderpool.errors import NotFound, SpiderpoolError, TryAgain, Undecodable, Unreachable
from spiderpool.kube.client import KubeClient
from spiderpool.kube.exec import Executed, exec_query, read_exit_code
from spiderpool.kube.transport import Access


def closing(**status: object) -> bytes:
    """Make the closing Status."""
    return json.dumps({"metadata": {}, **status}).encode()


def test_success() -> None:
    """Success is code 0."""
    assert 0 == read_exit_code("exec", closing(status="Success"))


def test_exit_code() -> None:
    """A program's own code comes as a cause of a failure."""
    causes = [{"reason": "ExitCode", "message": "7"}]

    assert 7 == read_exit_code(
        "exec", closing(status="Failure", reason="NonZeroExitCode", details={"causes": causes})
    )


def test_not_started() -> None:
    """A runtime that cannot start the program says so, without a code."""
    with pytest.raises(SpiderpoolError, match="exec in pod a: no such file"):
        read_exit_code(
            "exec in pod a",
            closing(status="Failure", reason="InternalError", message="no such file"),
        )


def test_nonsense() -> None:
    """What is no Status is an error."""
    with pytest.raises(Undecodable):
        read_exit_code("exec", b"<html>")


def test_query() -> None:
    """Each word of the command is a parameter of its own, whatever it has."""
    pairs = parse_qsl(exec_query("probe", ["python3", "-c", "a=b&c d"]))

    assert ["python3", "-c", "a=b&c d"] == [value for key, value in pairs if key == "command"]
    assert {("container", "probe"), ("stdout", "true"), ("stderr", "true")} < set(pairs)


# --- over a WebSocket
# -----------------------------------------------------------------------------------------------------

Frames = list[bytes]


@contextlib.asynccontextmanager
async def kubelet(
    frames: Frames, *, hang: bool = False, status: int = 101
) -> AsyncIterator[tuple[KubeClient, list[web.Request]]]:
    """Serve one exec that sends these messages, and give a client of it with the requests that came."""
    requests: list[web.Request] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        requests.append(request)
        if status != 101:
            return web.Response(status=status, text="nothing there")
        response = web.WebSocketResponse(protocols=("v4.channel.k8s.io",))
        await response.prepare(request)
        for frame in frames:
            await response.send_bytes(frame)
        if hang:
            await asyncio.sleep(5)
        await response.close()
        return response

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    async with (
        TestServer(app, host="127.0.0.1") as running,
        KubeClient(Access(f"http://127.0.0.1:{running.port}")) as client,
    ):
        yield client, requests


async def test_execute() -> None:
    """Outputs come in pieces on streams of their own, the exit code at the end."""
    causes = [{"reason": "ExitCode", "message": "3"}]
    end = b"\x03" + closing(status="Failure", reason="NonZeroExitCode", details={"causes": causes})

    async with kubelet([b"\x01", b"\x01one ", b"\x02oops", b"\x01two", end]) as (client, requests):
        done = await client.execute("pod", "space", "probe", ["echo", "one two"], timeout_s=5)

    assert Executed(3, b"one two", b"oops") == done
    assert "/api/v1/namespaces/space/pods/pod/exec" == requests[0].path
    assert ["echo", "one two"] == requests[0].query.getall("command")


async def test_execute_cut() -> None:
    """A connection that ends without a closing status proves nothing about the program."""
    async with kubelet([b"\x01half"]) as (client, _):
        with pytest.raises(Unreachable, match="exec in pods space/pod: the connection was cut"):
            await client.execute("pod", "space", "probe", ["true"], timeout_s=5)


async def test_execute_too_slow() -> None:
    """A program that does not end is given up."""
    async with kubelet([], hang=True) as (client, _):
        with pytest.raises(TryAgain, match="did not end within"):
            await client.execute("pod", "space", "probe", ["sleep"], timeout_s=0.2)


async def test_execute_refused() -> None:
    """A refusal comes as the error of its code."""
    async with kubelet([], status=404) as (client, _):
        with pytest.raises(NotFound, match="exec in pods space/pod"):
            await client.execute("pod", "space", "probe", ["true"], timeout_s=5)
