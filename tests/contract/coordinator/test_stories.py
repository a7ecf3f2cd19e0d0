"""
What the coordinator does beside the layouts.

Twice is once, CHECK, DEL, failures, settings, traffic; on a real kernel.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import pytest

from spiderpool.agent.coordinator.plugin import CoordinatorPlugin
from spiderpool.agent.node.caller import Peer
from spiderpool.errors import BadEnvironment, CheckFailed, InvalidRequest, SpiderpoolError
from spiderpool.kernel import pod_network as kernel
from spiderpool.kernel import rtnetlink_objects
from spiderpool.kernel.namespaces import Namespaces
from spiderpool.kernel.rtnetlink import attributes
from tests.contract.coordinator.stage import PodNics, Stage, believe_every_gateway, dual
from tests.unit.datapath.test_coordinator_merge import WRONG

BOTH = ("10.6.168.172/16", "fd00:6::172/64")
NO_FILE = 2**20 + 1  # a descriptor that nobody has open


async def test_twice_is_once(ground: Stage) -> None:
    """A repeated ADD changes nothing and sends no change."""
    dual(ground)
    with ground.pod() as pod:
        given = pod.macvlan("eth0", "ens192", *BOTH)
        first = await ground.run("ADD", pod, "eth0", given)
        before = ground.everything(pod)

        second = await ground.run("ADD", pod, "eth0", given)

        assert first == second
        assert before == ground.everything(pod)


async def test_add_check_delete(ground: Stage) -> None:
    """
    Two NICs, both families: CHECK agrees after ADD.

    After the DELs, the last NIC's first, node and pod are as before.
    """
    dual(ground)
    await ground.warm_up("10.6.0.99/16", "fd00:6::99/64")
    with ground.pod() as pod:
        eth0 = pod.macvlan("eth0", "ens192", *BOTH)
        empty = ground.everything(pod)
        await ground.run("ADD", pod, "eth0", eth0)
        net1 = pod.macvlan("net1", "ens224", "10.7.168.173/16", "fd00:7::173/64")
        await ground.run("ADD", pod, "net1", net1)

        for name, given in (("eth0", eth0), ("net1", net1)):
            assert await ground.run("CHECK", pod, name, given) is None
        await ground.run("DEL", pod, "net1", net1)
        pod.netns.ip("link", "delete", "net1")
        await ground.run("DEL", pod, "eth0", eth0)
        await ground.run("DEL", pod, "eth0", eth0)

        assert empty == ground.everything(pod)


async def test_overlay_delete(ground: Stage) -> None:
    """DEL of the additional NIC of an overlay pod takes back what is on eth0 and on the node."""
    await ground.warm_up("10.6.0.99/16")
    with ground.pod() as pod:
        pod.calico("10.233.100.2/32")
        before = ground.everything(pod)
        given = pod.macvlan("net1", "ens192", "10.6.212.145/16")
        await ground.run("ADD", pod, "net1", given)
        assert await ground.run("CHECK", pod, "net1", given) is None

        await ground.run("DEL", pod, "net1", given)
        pod.netns.ip("link", "delete", "net1")

        assert before == ground.everything(pod)


BREAKS: dict[str, tuple[str, Callable[[Stage, PodNics], Any]]] = {
    "route": (
        "route 10.233.0.0/18",
        lambda _, pod: pod.netns.ip("route", "delete", "10.233.0.0/18"),
    ),
    "rule": (
        "fwmark 0x1 lookup 100",
        lambda _, pod: pod.netns.ip("rule", "delete", "fwmark", "0x1"),
    ),
    "neighbour": (
        "neighbour 10.6.168.121",
        lambda _, pod: pod.netns.ip("neigh", "del", "10.6.168.121", "dev", "veth0"),
    ),
    "node route": (
        "table 500",
        lambda ground, _: ground.node.in_node("ip", "route", "flush", "table", "500"),
    ),
    "node neighbour": (
        "neighbour 10.6.168.172",
        lambda ground, pod: ground.node.in_node(
            "ip", "neigh", "del", "10.6.168.172", "dev", pod.veth
        ),
    ),
    "pair": (
        "veth pair",
        lambda ground, pod: ground.node.in_node("ip", "link", "delete", pod.veth),
    ),
    "mangle": (
        "mangle rule OUTPUT",
        lambda ground, pod: ground.node.in_node(
            "nsenter", f"--net={pod.netns.path}", "iptables", "-t", "mangle", "-F", "OUTPUT"
        ),
    ),
    "setting": (
        "rp_filter",
        lambda _, pod: ground_sysctl(pod, "net.ipv4.conf.all.rp_filter=2"),
    ),
}


async def test_check_of_the_mtu(ground: Stage) -> None:
    """CHECK names the ends of the pair whose MTU is not the one that is asked for, in the pod and on the node."""
    with ground.pod() as pod:
        given = pod.macvlan("eth0", "ens192", "10.6.168.172/16")
        await ground.run("ADD", pod, "eth0", given, vethMTU=1400)
        assert await ground.run("CHECK", pod, "eth0", given, vethMTU=1400) is None

        with pytest.raises(
            CheckFailed,
            match=rf"2 missing or wrong: MTU 1500 of veth0 \(pod\), which has 1400; .*{pod.veth}",
        ):
            await ground.run("CHECK", pod, "eth0", given)


def ground_sysctl(pod: PodNics, words: str) -> None:
    """Set a sysctl in a pod."""
    pod.node.in_node("nsenter", f"--net={pod.netns.path}", "sysctl", "-qw", words)


async def test_check_misses(ground: Stage) -> None:
    """
    CHECK names each thing that is not as ADD made it.

    DEL and ADD repair it, however broken it is.
    """
    with ground.pod() as pod:
        given = pod.macvlan("eth0", "ens192", "10.6.168.172/16")
        await ground.run("ADD", pod, "eth0", given)

        for words, harm in BREAKS.values():
            harm(ground, pod)
            with pytest.raises(CheckFailed, match=words):
                await ground.run("CHECK", pod, "eth0", given)
            await ground.run("DEL", pod, "eth0", given)
            await ground.run("ADD", pod, "eth0", given)
            assert await ground.run("CHECK", pod, "eth0", given) is None
            assert 3 == len(pod.mangle())


async def test_delete_without_namespace(ground: Stage) -> None:
    """When the pod's namespace has no name any more, DEL removes the node's end of the pair by the container's ID."""
    with ground.pod() as pod:
        await ground.run("ADD", pod, "eth0", pod.macvlan("eth0", "ens192", "10.6.168.172/16"))
        keeper = Namespaces.network(pod.netns.path)
        call = ground.call("DEL", pod, "eth0")
    with keeper:
        assert pod.veth in ground.node_links()

        assert await ground.plugin(call, ground.node.peer) == ""
        assert pod.veth not in ground.node_links()
        assert set() == ground.node_routes()


