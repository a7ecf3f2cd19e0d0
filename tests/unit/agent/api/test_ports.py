"""Ports 5710 and 5711: probes and metrics, over real sockets."""

from __future__ import annotations

import asyncio
import os
import re
import socket
from contextlib import closing
from pathlib import Path

import aiohttp
import pytest

from spiderpool.agent.api.health import health_routes
from spiderpool.agent.api.server import dispatcher, listen_on_port
from spiderpool.agent.node.caller import Peer
from spiderpool.cni.request import CniRequest, parse_call
from spiderpool.errors import InvalidRequest
from tests.unit.agent.simulation import Simulation


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def get(port: int, path: str) -> tuple[int, str]:
    """Ask a port of this machine."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{port}{path}") as answer,
    ):
        return answer.status, await answer.text()


@pytest.mark.parametrize("probe", ["startup", "readiness", "liveness"])
async def test_probes_succeed_while_the_agent_serves(simulation: Simulation, probe: str) -> None:
    """200 for each of the three."""
    port = free_port()

    async with simulation.serving_agent(env={"SPIDERPOOL_HEALTH_PORT": str(port)}):
        assert 200 == (await get(port, f"/v1/runtime/{probe}"))[0]


async def test_probes_fail_before_the_agent_serves() -> None:
    """Startup says so, and the other two find no socket."""
    port = free_port()
    runner = await listen_on_port(
        dispatcher(health_routes(lambda: False, Path("/nonexistent/agent.sock"))), port
    )

    answers = [
        await get(port, f"/v1/runtime/{probe}") for probe in ("startup", "readiness", "liveness")
    ]
    await runner.cleanup()

    assert [500, 500, 500] == [status for status, _ in answers]
    assert "starting" in answers[0][1]
    assert "/nonexistent/agent.sock" in answers[1][1]


async def test_liveness_fails_when_a_background_task_cannot_live(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The socket answers and pods get addresses, yet kubelet is told to start the agent again."""
    port = free_port()

    async def fail() -> None:
        raise RuntimeError("no such file")

    async with simulation.serving_agent(env={"SPIDERPOOL_HEALTH_PORT": str(port)}) as agent:
        supervisor = agent.app.supervisor
        monkeypatch.setattr(supervisor, "_sleep", lambda _: asyncio.sleep(0))
        supervisor.start("restore", fail)
        for _ in range(40):
            await asyncio.sleep(0)
        status, text = await get(port, "/v1/runtime/liveness")
        readiness, _ = await get(port, "/v1/runtime/readiness")

    assert (500, 200) == (status, readiness)
    assert "background task restore failed" in text


async def test_operations_of_the_socket_are_a_501_here(simulation: Simulation) -> None:
    """The original's schema names them on both listeners."""
    port = free_port()

    async with simulation.serving_agent(env={"SPIDERPOOL_HEALTH_PORT": str(port)}):
        status, text = await get(port, "/v1/workloadendpoint")

    assert 501 == status
    assert text.startswith('"')


async def test_a_port_in_use_is_an_error_that_names_it() -> None:
    """Two agents with one port: one sentence with the number."""
    port = free_port()
    runner = await listen_on_port(dispatcher({}), port)

    with pytest.raises(InvalidRequest, match=f"cannot listen on port {port}: "):
        await listen_on_port(dispatcher({}), port)
    await runner.cleanup()


