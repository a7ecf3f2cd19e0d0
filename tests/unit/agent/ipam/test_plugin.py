"""
The IPAM plugin for our own executable, over the socket.

Requests as the executable writes them.
"""

from __future__ import annotations

import json
from ipaddress import ip_address
from typing import Any

import pytest

from spiderpool.addressing.sets import IPAddress
from spiderpool.agent.ipam import master_addresses
from spiderpool.api.kubernetes.core import Pod
from spiderpool.errors import Unreachable
from tests.fakes.objects import make_pod
from tests.unit.agent.client import ask
from tests.unit.agent.reconcile.test_endpoints import until
from tests.unit.agent.simulation import Simulation, with_owner

ARGS = "IgnoreUnknown=1;K8S_POD_NAMESPACE=ns;K8S_POD_NAME=web-1;K8S_POD_INFRA_CONTAINER_ID=c-1;K8S_POD_UID=uid-web-1"
ENV = {
    "CNI_COMMAND": "ADD",
    "CNI_CONTAINERID": "c-1",
    "CNI_NETNS": "/var/run/netns/x",
    "CNI_IFNAME": "eth0",
    "CNI_ARGS": ARGS,
    "CNI_PATH": "/opt/cni/bin",
}
CONFIG = {
    "cniVersion": "1.0.0",
    "name": "macvlan",
    "type": "macvlan",
    "ipam": {"type": "spiderpool"},
}


async def call(
    simulation: Simulation,
    command: str = "ADD",
    *,
    env: dict[str, str] | None = None,
    **config: Any,
) -> tuple[int, Any]:
    """Make one CNI call; give the exit code and what is printed."""
    request = {
        "plugin": "spiderpool",
        "env": {**ENV, "CNI_COMMAND": command, **(env or {})},
        "config": {**CONFIG, **config},
    }
    answer = await ask(simulation.folder / "node1.sock", "POST", "/v1/cni", request)
    assert 200 == answer.status
    output = answer.json["output"]
    return answer.json["exitCode"], json.loads(output) if output else ""


async def test_add_prints_a_result(simulation: Simulation) -> None:
    """Addresses and routes of the one interface, in the version asked for."""
    simulation.pool("p", ips=["10.6.0.10"], gateway="10.6.0.1")
    simulation.pod()

    async with simulation.serving_agent():
        code, result = await call(simulation)

    assert 0 == code
    assert {
        "cniVersion": "1.0.0",
        "ips": [{"address": "10.6.0.10/16", "gateway": "10.6.0.1"}],
        "routes": [{"dst": "0.0.0.0/0", "gw": "10.6.0.1"}],
        "dns": {},
    } == result


async def test_an_old_version_gets_its_form(simulation: Simulation) -> None:
    """In 0.3.1 an address says its version."""
    simulation.pool("p", ips=["10.6.0.10"])
    simulation.pod()

    async with simulation.serving_agent():
        code, result = await call(simulation, cniVersion="0.3.1")

    assert 0 == code
    assert [{"version": "4", "address": "10.6.0.10/16"}] == result["ips"]


async def test_the_network_s_name_is_recorded(simulation: Simulation) -> None:
    """GC needs to know which network an address belongs to."""
    simulation.pool()
    simulation.pod()

    async with simulation.serving_agent() as agent:
        await call(simulation)
        (record,) = agent.app.informers.records

    assert "macvlan" == record.spec.holder.network


async def test_pools_of_the_configuration_are_used(simulation: Simulation) -> None:
    """`default_ipv4_ippool` of the `ipam` object names the pool."""
    simulation.pool("red", ips=["10.6.0.10"], default=False)
    simulation.pod()

    async with simulation.serving_agent():
        code, result = await call(
            simulation,
            ipam={"type": "spiderpool", "default_ipv4_ippool": ["red"], "clean_gateway": True},
        )

    assert (0, "10.6.0.10/16") == (code, result["ips"][0]["address"])