async def test_policy_route_to_nowhere(ground: Stage) -> None:
    """
    A policy route whose gateway is in no network of the pod is left out and told.

    The pod has the rest.
    """
    told: list[tuple[str, str]] = []
    ground.plugin = CoordinatorPlugin(
        ground.configs, report=lambda pod, text: told.append((pod.name, text))
    )
    policies = [{"dst": "10.99.0.0/16", "gw": gw} for gw in ("192.0.2.1", "10.6.0.1")]
    with ground.pod() as pod:
        given = pod.macvlan("eth0", "ens192", "10.6.168.172/16")
        await ground.run("ADD", pod, "eth0", given, policyRoutes=policies)

        assert "10.99.0.0/16 via 10.6.0.1 dev eth0" in pod.routes()
    text = "policyRoutes: 10.99.0.0/16 via 192.0.2.1 is left out on eth0: 192.0.2.1 is in no network of eth0"
    assert [("p1", text)] == told


async def test_failed_add_leaves_nothing(ground: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refusal at any step, or a program that is missing, takes back all that was made."""
    believe_every_gateway(monkeypatch)
    await ground.warm_up("10.6.0.99/16")
    with ground.pod() as pod:
        given = pod.macvlan("eth0", "ens192", "10.6.168.172/16")
        before = ground.everything(pod)

        with pytest.raises(
            SpiderpoolError, match=r"cannot add route 10\.99\.0\.0/16 via 192\.0\.2\.1"
        ):
            await ground.run(
                "ADD", pod, "eth0", given, policyRoutes=[{"dst": "10.99.0.0/16", "gw": "192.0.2.1"}]
            )
        assert before == ground.everything(pod)

        monkeypatch.setattr("spiderpool.agent.coordinator.mangle_rules.FOLDERS", ("/nowhere",))
        with pytest.raises(SpiderpoolError, match="iptables-restore"):
            await ground.run("ADD", pod, "eth0", given)
        monkeypatch.undo()
        assert before == ground.everything(pod)

        await ground.run("ADD", pod, "eth0", given)
        assert pod.mangle()


async def test_cancelled_add_leaves_nothing(ground: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A caller that hangs up in the middle, or a DEL of the same container.

    What was made is taken back.
    """
    reached = asyncio.Event()
    loop = asyncio.get_running_loop()
    real = kernel.change_node

    def slow(*args: Any) -> None:
        real(*args)
        loop.call_soon_threadsafe(reached.set)

    monkeypatch.setattr(kernel, "change_node", slow)
    with ground.pod() as pod:
        given = pod.macvlan("eth0", "ens192", "10.6.168.172/16")
        before = ground.everything(pod)
        adding = asyncio.create_task(ground.run("ADD", pod, "eth0", given))
        await reached.wait()

        adding.cancel()
        with pytest.raises(asyncio.CancelledError):
            await adding
        await ground.run("DEL", pod, "eth0")

        rules = ground.node_rules()
        after = ground.everything(pod)
        assert [before[index] for index in range(len(before)) if before[index] != after[index]] == [
            rules - {"1000: lookup 500"}
        ] * ("1000: lookup 500" in rules)


async def test_settings(ground: Stage) -> None:
    """
    MAC, queue, rp_filter, MTU and address of veth0 are the pod's.

    The result has the NIC's new MAC.
    """
    with ground.pod() as pod:
        given = pod.macvlan("eth0", "ens192", "10.6.212.202/16")
        wished = {
            "podMACPrefix": "0a:1b",
            "txQueueLen": 2000,
            "podRPFilter": 2,
            "vethMTU": 1400,
            "vethLinkAddress": "169.254.100.1",
            "hostRuleTable": 600,
        }

        result = await ground.run("ADD", pod, "eth0", given, **wished)

        assert result["interfaces"][0]["mac"] == "0a:1b:0a:06:d4:ca" == pod.mac("eth0")
        assert "qlen 2000" in pod.netns.ip("link", "show", "eth0")
        assert "mtu 1400" in pod.netns.ip("link", "show", "veth0")
        assert "mtu 1400" in ground.node.in_node("ip", "link", "show", pod.veth)
        assert "169.254.100.1/32" in pod.netns.ip("addr", "show", "veth0")
        rp_filter = ground.node.in_node(
            "nsenter", f"--net={pod.netns.path}", "sysctl", "-n", "net.ipv4.conf.all.rp_filter"
        )
        assert "2" == rp_filter.strip()
        assert {f"10.6.212.202 dev {pod.veth} scope link"} == ground.node_routes(600)
        assert "1000: lookup 600" in ground.node_rules()
        await ground.run("DEL", pod, "eth0", given, **wished)
        assert set() == ground.node_routes(600)


async def test_refusals(ground: Stage) -> None:
    """Calls that cannot be served are refused with a code and a sentence, and touch nothing."""
    with ground.pod() as pod:
        given = pod.macvlan("eth0", "ens192", "10.6.168.172/16")
        before = ground.everything(pod)

        with pytest.raises(InvalidRequest, match="prevResult is missing"):
            await ground.run("ADD", pod, "eth0")
        with pytest.raises(InvalidRequest, match="unknown tuneMode: tunnel"):
            await ground.run("ADD", pod, "eth0", given, mode="tunnel")
        with pytest.raises(InvalidRequest, match="interface net7 is not in the pod"):
            await ground.run("ADD", pod, "net7", given)
        with pytest.raises(InvalidRequest, match="vethMTU is 40"):
            await ground.run("ADD", pod, "eth0", given, vethMTU=40)
        with pytest.raises(SpiderpoolError, match="process 4194305, is gone"):
            await ground.plugin(ground.call("ADD", pod, "eth0", given), Peer(2**22 + 1, NO_FILE))
        assert given | {"dns": {}} == await ground.run("ADD", pod, "eth0", given, mode="disabled")
        assert await ground.run("CHECK", pod, "eth0", given, mode="disabled") is None
        assert before == ground.everything(pod)
        gone = ground.call("ADD", pod, "eth0", given)
    with pytest.raises(BadEnvironment, match="CNI_NETNS"):
        await ground.plugin(gone, ground.node.peer)


async def test_every_wrong_value(ground: Stage) -> None:
    """
    Whichever key has a wrong value, in the network's configuration or the cluster's.

    CNI code 7, and nothing is touched.
    """
    with ground.pod() as pod:
        given = pod.macvlan("eth0", "ens192", "10.6.168.172/16")
        before = ground.everything(pod)
        fine = ground.configs.document

        for key, value, words in WRONG:
            for document, config in ((fine, {key: value}), ({**fine, key: value}, {})):
                ground.configs.document = document
                with pytest.raises(InvalidRequest) as caught:
                    await ground.run("ADD", pod, "eth0", given, **config)
                assert (words in caught.value.message, caught.value.cni_code) == (True, 7)
        assert before == ground.everything(pod)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"mode": "overlay"}, "overlay mode on eth0, the pod's first NIC"),
        ({"podDefaultCniNic": "net9"}, "interface net9 is not in the pod"),
        ({"vethMTU": 1279}, "vethMTU is 1279, IPv6 needs 1280 or more"),
        (
            {
                "podMACPrefix": "0a:1b",
                "vethLinkAddress": "10.6.168.121",
                "hijackCIDR": ["10.6.0.0/33"],
            },
            "hijackCIDR is",
        ),
    ],
)
async def test_settings_in_conflict(ground: Stage, settings: dict[str, Any], words: str) -> None:
    """What does not go together, or not with this pod, is refused with a sentence, and pod and node are as before."""
    dual(ground)
    await ground.warm_up("10.6.0.99/16", "fd00:6::99/64")
    with ground.pod() as pod:
        given = pod.macvlan("eth0", "ens192", *BOTH)
        before = ground.everything(pod)

        with pytest.raises(SpiderpoolError) as caught:
            await ground.run("ADD", pod, "eth0", given, **settings)

        assert words in caught.value.message
        assert before == ground.everything(pod)


