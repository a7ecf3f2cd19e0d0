"""
The socket of a node's agent, asked by hand as the original's executable asks, mistakes included.

Source: docs/reference/agent-api.md#socket.
"""

from __future__ import annotations

import json
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from spiderlab import Lab
from tests.lab.hostagent import Answer, ask
from tests.lab.manifests import DEFAULT_NETWORK, IPPOOL, ROUTES
from tests.lab.networks import ENS192
from tests.lab.story import Story

ARGS = {
    "containerID": "0123456789abcdef",
    "ifName": "eth0",
    "netNamespace": "/var/run/netns/cni-0",
    "podNamespace": "default",
    "podName": "nobody",
    "podUID": "8a0ecd6e-0000-4000-8000-000000000000",
}


@pytest.fixture
def socket(lab: Lab) -> Path:
    """Return the socket of the first node's agent, by its path on this machine."""
    return lab.nodes[0].path("/run/spidernet/spiderpool.sock")


def without(field: str, **more: Any) -> dict[str, Any]:
    """Return a body that lacks a field."""
    return {key: value for key, value in {**ARGS, **more}.items() if key != field}


def test_healthy_and_stubs(socket: Path) -> None:
    """
    The health probe and the batch ADD answer 200 with nothing.

    What the other listener serves answers 501.
    """
    assert Answer(200, None) == ask(socket, "GET", "/v1/ipam/healthy")
    assert Answer(200, None) == ask(socket, "POST", "/v1/ipam/ips")
    for name in ("startup", "readiness", "liveness"):
        answer = ask(socket, "GET", f"/v1/runtime/{name}")
        assert (501, True) == (answer.status, isinstance(answer.body, str))


@pytest.mark.parametrize("field", sorted(ARGS))
def test_add_without_a_field(socket: Path, field: str) -> None:
    """An ADD that lacks a required field, or has null there, is refused with the framework's 422 and code 602."""
    for body in (without(field), {**ARGS, field: None}):
        expected = Answer(422, {"code": 602, "message": f"{field} in body is required"})
        assert expected == ask(socket, "POST", "/v1/ipam/ip", body)


@pytest.mark.parametrize("field", sorted(set(ARGS) - {"netNamespace"}))
def test_del_without_a_field(socket: Path, field: str) -> None:
    """A DEL needs the same fields but the network namespace."""
    expected = Answer(422, {"code": 602, "message": f"{field} in body is required"})
    assert expected == ask(socket, "DELETE", "/v1/ipam/ip", without(field))


def test_batch_del_without_a_field(socket: Path) -> None:
    """The batch DEL has no interface; what it needs besides is told one at a time."""
    assert Answer(200, None) == ask(socket, "DELETE", "/v1/ipam/ips", without("ifName"))
    for field in ("containerID", "podName", "podNamespace", "podUID"):
        expected = Answer(422, {"code": 602, "message": f"{field} in body is required"})
        assert expected == ask(socket, "DELETE", "/v1/ipam/ips", without(field))


@pytest.mark.parametrize(
    "change",
    [
        {"containerID": 7},
        {"podName": ["a"]},
        {"cleanGateway": "yes"},
        {"defaultIPv4IPPool": "pool"},
        {"defaultIPv4IPPool": [1]},
    ],
    ids=json.dumps,
)
def test_wrong_types(socket: Path, change: dict[str, Any]) -> None:
    """A field of a wrong type is a body that cannot be read: 400."""
    answer = ask(socket, "POST", "/v1/ipam/ip", {**ARGS, **change})

    assert (400, 400) == (answer.status, answer.body["code"])
    assert answer.body["message"].startswith('parsing body body from "" failed')


def test_no_body_no_json_no_route(socket: Path) -> None:
    """Missing body 422, text that is no JSON 400, other content 415, unknown path 404, wrong method 405; all as objects."""
    cases = {
        (422, 602): ask(socket, "POST", "/v1/ipam/ip"),
        (400, 400): ask(socket, "POST", "/v1/ipam/ip", b"{not json"),
        (415, 415): ask(socket, "POST", "/v1/ipam/ip", b"containerID=1", content_type="text/plain"),
        (404, 404): ask(socket, "GET", "/v1/ipam/nothing"),
        (405, 405): ask(socket, "PUT", "/v1/ipam/ip", ARGS),
    }

    assert list(cases) == [(answer.status, answer.body["code"]) for answer in cases.values()]
    assert all(answer.body["message"] for answer in cases.values())


def test_unknown_pod(socket: Path) -> None:
    """
    An ADD for a pod that does not exist is a 500 with a JSON text that names it.

    A DEL succeeds, there is nothing to do.
    """
    answer = ask(socket, "POST", "/v1/ipam/ip", ARGS)

    assert 500 == answer.status
    assert "default/nobody" in answer.body
    assert Answer(200, None) == ask(socket, "DELETE", "/v1/ipam/ip", ARGS)
    assert Answer(200, None) == ask(
        socket, "DELETE", "/v1/ipam/ips", {**ARGS, "isReleaseConflictIPs": True}
    )
    assert (
        404 == ask(socket, "GET", "/v1/workloadendpoint?podNamespace=default&podName=nobody").status
    )


@pytest.mark.parametrize("query", ["podName=a", "podNamespace=a", ""])
def test_endpoint_without_a_parameter(socket: Path, query: str) -> None:
    """Looking up an endpoint needs both parameters."""
    answer = ask(socket, "GET", f"/v1/workloadendpoint?{query}")

    assert (422, 602) == (answer.status, answer.body["code"])


