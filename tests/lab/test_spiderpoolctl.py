"""
`spiderpoolctl` on the lab: differences made by hand are named, and the commands that it names end them.

Kinds that the product ends by itself within a moment (pool status) or that no hand can make here
are left to the unit tests.
"""

from __future__ import annotations

import json

import pytest

from spiderlab import Lab
from spiderpool.audit.comparison import Kind
from tests.lab import audit, manifests
from tests.lab.kube import Thing
from tests.lab.manifests import DEFAULT_NETWORK, IPPOOL
from tests.lab.networks import ENS192, IPAddress
from tests.lab.retry import until, until_none
from tests.lab.story import Pod, Story

pytestmark = pytest.mark.still

NODE = "node1"


def remedy(lab: Lab, kind: Kind, subject: object) -> None:
    """Wait until the audit names a difference, run the command that it names, and wait until all agree again."""
    difference = until(
        lambda: audit.find(lab, kind, subject),
        f"the audit names {kind} {subject}",
        seen=lambda: audit.complaints(lab),
    )
    done = audit.run_command(lab, difference.remedy)
    assert done.returncode == 0, f"{difference.remedy}: {done.stdout}{done.stderr}"
    until_none(
        lambda: audit.complaints(lab),
        f"{kind} {subject} is ended by: {difference.remedy}",
        within_s=40,
    )


def record_by_hand(story: Story, ip: IPAddress, pool: str, like: Thing, **holder: str) -> None:
    """Write a SpiderIP as an agent would that lost its mind."""
    name = str(ip) if ip.version == 4 else ip.exploded.replace(":", "-")
    spec = {
        **like["spec"],
        "ip": str(ip),
        "pool": pool,
        "holder": {**like["spec"]["holder"], **holder},
    }
    story.kube.create(
        {
            "kind": "SpiderIP",
            "metadata": {"name": name, "labels": like["metadata"]["labels"]},
            "spec": spec,
        }
    )


def sip(story: Story, ip: IPAddress) -> Thing:
    """Return the record of an IPv4 address."""
    return story.kube.need("SpiderIP", str(ip))


def one_pod(story: Story, count: int = 4) -> tuple[str, Pod, IPAddress]:
    """Make a pool and a pod that has an address of it."""
    pool = story.pool("p", count=count)
    pod = story.pod(
        "pod", {DEFAULT_NETWORK: story.macvlan("lan"), IPPOOL: {"ipv4": [pool]}}, node=NODE
    )
    return pool, pod, pod.address("eth0")


def test_check(story: Story, lab: Lab) -> None:
    """The command agrees with a sound cluster, and names a difference; what it says ends it."""
    pool, pod, ip = one_pod(story)
    story.assert_clean()
    done = audit.ctl(lab, "check")
    assert (0, True) == (done.returncode, done.stdout.startswith("all agree (")), done.stdout

    story.kube.delete("SpiderEndpoint", pod.name, story.namespace)
    done = audit.ctl(lab, "check", "-o", "json")

    assert 1 == done.returncode, done.stdout
    (difference,) = json.loads(done.stdout)["differences"]
    assert ("Endpoint", f"{story.namespace}/{pod.name}") == (
        difference["kind"],
        difference["subject"],
    )
    assert f"no endpoint; held are {ip} on eth0" == difference["text"]
    remedy(lab, Kind.ENDPOINT, f"{story.namespace}/{pod.name}")

    shown = audit.ctl(lab, "ip", "show", "--pool", pool)
    assert [str(ip), pool, "Held", f"{story.namespace}/{pod.name}"] == shown.stdout.splitlines()[
        1
    ].split()[:4]
    assert f"pool {pool}: 1 held, 3 free, of 4" in shown.stdout
    refused = audit.ctl(lab, "ip", "release", "--ip", str(ip))
    assert (1, True) == (
        refused.returncode,
        f"{ip} stays with {story.namespace}/pod" in refused.stderr,
    ), refused.stderr


def test_records_that_are_wrong(story: Story, lab: Lab) -> None:
    """Records without a holder, two of one claim, another sandbox: each is named and ended."""
    pool, pod, ip = one_pod(story)
    mine = sip(story, ip)
    others = [each for each in pool_ips(story, pool) if each != ip]

    # Of nobody. The controller ends that by itself some seconds later, so it may be gone before
    # the command comes.
    record_by_hand(
        story, others[0], pool, mine, name="never-was", uid="00000000-0000-0000-0000-000000000000"
    )
    leak = until(
        lambda: audit.find(lab, Kind.LEAK, others[0]), f"the audit names the leak {others[0]}"
    )
    assert f"spiderpoolctl ip release --ip {others[0]}" == leak.remedy
    done = audit.run_command(lab, leak.remedy)
    assert done.returncode == 0 or "has no record" in done.stderr, done.stderr
    until_none(lambda: audit.complaints(lab), "the leak is given back", within_s=30)

    record_by_hand(story, others[1], pool, mine)
    remedy(lab, Kind.DUPLICATE_CLAIM, ", ".join(map(str, sorted([ip, others[1]]))))
    assert {("eth0", ip)} == story.sips_of(pod)

    story.kube.patch("SpiderIP", str(ip), {"spec": {"holder": {"containerID": "f" * 64}}})
    remedy(lab, Kind.OTHER_SANDBOX, ip)
    assert mine["spec"]["holder"]["containerID"] == sip(story, ip)["spec"]["holder"]["containerID"]


