"""
The original's wire over a real socket.

Requests built by hand from the reference.

Source: docs/reference/agent-api.md#socket.
"""

from __future__ import annotations

import asyncio
import json
import stat
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from spiderpool.addressing.sets import IPAddress
from spiderpool.agent.app import serving
from spiderpool.agent.ipam import master_addresses
from spiderpool.api.crd.spiderip import SpiderIP
from spiderpool.api.kubernetes.core import Pod
from spiderpool.errors import InvalidRequest
from tests.unit.agent.client import ask
from tests.unit.agent.reconcile.test_endpoints import until
from tests.unit.agent.simulation import Simulation

ADD = {
    "containerID": "c-1",
    "ifName": "eth0",
    "netNamespace": "/var/run/netns/x",
    "podNamespace": "ns",
    "podName": "web-1",
    "podUID": "uid-web-1",
}
DEL = {key: value for key, value in ADD.items() if key != "netNamespace"}
BATCH = {key: value for key, value in DEL.items() if key != "ifName"}


@pytest.fixture
def socket(simulation: Simulation) -> Path:
    """Return the path of the socket of the agent of node1."""
    return simulation.folder / "node1.sock"


async def test_health(simulation: Simulation, socket: Path) -> None:
    """GET /v1/ipam/healthy answers 200 with an empty body."""
    async with simulation.serving_agent():
        answer = await ask(socket, "GET", "/v1/ipam/healthy")

    assert (200, b"") == (answer.status, answer.body)


async def test_an_add_answers_in_the_original_s_form(simulation: Simulation, socket: Path) -> None:
    """
    Addresses with prefix, pool's routes before the default route, absent keys left out.

    Source: docs/reference/allocation.md#answer.
    """
    simulation.pool(
        "p",
        ips=["10.6.0.10"],
        gateway="10.6.0.1",
        routes=[{"dst": "10.7.0.0/16", "gw": "10.6.0.2"}],
    )
    simulation.pod()

    async with simulation.serving_agent():
        answer = await ask(socket, "POST", "/v1/ipam/ip", ADD)

    expected = {
        "ips": [
            {
                "address": "10.6.0.10/16",
                "gateway": "10.6.0.1",
                "ipPool": "p",
                "nic": "eth0",
                "version": 4,
            }
        ],
        "routes": [
            {"dst": "10.7.0.0/16", "gw": "10.6.0.2", "ifName": "eth0"},
            {"dst": "0.0.0.0/0", "gw": "10.6.0.1", "ifName": "eth0"},
        ],
    }
    assert (200, expected) == (answer.status, answer.json)
    assert "application/json" == answer.headers["content-type"].partition(";")[0]


async def test_pools_and_clean_gateway_come_with_the_call(
    simulation: Simulation, socket: Path
) -> None:
    """The optional arguments of ADD count: pools of the CNI configuration, no default route."""
    simulation.pool("red", default=False, ips=["10.6.0.10"], gateway="10.6.0.1")
    simulation.pod()

    async with simulation.serving_agent():
        answer = await ask(
            socket,
            "POST",
            "/v1/ipam/ip",
            {**ADD, "defaultIPv4IPPool": ["red"], "defaultIPv6IPPool": [], "cleanGateway": True},
        )

    assert "red" == answer.json["ips"][0]["ipPool"]
    assert answer.json["routes"] is None


async def test_an_add_for_an_unknown_pod_is_a_500_with_a_text(
    simulation: Simulation, socket: Path
) -> None:
    """Errors are a JSON string with status 500."""
    async with simulation.serving_agent():
        answer = await ask(socket, "POST", "/v1/ipam/ip", {**ADD, "podName": "ghost"})

    assert (500, "pod ns/ghost does not exist") == (answer.status, answer.json)


@pytest.mark.parametrize("field", ["podName", "podNamespace"])
async def test_a_call_for_a_pod_without_a_name_is_refused(
    simulation: Simulation, socket: Path, field: str
) -> None:
    """
    An empty text is there, so it is no 422.

    There is no such pod all the same, and the answer says so in words.
    """
    empty = {**ADD, field: ""}
    batch = {**BATCH, field: "", "isReleaseConflictIPs": True}

    async with simulation.serving_agent():
        answers = [
            await ask(socket, "POST", "/v1/ipam/ip", empty),
            await ask(socket, "DELETE", "/v1/ipam/ip", empty),
            await ask(socket, "DELETE", "/v1/ipam/ips", batch),
        ]
        query = "&".join(f"{key}={empty[key]}" for key in ("podName", "podNamespace"))
        endpoint = await ask(socket, "GET", f"/v1/workloadendpoint?{query}")

    assert [500] * 3 == [answer.status for answer in answers]
    assert all(f'{field} is ""' in answer.json for answer in answers)
    assert 404 == endpoint.status