def test_add_of_a_pod_that_has_its_address(story: Story, socket: Path) -> None:
    """
    The answer of an ADD has the documented form, addresses and routes; a second ADD of the pod gives the same.

    A DEL while the pod lives succeeds and takes nothing; one with another pod's UID too.
    """
    pool = story.pool("p", count=1, routes=[{"dst": "10.97.0.0/16", "gw": "10.6.0.2"}])
    routes = [{"dst": "10.98.0.0/16", "gw": "10.6.0.3"}]
    annotations = {DEFAULT_NETWORK: story.macvlan("lan"), IPPOOL: {"ipv4": [pool]}, ROUTES: routes}
    pod = story.pod("pod", annotations, node=story.lab.nodes[0].name)
    address = f"{pod.address('eth0')}/{ENS192.network4.prefixlen}"
    (record,) = [thing for thing in story.kube.list("SpiderIP") if thing["spec"]["pool"] == pool]
    mine = {"podNamespace": pod.namespace, "podName": pod.name, "podUID": pod.uid}
    sandbox = {**ARGS, **mine, "containerID": record["spec"]["holder"]["containerID"]}

    answer = ask(socket, "POST", "/v1/ipam/ip", sandbox)

    ip = {"version": 4, "address": address, "nic": "eth0", "ipPool": pool, "gateway": "10.6.0.1"}
    told = [("10.97.0.0/16", "10.6.0.2"), ("10.98.0.0/16", "10.6.0.3"), ("0.0.0.0/0", "10.6.0.1")]
    assert (200, [ip]) == (answer.status, answer.body["ips"])
    assert sorted(told) == sorted((route["dst"], route["gw"]) for route in answer.body["routes"])
    assert {"eth0"} == {route["ifName"] for route in answer.body["routes"]}
    assert Answer(200, None) == ask(socket, "DELETE", "/v1/ipam/ip", sandbox)
    assert Answer(200, None) == ask(
        socket, "DELETE", "/v1/ipam/ip", {**sandbox, "podUID": ARGS["podUID"]}
    )
    assert 500 == ask(socket, "POST", "/v1/ipam/ip", {**sandbox, "podUID": ARGS["podUID"]}).status
    assert {("eth0", pod.address("eth0"))} == story.sips_of(pod)
    endpoint = ask(
        socket, "GET", f"/v1/workloadendpoint?podNamespace={pod.namespace}&podName={pod.name}"
    )
    assert {**mine, "node": pod.node} == {
        key: value for key, value in endpoint.body.items() if key != "interfaces"
    }
    (interface,) = endpoint.body["interfaces"]
    shown = {"interface": "eth0", "ipv4": address, "ipv4Pool": pool, "ipv4Gateway": "10.6.0.1"}
    assert shown == {key: value for key, value in interface.items() if key != "routes"}


def test_conflict_release_of_a_static_pod(story: Story, socket: Path) -> None:
    """
    A StatefulSet's pod keeps its address even when the caller says that it is in conflict.

    522.
    """
    annotations = {
        DEFAULT_NETWORK: story.macvlan("lan"),
        IPPOOL: {"ipv4": [story.pool("p", count=1)]},
    }
    node = story.lab.nodes[0].name
    story.workload(
        "StatefulSet",
        "db",
        1,
        annotations,
        serviceName="db",
        selector={"kubernetes.io/hostname": node},
    )
    (pod,) = story.wait_replicas("db", 1)
    args = {
        **ARGS,
        "podNamespace": pod.namespace,
        "podName": pod.name,
        "podUID": pod.uid,
        "isReleaseConflictIPs": True,
    }

    answer = ask(socket, "DELETE", "/v1/ipam/ips", args)

    assert (522, True) == (answer.status, isinstance(answer.body, str))
    assert {("eth0", pod.address("eth0"))} == story.sips_of(pod)


def test_executable_without_a_socket(lab: Lab) -> None:
    """
    Where no agent listens the executable says "try again later", naming the socket.

    STATUS says "not available".
    """
    path = "/run/spidernet/missing.sock"
    config = {
        "cniVersion": "1.1.0",
        "name": "lan",
        "type": "macvlan",
        "ipam": {"type": "spiderpool", "ipam_unix_socket_path": path},
        "prevResult": {"cniVersion": "1.1.0", "ips": []},
    }
    codes = {"ADD": 11, "DEL": 11, "CHECK": 11, "STATUS": 50}

    with ThreadPoolExecutor() as threads:
        errors = dict(
            zip(
                codes,
                threads.map(lambda command: _refusal(lab, command, config, path), codes),
                strict=True,
            )
        )

    assert codes == {command: error["code"] for command, error in errors.items()}
    assert {"1.1.0"} == {error["cniVersion"] for error in errors.values()}
    assert all(path in error["msg"] for error in errors.values())


def _refusal(lab: Lab, command: str, config: dict[str, Any], socket: str) -> dict[str, Any]:
    """Run the executable on a node for an agent at a socket, and give the CNI error that it prints."""
    environment = {
        "CNI_COMMAND": command,
        "CNI_CONTAINERID": "c",
        "CNI_IFNAME": "eth0",
        "CNI_NETNS": "/run/netns/none",
        "CNI_PATH": "/opt/cni/bin",
    }
    # where the agent listens stands beside the executable
    script = (
        "home=$(mktemp -d) && cp /opt/cni/bin/spiderpool $home && "
        f"echo {socket} >$home/.spiderpool-socket && $home/spiderpool; code=$?; rm -r $home; exit $code"
    )
    variables = (f"{key}={value}" for key, value in environment.items())
    words = ["env", *variables, "sh", "-c", script]
    enter = lab.nodes[0].enter()
    done = subprocess.run(
        [*enter, *words],
        input=json.dumps(config),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert 1 == done.returncode, done
    return dict(json.loads(done.stdout))