@pytest.mark.parametrize(
    ("masters", "answer"),
    [
        ((ip_address("10.7.1.1"), ip_address("fd00:7::1")), "10.7.0.10/16"),
        ((ip_address("10.8.1.1"),), "by match_master_subnet (the master of eth0 has 10.8.1.1)"),
        (None, "by match_master_subnet (eth0 has no master on the node)"),
    ],
)
async def test_pools_of_the_master_s_subnet(
    simulation: Simulation,
    monkeypatch: pytest.MonkeyPatch,
    masters: tuple[IPAddress, ...] | None,
    answer: str,
) -> None:
    """With `match_master_subnet` the pool is one whose subnet has an address of the NIC's master."""
    simulation.pool("a", ips=["10.6.0.10"])
    simulation.pool("b", "10.7.0.0/16", ips=["10.7.0.10"])
    simulation.pod()
    asked: list[tuple[str, ...]] = []

    def answer_masters(*args: str) -> tuple[IPAddress, ...] | None:
        asked.append(args)
        return masters

    monkeypatch.setattr(master_addresses, "read_master_addresses", answer_masters)

    async with simulation.serving_agent():
        ipam = {"type": "spiderpool", "match_master_subnet": True}
        code, result = await call(simulation, deviceID="0000:03:02.1", ipam=ipam)

    assert [("/var/run/netns/x", "eth0", "0000:03:02.1")] == asked
    assert answer in (result["msg"] if code else [ip["address"] for ip in result["ips"]])


async def test_a_namespace_that_is_gone_has_no_master(simulation: Simulation) -> None:
    """Then no pool is used."""
    simulation.pool("a", ips=["10.6.0.10"])
    simulation.pod()

    async with simulation.serving_agent():
        ipam = {"type": "spiderpool", "match_master_subnet": True}
        code, error = await call(simulation, ipam=ipam)

    assert 1 == code
    assert "by match_master_subnet (eth0 has no master on the node)" in error["msg"]


async def test_an_address_of_cni_args_is_given(simulation: Simulation) -> None:
    """`IP` asks for an exact address."""
    simulation.pool()
    simulation.pod()

    async with simulation.serving_agent():
        code, result = await call(simulation, env={"CNI_ARGS": f"{ARGS};IP=10.6.0.17"})

    assert (0, "10.6.0.17/16") == (code, result["ips"][0]["address"])


async def test_a_failure_is_a_cni_error_with_the_event_s_text(simulation: Simulation) -> None:
    """Exit code 1 and a CNI error with code 110 for full pools."""
    simulation.pool(ips=[])
    simulation.pod()

    async with simulation.serving_agent():
        code, error = await call(simulation)

    assert 1 == code
    assert ("1.0.0", 110) == (error["cniVersion"], error["code"])
    assert error["msg"].startswith("spiderpool IP allocation error: all IP addresses used out: ")


async def test_a_call_without_a_pod_is_refused(simulation: Simulation) -> None:
    """Addresses are for pods of Kubernetes."""
    async with simulation.serving_agent():
        code, error = await call(simulation, env={"CNI_ARGS": "IgnoreUnknown=1"})

    assert (1, 4) == (code, error["code"])


async def test_a_wrong_type_in_the_configuration_is_named(simulation: Simulation) -> None:
    """Key, value and what to write are in the error."""
    simulation.pod()

    async with simulation.serving_agent():
        code, error = await call(simulation, ipam={"type": "spiderpool", "clean_gateway": "yes"})

    assert (1, 7) == (code, error["code"])
    assert "ipam.clean_gateway" in error["msg"]


async def test_del_releases_and_prints_nothing(simulation: Simulation) -> None:
    """After the pod is gone."""
    simulation.pool()
    simulation.pod()

    async with simulation.serving_agent():
        await call(simulation)
        simulation.cluster.drop(Pod, "web-1", "ns")
        code, output = await call(simulation, "DEL")

    assert (0, "") == (code, output)
    assert {} == simulation.held()


async def test_check_passes_while_the_address_is_held(simulation: Simulation) -> None:
    """With the result of ADD as prevResult."""
    simulation.pool()
    simulation.pod()

    async with simulation.serving_agent():
        _, result = await call(simulation)
        code, _ = await call(simulation, "CHECK", prevResult=result)

    assert 0 == code


async def test_check_passes_for_a_virtual_machine(simulation: Simulation) -> None:
    """The record of a virtual machine's address has the machine's name, not that of the pod that runs it."""
    simulation.pool()
    simulation.cluster.seed(
        with_owner(
            make_pod("web-1", uid="uid-web-1"), "VirtualMachineInstance", "vm", "kubevirt.io/v1"
        )
    )

    async with simulation.serving_agent():
        _, result = await call(simulation)
        code, _ = await call(simulation, "CHECK", prevResult=result)

    assert ["vm"] == list(simulation.held().values())
    assert 0 == code