def test_interfaces_that_are_wrong(story: Story, lab: Lab) -> None:
    """
    Addresses on interfaces that nobody or somebody else holds, and held ones that are on none.

    Each is named and ended.
    """
    pool, pod, ip = one_pod(story)
    six = story.pool("six", family=6)
    stray = pool_ips(story, six)[0]

    pod.inside.run("ip", "address", "add", f"{stray}/64", "dev", "eth0", "nodad")
    remedy(lab, Kind.UNRECORDED, stray)
    assert {("eth0", ip), ("eth0", stray)} == story.sips_of(pod)

    thief = story.pod(
        "thief", {DEFAULT_NETWORK: f"{story.namespace}/lan", IPPOOL: {"ipv4": [pool]}}, node="node2"
    )
    thief.inside.run("ip", "address", "add", f"{ip}/16", "dev", "eth0")
    remedy(lab, Kind.FOREIGN, ip)
    assert thief.thing is None

    pod.inside.run("ip", "address", "delete", f"{ip}/16", "dev", "eth0")
    remedy(lab, Kind.NOT_ASSIGNED, ip)
    assert pod.thing is None


def test_a_namespace_that_is_left(story: Story, lab: Lab) -> None:
    """
    What a lost DEL leaves on a node has an address that the next pod may get.

    It is named with the node's command.
    """
    ip = pool_ips(story, story.pool("p"))[0]
    node = lab.node(NODE)
    for command in (
        "ip netns add cni-left",
        "ip -n cni-left link add eth0 type veth peer name eth1",
        f"ip -n cni-left address add {ip}/16 dev eth0",
    ):
        assert node.exec(command.split()).returncode == 0

    difference = until(lambda: audit.find(lab, Kind.UNRECORDED, ip), f"the audit names {ip}")

    assert (
        f"namespace /var/run/netns/cni-left on node {NODE}, of no pod that exists, has it on eth0; no record says so"
        == difference.text
    )
    command, _, where = difference.remedy.partition("  # ")
    assert f"on node {NODE}" == where
    assert 0 == node.exec(command.split()).returncode
    until_none(lambda: audit.complaints(lab), "the namespace is gone")


def test_pool_deleted_by_force(story: Story, lab: Lab) -> None:
    """A pod whose pool was taken away under it: it is named, and goes with the command."""
    pool, pod, ip = one_pod(story)
    story.kube.delete("SpiderIPPool", pool)
    story.kube.patch("SpiderIPPool", pool, {"metadata": {"finalizers": None}})

    remedy(lab, Kind.POOL_GONE, ip)

    assert pod.thing is None


def test_static_record_of_an_earlier_pod(story: Story, lab: Lab) -> None:
    """
    A static address that still names the pod before.

    The pod is started again and takes it over.
    """
    pool = story.pool("p")
    story.workload(
        "StatefulSet", "db", 1, {DEFAULT_NETWORK: story.macvlan("lan"), IPPOOL: {"ipv4": [pool]}}
    )
    (pod,) = story.wait_replicas("db", 1)
    ip = pod.address("eth0")
    story.kube.patch(
        "SpiderIP", str(ip), {"spec": {"holder": {"uid": "00000000-0000-0000-0000-000000000000"}}}
    )

    remedy(lab, Kind.NOT_HANDED_OVER, ip)

    (again,) = story.wait_replicas("db", 1)
    assert {("eth0", ip)} == again.inside.underlay()


def test_explain(story: Story, lab: Lab) -> None:
    """Why a pod has its address, why not another pool, and what a manifest's pod would get."""
    pool = story.pool("p")
    other = story.pool("other", nodeName=["node3"])
    annotations = {DEFAULT_NETWORK: story.macvlan("lan"), IPPOOL: {"ipv4": [other, pool]}}
    pod = story.pod("pod", annotations, node=NODE)
    ip = pod.address("eth0")

    done = audit.ctl(lab, "explain", f"{story.namespace}/pod")

    assert 0 == done.returncode, done.stderr
    assert (
        f"eth0 IPv4 (annotation {IPPOOL}): holds {ip} of {pool}, the only pool it may use"
        in done.stdout
    )
    assert f"    skipped {other}: restricted to node node3 (pod is on node1)" in done.stdout
    manifest = json.dumps(
        manifests.pod("new", story.namespace, annotations, {}, manifests.pod_spec("node3"))
        | {"apiVersion": "v1"}
    )
    dry = audit.run_command(lab, f"echo '{manifest}' | spiderpoolctl explain --dry-run -f -")
    assert f"would get an address of {other}" in dry.stdout, dry.stderr
    assert 0 == len(story.records(other))


def pool_ips(story: Story, pool: str) -> list[IPAddress]:
    """Return the addresses of a story's pool."""
    first, _, last = story.kube.need("SpiderIPPool", pool)["spec"]["ips"][0].partition("-")
    low = ENS192.network(6 if ":" in first else 4)[0].__class__(first)
    count = int(low.__class__(last or first)) - int(low) + 1
    return [low + offset for offset in range(count)]