async def test_second_nic_refused(ground: Stage) -> None:
    """
    No free table, a NIC that is not there for the default route.

    The first NIC's layout stays as it is.
    """
    with ground.pod() as pod:
        await ground.run("ADD", pod, "eth0", pod.macvlan("eth0", "ens192", "10.6.168.172/16"))
        given = pod.macvlan("net1", "ens224", "10.7.168.173/16")
        before = ground.everything(pod)
        with pytest.raises(InvalidRequest, match="podDefaultRouteNIC: net2 don't exist in pod"):
            await ground.run("ADD", pod, "net1", given, podDefaultRouteNic="net2")
        with pytest.raises(InvalidRequest, match="the pod has veth0 of underlay mode"):
            await ground.run("ADD", pod, "net1", given, mode="overlay")
        assert before == ground.everything(pod)

        pod.fill_tables(101, 252)
        before = ground.everything(pod)
        with pytest.raises(
            InvalidRequest, match="no free routing table in the pod: 101 to 252 are in use"
        ):
            await ground.run("ADD", pod, "net1", given)
        assert before == ground.everything(pod)


async def test_stale_on_the_node(ground: Stage) -> None:
    """
    What the node knows of the address from a pod before goes, with or without the rule.

    The new pod's is permanent.
    """
    ground.node.in_node("ip", "route", "add", "10.6.168.172", "dev", "ens192", "table", "500")
    ground.node.in_node(
        "ip", "neigh", "add", "10.6.168.172", "lladdr", "02:00:00:00:00:09", "dev", "ens192"
    )
    with ground.pod() as pod:
        await ground.run("ADD", pod, "eth0", pod.macvlan("eth0", "ens192", "10.6.168.172/16"))

        assert {f"10.6.168.172 dev {pod.veth} scope link"} == ground.node_routes()
        lines = ground.node.in_node("ip", "neigh", "show", "10.6.168.172").splitlines()
        assert [f"10.6.168.172 dev {pod.veth} lladdr {pod.mac('veth0')} PERMANENT"] == [
            " ".join(line.split()) for line in lines
        ]