async def test_metrics_have_the_documented_names_and_labels(simulation: Simulation) -> None:
    """
    After one ADD and one refused ADD.

    The counters, the durations, both scope labels.

    Source: docs/reference/configuration.md#metrics.
    """
    simulation.pool(ips=["10.6.0.10"])
    first, second = simulation.pod("web-1"), simulation.pod("web-2")
    port = free_port()
    env = {"SPIDERPOOL_METRIC_HTTP_PORT": str(port), "SPIDERPOOL_ENABLED_METRIC": "true"}

    async with simulation.serving_agent(env=env) as agent:
        await agent.add(first)
        with pytest.raises(Exception, match="used out"):
            await agent.add(second)
        await agent.delete(second)
        status, text = await get(port, "/metrics")
        elsewhere = await get(port, "/any/path")

    assert 200 == status == elsewhere[0]
    values = {
        match[1]: float(match[2])
        for match in re.finditer(
            r'^spiderpool_(\w+)\{otel_scope_name="spiderpool-agent",otel_scope_version="v0"\} (\S+)$',
            text,
            re.MULTILINE,
        )
    }
    assert (2, 1, 1, 1, 0) == (
        values["ipam_allocation_counts_total"],
        values["ipam_allocation_failure_counts_total"],
        values["ipam_allocation_err_ip_used_out_counts_total"],
        values["ipam_release_counts_total"],
        values["ipam_release_failure_counts_total"],
    )
    assert (2, 1) == (
        values["ipam_allocation_duration_seconds_count"],
        values["ipam_release_duration_seconds_count"],
    )
    assert (2, 1) == (
        values["ipam_allocation_limit_duration_seconds_count"],
        values["ipam_release_limit_duration_seconds_count"],
    )
    for which in ("average", "max", "min", "latest"):
        assert f"ipam_allocation_{which}_duration_seconds" in values
        assert f"ipam_release_{which}_limit_duration_seconds" in values
    assert 'le="0.1"' in text


async def test_metrics_of_the_coordinator(simulation: Simulation) -> None:
    """
    Each call is counted and timed, those that fail once more.

    Source of the names' style: docs/reference/configuration.md#metrics.
    """
    simulation.pod("web-1")
    port = free_port()
    env = {"SPIDERPOOL_METRIC_HTTP_PORT": str(port), "SPIDERPOOL_ENABLED_METRIC": "true"}
    variables = {
        "CNI_CONTAINERID": "c1",
        "CNI_NETNS": "/nowhere/netns",
        "CNI_IFNAME": "eth0",
        "CNI_ARGS": "K8S_POD_NAMESPACE=ns;K8S_POD_NAME=web-1;K8S_POD_UID=u1",
        "CNI_PATH": "/nowhere",
    }
    config = {"cniVersion": "1.1.0", "name": "lan", "type": "coordinator"}
    me = Peer.of_process(os.getpid())

    async with simulation.serving_agent(env=env) as agent:
        with pytest.raises(InvalidRequest, match="prevResult is missing"):
            await agent.app.coordinator(
                parse_call(CniRequest("coordinator", variables | {"CNI_COMMAND": "ADD"}, config)),
                me,
            )
        await agent.app.coordinator(
            parse_call(CniRequest("coordinator", variables | {"CNI_COMMAND": "STATUS"}, config)), me
        )
        _, text = await get(port, "/metrics")

    series = re.findall(
        r'^spiderpool_(coordinator_\w+)\{otel_scope_name="spiderpool-agent",[^}]*\} (\S+)$',
        text,
        re.MULTILINE,
    )
    values = {name: float(value) for name, value in series}
    assert (1, 1, 1) == tuple(
        values[f"coordinator_add_{what}"]
        for what in ("counts_total", "failure_counts_total", "duration_seconds_count")
    )
    assert (0, 0, 0) == tuple(
        values[f"coordinator_{what}_counts_total"] for what in ("del", "del_failure", "check")
    )
    for which in ("average", "max", "min", "latest"):
        assert f"coordinator_add_{which}_duration_seconds" in values
    assert 'spiderpool_coordinator_add_duration_seconds_bucket{le="0.04"' in text.replace(
        'otel_scope_name="spiderpool-agent",otel_scope_version="v0",', ""
    )


async def test_metrics_are_off_by_default(simulation: Simulation) -> None:
    """Nobody listens on the metrics port unless it is enabled."""
    port = free_port()

    async with simulation.serving_agent(env={"SPIDERPOOL_METRIC_HTTP_PORT": str(port)}):
        with pytest.raises(aiohttp.ClientConnectorError):
            await get(port, "/metrics")