async def test_check_fails_when_the_address_is_not_held(simulation: Simulation) -> None:
    """Code 121, and the pod is named."""
    simulation.pool()
    simulation.pod()

    async with simulation.serving_agent():
        code, error = await call(simulation, "CHECK")

    assert (1, 121) == (code, error["code"])
    assert "pod ns/web-1 holds no address for eth0" in error["msg"]


async def test_check_fails_when_the_result_lacks_the_address(simulation: Simulation) -> None:
    """The pod's address is not what the result says."""
    simulation.pool(ips=["10.6.0.10"])
    simulation.pod()

    async with simulation.serving_agent():
        await call(simulation)
        previous = {"cniVersion": "1.0.0", "ips": [{"address": "10.6.0.99/16"}]}
        code, error = await call(simulation, "CHECK", prevResult=previous)

    assert (1, 121) == (code, error["code"])
    assert "10.6.0.10" in error["msg"]


async def test_status_is_silent_while_all_is_well(simulation: Simulation) -> None:
    """STATUS of 1.1.0: exit code 0."""
    async with simulation.serving_agent():
        code, output = await call(simulation, "STATUS", cniVersion="1.1.0")

    assert (0, "") == (code, output)


async def test_status_says_why_not(simulation: Simulation) -> None:
    """While the API server is away: code 50 with the reason."""
    async with simulation.serving_agent() as agent:
        simulation.cluster.faults.down = True
        simulation.cluster.end_watches(Unreachable("connection refused"))
        await until(lambda: agent.app.informers.trouble is not None)
        code, error = await call(simulation, "STATUS", cniVersion="1.1.0")
        simulation.cluster.faults.down = False

    assert (1, 50) == (code, error["code"])
    assert "the API server is down" in error["msg"] or "connection refused" in error["msg"]


def attachments(*ids: str) -> dict[str, Any]:
    """Make the list of living attachments."""
    return {
        "cni.dev/valid-attachments": [{"containerID": one, "ifname": "eth0"} for one in ids],
        "cniVersion": "1.1.0",
    }


@pytest.mark.parametrize(
    ("alive", "gone", "network", "kept"),
    [
        (["c-1"], True, "macvlan", True),
        ([], True, "macvlan", False),
        ([], False, "macvlan", True),
        ([], True, "another", True),
    ],
)
async def test_gc_releases_what_the_runtime_does_not_know(
    simulation: Simulation, alive: list[str], gone: bool, network: str, kept: bool
) -> None:
    """Only of its own network, and only when the pod is gone as a DEL would judge it."""
    simulation.pool()
    simulation.pod()

    async with simulation.serving_agent():
        await call(simulation)
        if gone:
            simulation.cluster.drop(Pod, "web-1", "ns")
        code, _ = await call(simulation, "GC", name=network, **attachments(*alive))

    assert 0 == code
    assert kept == bool(simulation.held())


async def test_gc_without_a_list_is_refused(simulation: Simulation) -> None:
    """An absent list must not mean "release everything"."""
    async with simulation.serving_agent():
        code, error = await call(simulation, "GC", cniVersion="1.1.0")

    assert (1, 6) == (code, error["code"])


async def test_a_plugin_that_is_not_built_yet_says_so(simulation: Simulation) -> None:
    """A name that this version does not serve: code 2."""
    request = {"plugin": "router", "env": ENV, "config": {**CONFIG, "type": "router"}}

    async with simulation.serving_agent():
        answer = await ask(simulation.folder / "node1.sock", "POST", "/v1/cni", request)

    error = json.loads(answer.json["output"])
    assert (1, 2) == (answer.json["exitCode"], error["code"])
    assert "not built in this version" in error["msg"]


@pytest.mark.parametrize("raw", [b"{", b"{}", b'{"plugin":1,"env":{},"config":{}}'])
async def test_what_is_no_cni_call_is_a_400(simulation: Simulation, raw: bytes) -> None:
    """Only our own executable speaks here."""
    async with simulation.serving_agent():
        answer = await ask(simulation.folder / "node1.sock", "POST", "/v1/cni", raw=raw)

    assert 400 == answer.status
