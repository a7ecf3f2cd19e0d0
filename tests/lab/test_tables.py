"""What `kubectl get` shows of pools, addresses and endpoints, by their short names."""

from __future__ import annotations

from tests.lab.manifests import DEFAULT_NETWORK, IPPOOLS
from tests.lab.retry import until
from tests.lab.story import Pod, Story


def table(story: Story, *words: str) -> list[list[str]]:
    """Return a table of kubectl as rows of cells; the header comes first."""
    lines = story.lab.kubectl("get", *words).splitlines()
    starts = [
        index
        for index, char in enumerate(lines[0])
        if char != " " and (index == 0 or lines[0][index - 2 : index] == "  ")
    ]
    ends = [*starts[1:], None]
    return [
        [line[start:end].strip() for start, end in zip(starts, ends, strict=True)] for line in lines
    ]


def make(story: Story) -> Pod:
    """Make a pod with an IPv4 and an IPv6 address."""
    items = [
        {"interface": "eth0", "ipv4": [story.pool("four")], "ipv6": [story.pool("six", family=6)]}
    ]
    return story.pod("pod", {DEFAULT_NETWORK: story.macvlan("lan"), IPPOOLS: items})


def test_pools_and_endpoint(story: Story) -> None:
    """`kubectl get sp` and `se` have the columns of the original, `sip` tells who has an address."""
    pod = make(story)
    story.assert_clean()
    four, six = story.pools
    v4, v6 = pod.address("eth0", 4), pod.address("eth0", 6)

    header, row = table(story, "sp", four)
    assert [
        "NAME",
        "VERSION",
        "SUBNET",
        "ALLOCATED-IP-COUNT",
        "TOTAL-IP-COUNT",
        "DEFAULT",
    ] == header
    assert [four, "4", "10.6.0.0/16", "1", "4", "false"] == row
    wide, _ = table(story, "sp", six, "-o", "wide")
    assert ["DISABLE", "NODENAME", "MULTUSNAME", "APP-NAMESPACE"] == [
        name.upper() for name in wide[6:]
    ]

    header, row = table(story, "se", "-n", story.namespace)
    assert ["NAME", "INTERFACE", "IPV4POOL", "IPV4", "IPV6POOL", "IPV6", "NODE"] == header
    assert ["pod", "eth0", four, f"{v4}/16", six, f"{v6}/64", "node1"] == row

    header, row = table(story, "sip", str(v4))
    shown = dict(zip(header, row, strict=True))
    assert str(v4) == shown["NAME"]
    assert (four, story.namespace, "pod", "eth0", "node1") == tuple(
        shown[name] for name in ("POOL", "NAMESPACE", "POD", "NIC", "NODE")
    )
    assert shown["AGE"]
    name6 = "-".join(v6.exploded.split(":"))
    assert str(v6) in " ".join(table(story, "sip", name6)[1])


def test_reserved_addresses(story: Story) -> None:
    """`kubectl get sr` shows the family."""
    name = story.reserve("r", "fd00:6::be:1")

    assert [["NAME", "VERSION"], [name, "6"]] == table(story, "sr", name)


def test_category(story: Story) -> None:
    """`kubectl get spiderpool` lists every kind."""
    make(story)

    def kinds() -> bool:
        names = story.lab.kubectl("get", "spiderpool", "-n", story.namespace, "-o", "name").split()
        return {"spiderippool", "spiderendpoint", "spiderip"} <= {
            name.partition(".")[0] for name in names
        }

    until(kinds, "pools, endpoints and addresses are listed", within_s=10)