STRANGERS = """
for i in $(seq 1 40); do
    echo link add stranger$i link ens192 type macvlan; echo link set stranger$i up
    echo addr add fe80::$i/64 dev stranger$i
done
for i in $(seq 1 250); do
    echo neigh add 10.6.200.$i lladdr 02:00:00:00:00:09 dev ens192
    echo route add 10.9.0.$i/32 dev ens192; echo route add 10.9.1.$i/32 dev ens192 table 500
done
"""

STRANGERS_COUNT = 40 * 3 + 250 * 3


async def test_strangers_cost_nothing(ground: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Links, neighbours and routes of the node that have to do with no pod are not decoded in an ADD, a CHECK or a DEL."""
    decoded: list[int] = []

    def counting(data: bytes, offset: int) -> dict[int, bytes]:
        decoded.append(len(data))
        return attributes(data, offset)

    async def all_calls() -> int:
        decoded.clear()
        with ground.pod() as pod:
            given = pod.macvlan("eth0", "ens192", "10.6.168.172/16")
            for command in ("ADD", "CHECK", "DEL"):
                await ground.run(command, pod, "eth0", given)
        return len(decoded)

    monkeypatch.setattr(rtnetlink_objects, "attributes", counting)
    await all_calls()  # makes what all pods share
    alone = await all_calls()
    ground.node.in_node("sh", "-c", f"({STRANGERS}) | ip -b -")

    # the kernel makes addresses of the pod's own in its own time
    assert await all_calls() < alone + STRANGERS_COUNT / 10


async def talk(
    inside: Namespaces, ip: str, port: int, source: str = "", wait_s: float = 5
) -> bytes:
    """Send some kilobytes and give what comes back."""

    def connect() -> bytes:
        family = socket.AF_INET6 if ":" in ip else socket.AF_INET
        with socket.socket(family) as client:
            client.settimeout(wait_s)
            if source:
                client.bind((source, 0))
            client.connect((ip, port))
            client.sendall(b"x" * 3000)
            client.shutdown(socket.SHUT_WR)
            answer = b""
            while part := client.recv(4096):
                answer += part
        return answer

    return await inside.run(connect)


async def serve_once(inside: Namespaces, ip: str, port: int) -> asyncio.Task[str]:
    """Answer one connection inside; gives who came."""

    def listen() -> socket.socket:
        return socket.create_server(
            (ip, port), family=socket.AF_INET6 if ":" in ip else socket.AF_INET
        )

    server = await inside.run(listen)

    def answer() -> str:
        with server:
            server.settimeout(10)
            connection, source = server.accept()
            with connection:
                while connection.recv(4096):
                    pass
                connection.sendall(b"y" * 4000)
            return str(source[0])

    return asyncio.create_task(asyncio.to_thread(answer))


@pytest.mark.parametrize("family", [4, 6])
async def test_node_and_pod_reach_each_other(ground: Stage, family: int) -> None:
    """
    The node reaches a macvlan pod, and the pod the node, both through the pair.

    A pod reaches another directly.
    """
    dual(ground)
    with ground.pod() as one, ground.pod("c" * 20) as two:
        for pod, last in ((one, "172"), (two, "173")):
            given = pod.macvlan("eth0", "ens192", f"10.6.168.{last}/16", f"fd00:6::{last}/64")
            await ground.run("ADD", pod, "eth0", given)
        ip, other = (
            ("10.6.168.172", "10.6.168.173") if family == 4 else ("fd00:6::172", "fd00:6::173")
        )
        node_ip = "10.6.168.121" if family == 4 else "fd00:6::121"
        with (
            Namespaces.network(one.netns.path) as first,
            Namespaces.network(two.netns.path) as neighbour,
            Namespaces.of_process(ground.node.pid, "net") as node,
        ):
            coming = await serve_once(first, ip, 8080)
            assert 4000 == len(await talk(node, ip, 8080))
            assert node_ip == await coming
            coming = await serve_once(node, node_ip, 8081)
            assert 4000 == len(await talk(first, node_ip, 8081))
            assert ip == await coming
            coming = await serve_once(first, ip, 8082)
            assert 4000 == len(await talk(neighbour, ip, 8082))
            assert other == await coming
        marked = ground.node.in_node(
            "nsenter", f"--net={one.netns.path}", "conntrack", "-f", f"ipv{family}", "-L"
        )
        assert [line for line in marked.splitlines() if "dport=8080" in line and "mark=1" in line]


async def test_family_of_the_second_nic_alone(ground: Stage) -> None:
    """
    IPv6 on net1 alone.

    The node and the pod reach each other by the pair in that family too, others by net1's gateway.
    """
    dual(ground)
    with ground.pod() as pod:
        await ground.run("ADD", pod, "eth0", pod.macvlan("eth0", "ens192", "10.6.168.172/16"))
        await ground.run(
            "ADD", pod, "net1", pod.macvlan("net1", "ens224", "10.7.168.173/16", "fd00:7::173/64")
        )

        with (
            Namespaces.network(pod.netns.path) as inside,
            Namespaces.of_process(ground.node.pid, "net") as node,
        ):
            coming = await serve_once(inside, "fd00:7::173", 8080)
            assert 4000 == len(await talk(node, "fd00:7::173", 8080))
            assert "fd00:7::71" == await coming
            coming = await serve_once(node, "fd00:6::121", 8081)
            assert 4000 == len(await talk(inside, "fd00:6::121", 8081))
            assert "fd00:7::173" == await coming
        assert "via fd00:7::1 dev net1" in pod.netns.ip("-6", "route", "get", "2001:db8::1")


async def test_what_enters_by_veth0_is_answered_by_it(ground: Stage) -> None:
    """
    A client from elsewhere that the node forwards without changing its address (NodePort, policy Local) is answered.

    The pod's default route does not lead back to it; without the mangle rules exactly that flow
    fails.
    """
    with ground.pod() as pod:
        given = pod.macvlan("eth0", "ens192", "10.6.168.172/16", gateways=False)
        pod.netns.ip("route", "add", "default", "via", "10.6.0.77", "dev", "eth0")  # nobody
        await ground.run("ADD", pod, "eth0", given)
        ground.switch.ip(
            "route",
            "add",
            "10.6.168.172",
            "via",
            "10.7.168.71",
            "dev",
            "brens224",
            "src",
            "10.7.0.1",
        )
        with (
            Namespaces.network(pod.netns.path) as inside,
            Namespaces.network(ground.switch.path) as client,
        ):
            coming = await serve_once(inside, "10.6.168.172", 8080)
            assert 4000 == len(await talk(client, "10.6.168.172", 8080, "10.7.0.1"))
            assert "10.7.0.1" == await coming

            ground.node.in_node(
                "nsenter", f"--net={pod.netns.path}", "iptables", "-t", "mangle", "-F"
            )
            with pytest.raises(TimeoutError):
                await talk(client, "10.6.168.172", 8081, "10.7.0.1", wait_s=0.5)