async def test_an_add_for_the_master_s_subnet(
    simulation: Simulation, socket: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`matchMasterSubnet` leaves pools of other subnets out; the NIC is found by `netNamespace`."""
    simulation.pool("a", ips=["10.6.0.10"])
    simulation.pool("b", "10.7.0.0/16", ips=["10.7.0.10"])
    simulation.pod()
    asked: list[tuple[str, ...]] = []
    masters = (ip_address("10.7.1.1"), ip_address("fd00:7::1"))

    def answer_masters(*args: str) -> tuple[IPAddress, ...] | None:
        asked.append(args)
        return masters

    monkeypatch.setattr(master_addresses, "read_master_addresses", answer_masters)

    async with simulation.serving_agent():
        answer = await ask(socket, "POST", "/v1/ipam/ip", {**ADD, "matchMasterSubnet": True})

    assert [("/var/run/netns/x", "eth0", "")] == asked
    assert [(200, "b")] == [(answer.status, ip["ipPool"]) for ip in answer.json["ips"]]


async def test_a_del_answers_empty(simulation: Simulation, socket: Path) -> None:
    """
    DELETE /v1/ipam/ip answers 200 with an empty body, and the address is free.

    Its network namespace is optional.
    """
    simulation.pool()
    simulation.pod()

    async with simulation.serving_agent():
        await ask(socket, "POST", "/v1/ipam/ip", ADD)
        simulation.cluster.drop(Pod, "web-1", "ns")
        answer = await ask(socket, "DELETE", "/v1/ipam/ip", DEL)

    assert (200, b"") == (answer.status, answer.body)
    assert {} == simulation.held()


@pytest.mark.parametrize(
    ("method", "path", "whole"),
    [
        ("POST", "/v1/ipam/ip", ADD),
        ("DELETE", "/v1/ipam/ip", DEL),
        ("DELETE", "/v1/ipam/ips", BATCH),
    ],
)
async def test_each_required_field_must_be_there(
    simulation: Simulation, socket: Path, method: str, path: str, whole: dict[str, str]
) -> None:
    """
    A missing or null field is a 422 with code 602 that names it.

    An empty text is not missing.
    """
    async with simulation.serving_agent():
        for name in whole:
            for body in (
                {key: value for key, value in whole.items() if key != name},
                {**whole, name: None},
            ):
                answer = await ask(socket, method, path, body)
                assert (422, {"code": 602, "message": f"{name} in body is required"}) == (
                    answer.status,
                    answer.json,
                )
            answer = await ask(socket, method, path, {**whole, "podName": "ghost", name: ""})
            assert 422 != answer.status


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("containerID", 7),
        ("podUID", ["x"]),
        ("defaultIPv4IPPool", "pool"),
        ("defaultIPv4IPPool", [1]),
        ("cleanGateway", "true"),
        ("ifName", {"a": 1}),
    ],
)
async def test_a_wrong_type_is_a_400(
    simulation: Simulation, socket: Path, field: str, value: object
) -> None:
    """The answer is an object with code 400 whose message names the field."""
    async with simulation.serving_agent():
        answer = await ask(socket, "POST", "/v1/ipam/ip", {**ADD, field: value})

    assert 400 == answer.status == answer.json["code"]
    assert field in answer.json["message"]


@pytest.mark.parametrize("raw", [b"{", b"[]", b'"text"', b"{}x", b"\xff", b"[" * 5000])
async def test_what_is_not_a_json_object_is_a_400(
    simulation: Simulation, socket: Path, raw: bytes
) -> None:
    """Bad JSON of any kind gets one clear answer."""
    async with simulation.serving_agent():
        answer = await ask(socket, "POST", "/v1/ipam/ip", raw=raw)

    assert 400 == answer.status == answer.json["code"]


async def test_a_missing_body_is_a_422(simulation: Simulation, socket: Path) -> None:
    """No body at all lacks the required body."""
    async with simulation.serving_agent():
        answer = await ask(socket, "POST", "/v1/ipam/ip")

    assert (422, 602) == (answer.status, answer.json["code"])


@pytest.mark.parametrize("content_type", ["text/plain", "application/xml", ""])
async def test_another_content_type_is_a_415(
    simulation: Simulation, socket: Path, content_type: str
) -> None:
    """Only JSON is read."""
    async with simulation.serving_agent():
        answer = await ask(socket, "POST", "/v1/ipam/ip", ADD, content_type=content_type)

    assert 415 == answer.status == answer.json["code"]


async def test_a_content_type_with_a_charset_is_json(simulation: Simulation, socket: Path) -> None:
    """Parameters of the media type do not matter."""
    async with simulation.serving_agent():
        answer = await ask(
            socket, "DELETE", "/v1/ipam/ip", DEL, content_type="application/json; charset=utf-8"
        )

    assert 200 == answer.status


async def test_an_unknown_path_is_a_404(simulation: Simulation, socket: Path) -> None:
    """The framework's object, not a page."""
    async with simulation.serving_agent():
        answer = await ask(socket, "GET", "/v1/nothing")

    assert (404, {"code": 404, "message": "path /v1/nothing was not found"}) == (
        answer.status,
        answer.json,
    )


@pytest.mark.parametrize("path", ["/swagger.json", "/v1/docs"])
async def test_no_description_of_the_api(simulation: Simulation, socket: Path, path: str) -> None:
    """The original serves one there; ours says that it has none."""
    async with simulation.serving_agent():
        answer = await ask(socket, "GET", path)

    words = f"path {path} was not found: this agent serves no description of its API"
    assert (404, words) == (answer.status, answer.json["message"])


async def test_a_wrong_method_is_a_405(simulation: Simulation, socket: Path) -> None:
    """The message says which methods there are."""
    async with simulation.serving_agent():
        answer = await ask(socket, "PATCH", "/v1/ipam/ip", ADD)

    message = "method PATCH is not allowed, but [DELETE,POST] are"
    assert (405, {"code": 405, "message": message}) == (answer.status, answer.json)


@pytest.mark.parametrize("name", ["startup", "readiness", "liveness"])
async def test_operations_of_the_other_listener_are_a_501(
    simulation: Simulation, socket: Path, name: str
) -> None:
    """The health port's operations are known here, and answered with a text."""
    async with simulation.serving_agent():
        answer = await ask(socket, "GET", f"/v1/runtime/{name}")

    assert 501 == answer.status
    assert isinstance(answer.json, str)


async def test_the_batch_add_is_a_stub(simulation: Simulation, socket: Path) -> None:
    """POST /v1/ipam/ips answers 200 and does nothing, as the original."""
    async with simulation.serving_agent():
        answer = await ask(socket, "POST", "/v1/ipam/ips")

    assert (200, b"") == (answer.status, answer.body)


async def add_then_batch_delete(
    simulation: Simulation, socket: Path, env: dict[str, str] | None = None, **more: Any
) -> tuple[int, int]:
    """Return a pod an address, report a conflict, and give status and number of addresses left."""
    simulation.pool()
    simulation.pod(stateful=more.pop("stateful", False))
    async with simulation.serving_agent(env=env or {}):
        await ask(socket, "POST", "/v1/ipam/ip", ADD)
        answer = await ask(socket, "DELETE", "/v1/ipam/ips", {**BATCH, **more})
    return answer.status, len(simulation.held())


async def test_addresses_in_conflict_are_released_of_a_living_pod(
    simulation: Simulation, socket: Path
) -> None:
    """DELETE /v1/ipam/ips with isReleaseConflictIPs takes all that the pod has."""
    assert (200, 0) == await add_then_batch_delete(simulation, socket, isReleaseConflictIPs=True)


async def test_without_the_flag_nothing_is_released(simulation: Simulation, socket: Path) -> None:
    """The shipped original never sets it: success, nothing done."""
    assert (200, 1) == await add_then_batch_delete(simulation, socket)


async def test_the_release_of_conflicts_can_be_forbidden(
    simulation: Simulation, socket: Path
) -> None:
    """SPIDERPOOL_ENABLED_RELEASE_CONFLICT_IPS=false: status 521."""
    env = {"SPIDERPOOL_ENABLED_RELEASE_CONFLICT_IPS": "false"}

    assert (521, 1) == await add_then_batch_delete(
        simulation, socket, env, isReleaseConflictIPs=True
    )


async def test_static_addresses_in_conflict_stay(simulation: Simulation, socket: Path) -> None:
    """A StatefulSet's pod: status 522."""
    assert (522, 1) == await add_then_batch_delete(
        simulation, socket, isReleaseConflictIPs=True, stateful=True
    )


async def test_the_conflict_of_a_pod_that_is_gone_is_a_success(
    simulation: Simulation, socket: Path
) -> None:
    """Nothing to release."""
    async with simulation.serving_agent():
        answer = await ask(
            socket, "DELETE", "/v1/ipam/ips", {**BATCH, "isReleaseConflictIPs": True}
        )

    assert 200 == answer.status


async def test_the_workload_endpoint_tells_what_a_pod_holds(
    simulation: Simulation, socket: Path
) -> None:
    """Empty texts are left out, and routes are null when there are none."""
    simulation.pool(
        "blue",
        ips=["10.6.0.10"],
        gateway="10.6.0.1",
        routes=[{"dst": "10.7.0.0/16", "gw": "10.6.0.2"}],
    )
    simulation.pod()

    async with simulation.serving_agent():
        await ask(socket, "POST", "/v1/ipam/ip", ADD)
        answer = await ask(socket, "GET", "/v1/workloadendpoint?podNamespace=ns&podName=web-1")

    interface = {
        "interface": "eth0",
        "ipv4": "10.6.0.10/16",
        "ipv4Pool": "blue",
        "ipv4Gateway": "10.6.0.1",
        "routes": [{"dst": "10.7.0.0/16", "gw": "10.6.0.2", "ifName": None}],
    }
    expected = {
        "podNamespace": "ns",
        "podName": "web-1",
        "podUID": "uid-web-1",
        "node": "node1",
        "interfaces": [interface],
    }
    assert (200, expected) == (answer.status, answer.json)


async def test_the_workload_endpoint_knows_pods_of_other_nodes(
    simulation: Simulation, socket: Path
) -> None:
    """The endpoint says where to look, the records are what is told."""
    simulation.pool(ips=["10.6.0.10"])
    pod = simulation.pod(node="node2")

    async with simulation.agent("node2") as two, simulation.serving_agent("node1"):
        await two.add(pod)
        await until(lambda: not two.app.endpoints.pending)
        answer = await ask(socket, "GET", "/v1/workloadendpoint?podNamespace=ns&podName=web-1")

    assert ("node2", "10.6.0.10/16", None) == (
        answer.json["node"],
        answer.json["interfaces"][0]["ipv4"],
        answer.json["interfaces"][0]["routes"],
    )


async def test_the_workload_endpoint_of_a_pod_without_addresses_is_a_404(
    simulation: Simulation, socket: Path
) -> None:
    """Nobody of that name holds anything."""
    async with simulation.serving_agent():
        answer = await ask(socket, "GET", "/v1/workloadendpoint?podNamespace=ns&podName=ghost")

    assert 404 == answer.status


@pytest.mark.parametrize(
    ("query", "missing"),
    [("podName=x", "podNamespace"), ("podNamespace=x", "podName"), ("", "podName")],
)
async def test_the_workload_endpoint_needs_both_parameters(
    simulation: Simulation, socket: Path, query: str, missing: str
) -> None:
    """A missing one is a 422 with code 602."""
    async with simulation.serving_agent():
        answer = await ask(socket, "GET", f"/v1/workloadendpoint?{query}")

    assert (422, {"code": 602, "message": f"{missing} in query is required"}) == (
        answer.status,
        answer.json,
    )


async def test_a_caller_that_hangs_up_leaves_nothing(simulation: Simulation, socket: Path) -> None:
    """When the connection closes amid an ADD, what it took is taken back."""
    simulation.pool("blue")
    simulation.pool("six", "fd00::/64", ips=[])
    simulation.pod()
    body = json.dumps(ADD).encode()

    async with simulation.serving_agent(wait_s=30) as agent:
        _, writer = await asyncio.open_unix_connection(socket)
        head = f"POST /v1/ipam/ip HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        await until(lambda: len(simulation.held()) == 1)
        writer.close()
        await until(lambda: not simulation.held())
        await until(lambda: not agent.app.ipam.pod_locks.busy)


async def test_an_unexpected_error_is_answered_and_logged(
    simulation: Simulation, socket: Path
) -> None:
    """A fault of ours is a 500 with words, and the agent goes on."""
    simulation.pool()
    pod = simulation.pod()

    async with simulation.serving_agent() as agent:
        simulation.cluster.faults.fail_next("create", SpiderIP, RuntimeError("boom"))
        answer = await ask(socket, "POST", "/v1/ipam/ip", ADD)
        again = await agent.add(pod, container="c-1")

    assert 500 == answer.status
    assert "RuntimeError: boom" in answer.json
    assert again.ips


async def test_a_socket_left_over_is_replaced_and_private(
    simulation: Simulation, socket: Path
) -> None:
    """An agent that was killed leaves its socket; the next one takes the place, for root only."""
    leave_over(socket)

    async with simulation.serving_agent():
        answer = await ask(socket, "GET", "/v1/ipam/healthy")
        mode = mode_of(socket)

    assert 200 == answer.status
    assert 0o600 == mode


async def test_a_socket_that_cannot_be_is_an_error_that_names_it(simulation: Simulation) -> None:
    """A folder that is a file: one sentence with the path and where to change it."""
    (simulation.folder / "file").write_text("")
    app = replace(simulation.make("node1"), socket=simulation.folder / "file" / "agent.sock")

    with pytest.raises(
        InvalidRequest, match=r"cannot listen on socket .*/file/agent\.sock: .*ipamUnixSocketPath"
    ):
        async with serving(app):
            pass


def leave_over(path: Path) -> None:
    """Put a file where the socket will be."""
    path.write_text("left over")


def mode_of(path: Path) -> int:
    """Return the permissions of a file."""
    return stat.S_IMODE(path.stat().st_mode)
