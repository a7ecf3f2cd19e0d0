"""All forms in which kubeadm and kube-controller-manager say the cluster's CIDRs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiderpool.datapath.control_plane_cidrs import (
    ClusterCidrs,
    Started,
    read_kubeadm,
    read_manager,
    valid_cidrs,
)

PODS, SERVICES = ("10.233.64.0/18",), ("10.233.0.0/18",)
BOTH = ClusterCidrs(PODS, SERVICES)
DUAL = ClusterCidrs((*PODS, "fd85:ee78:d8a6:8607::1:0/112"), (*SERVICES, "fd85:ee78::/112"))
FLAGS = "--cluster-cidr=10.233.64.0/18 --service-cluster-ip-range=10.233.0.0/18"
CONTINUED = FLAGS.replace(" ", " \\\n  ")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(
            "networking:\n  podSubnet: 10.233.64.0/18\n  serviceSubnet: 10.233.0.0/18\n",
            BOTH,
            id="plain",
        ),
        pytest.param(
            "networking:\n  podSubnet: 10.233.64.0/18 # nodes take /24\n  serviceSubnet: '10.233.0.0/18'\n",
            BOTH,
            id="a comment and quotes",
        ),
        pytest.param(
            "networking:\n  #podSubnet: 10.1.0.0/16\n  podSubnet: 10.233.64.0/18\n  serviceSubnet: 10.233.0.0/18\n",
            BOTH,
            id="a former value in a comment",
        ),
        pytest.param(
            'networking:\n  podSubnet: "10.233.64.0/18, fd85:ee78:d8a6:8607::1:0/112"\n'
            "  serviceSubnet: 10.233.0.0/18,fd85:ee78::/112\n",
            DUAL,
            id="a blank behind the comma",
        ),
        pytest.param(
            "networking:\n  podSubnet: >-\n    10.233.64.0/18,\n    fd85:ee78:d8a6:8607::1:0/112\n"
            "  serviceSubnet: 10.233.0.0/18,fd85:ee78::/112\n",
            DUAL,
            id="a folded text",
        ),
        pytest.param(
            'networking: {podSubnet: 10.233.64.0/18, serviceSubnet: "10.233.0.0/18"}',
            BOTH,
            id="an object on one line",
        ),
        pytest.param(
            '{"kind": "ClusterConfiguration", "networking": {"podSubnet": "10.233.64.0/18", "serviceSubnet": "10.233.0.0/18"}}',
            BOTH,
            id="JSON",
        ),
        pytest.param(
            "kind: InitConfiguration\nnetworking: {podSubnet: 10.9.0.0/16}\n---\napiVersion: kubeadm.k8s.io/v1beta9\n"
            "kind: ClusterConfiguration\nnetworking: {podSubnet: 10.233.64.0/18, serviceSubnet: 10.233.0.0/18}\n---\n",
            BOTH,
            id="several documents and a version of tomorrow",
        ),
        pytest.param(
            "etcd: {podSubnet: 10.8.0.0/16}\nnetworking: {podSubnet: 10.233.64.0/18, serviceSubnet: 10.233.0.0/18}",
            BOTH,
            id="the key elsewhere",
        ),
        pytest.param(
            "networking:\r\n  podSubnet: 10.233.64.0/18\r\n  serviceSubnet: 10.233.0.0/18\r\n",
            BOTH,
            id="CRLF",
        ),
        pytest.param(
            "networking: {podSubnet: '', serviceSubnet: 10.233.0.0/18}",
            ClusterCidrs((), SERVICES),
            id="empty",
        ),
        pytest.param("networking:\n", ClusterCidrs(), id="nothing below"),
        pytest.param(
            "controllerManager: {extraArgs: {cluster-cidr: 10.233.64.0/18}}\n"
            "apiServer: {extraArgs: {service-cluster-ip-range: 10.233.0.0/18}}\n",
            BOTH,
            id="flags of v1beta3",
        ),
        pytest.param(
            "controllerManager: {extraArgs: [{name: cluster-cidr, value: 10.233.64.0/18},"
            " {name: service-cluster-ip-range, value: 10.233.0.0/18}, {name: [x], value: 1}, 5]}\nnetworking: {podSubnet: ''}",
            BOTH,
            id="flags of v1beta4",
        ),
        pytest.param(
            "controllerManager: {extraArgs: {cluster-cidr: 10.1.0.0/16}}\n"
            "networking: {podSubnet: 10.233.64.0/18, serviceSubnet: 10.233.0.0/18}\n",
            BOTH,
            id="networking before flags",
        ),
        pytest.param("", ClusterCidrs(), id="no document"),
    ],
)
def test_kubeadm(text: str, expected: ClusterCidrs) -> None:
    """Every form of YAML is read."""
    assert expected == read_kubeadm(text)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("networking: {podSubnet: 10.233.64.0/18,\n  serviceSubnet: [", "is not YAML: line 2: "),
        ("[networking]", "a document is not an object"),
        (
            "kind: InitConfiguration\nnetworking: {podSubnet: 10.9.0.0/16}",
            "no document is of that kind",
        ),
        (
            "created: 2026-13-01\nnetworking: {podSubnet: 10.233.64.0/18}",
            "is not YAML: month must be in 1..12",
        ),
        ("networking: 10.233.64.0/18", "networking is not an object"),
        ("networking: {podSubnet: [10.233.64.0/18]}", "podSubnet is not a text"),
        (
            "networking: {podSubnet: 10.233.64.0}",
            'podSubnet: "10.233.64.0" is not a CIDR and is left out',
        ),
    ],
)
def test_kubeadm_not_readable(text: str, problem: str) -> None:
    """What cannot be read is named, and nothing is taken from it."""
    found = read_kubeadm(text)

    assert ((), ()) == (found.pods, found.services)
    assert [True] == [problem in told for told in found.problems]
    assert found.problems[0].startswith("ConfigMap kubeadm-config, ClusterConfiguration")


def test_kubeadm_read_in_part() -> None:
    """Of a list what can be read stays, and the rest is named."""
    found = read_kubeadm(
        "networking: {podSubnet: '10.233.64.0/18,nonsense', serviceSubnet: 10.233.0.0/18}"
    )

    assert (PODS, SERVICES) == (found.pods, found.services)
    assert (
        'ConfigMap kubeadm-config, ClusterConfiguration: podSubnet: "nonsense" is not a CIDR and is left out',
    ) == (found.problems)


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(["kube-controller-manager", *FLAGS.split(), "--v=2"], id="--flag=value"),
        pytest.param(
            [
                "kube-controller-manager",
                "--cluster-cidr",
                PODS[0],
                "--service-cluster-ip-range",
                SERVICES[0],
            ],
            id="--flag value",
        ),
        pytest.param(
            ["kcm", "--cluster_cidr=10.233.64.0/18", "--service_cluster_ip_range", SERVICES[0]],
            id="underscores",
        ),
        pytest.param(
            ["kcm", "--cluster-cidr=10.9.0.0/16", *FLAGS.split()], id="the last one counts"
        ),
        pytest.param(
            ["/bin/sh", "-c", f"exec kube-controller-manager {FLAGS} --v=2"], id="a shell's line"
        ),
        pytest.param(
            ["sh", "-c", f"kube-controller-manager \\\n  {CONTINUED} 2>&1 | tee /var/log/kcm.log"],
            id="continued lines and a pipe",
        ),
        pytest.param(
            ["sh", "-c", f"# don't --cluster-cidr=10.9.0.0/16\nkcm --x='#1 \"' {FLAGS};exit"],
            id="a comment of the shell",
        ),
        pytest.param(
            [
                "sh",
                "-c",
                "kcm --cluster-cidr=\"10.233.64.0/18\" --service-cluster-ip-range '10.233.0.0/18'",
            ],
            id="quotes",
        ),
        pytest.param(
            ["kcm", "--cluster-cidr=$(PODS)", "--service-cluster-ip-range", "$(SERVICES)"],
            id="kubelet's variables",
        ),
        pytest.param(
            ["sh", "-c", "kcm --cluster-cidr=${PODS} --service-cluster-ip-range=$SERVICES"],
            id="the shell's variables",
        ),
        pytest.param(["sh", "-c", 'exec kcm --v=2 "$FLAGS" --x'], id="flags in a variable"),
        pytest.param(["sh", "-c", "exec kcm ${FLAGS}"], id="flags in a variable alone"),
    ],
)
def test_manager(words: list[str]) -> None:
    """Every form of a command line is read."""
    env = {"PODS": PODS[0], "SERVICES": SERVICES[0], "FLAGS": FLAGS}

    assert BOTH == read_manager([Started(tuple(words), env)])


def test_manager_of_two_families() -> None:
    """Lists are split at commas."""
    words = (
        "--cluster-cidr=10.1.0.0/16,fd00::/48",
        "--service-cluster-ip-range=10.2.0.0/16,fd01::/112",
    )

    expected = ClusterCidrs(("10.1.0.0/16", "fd00::/48"), ("10.2.0.0/16", "fd01::/112"))
    assert expected == read_manager([Started(words, {})])


def test_manager_beside_others() -> None:
    """
    The container that says something counts, wherever it stands.

    The manager's own comes first.
    """
    proxy = Started(("proxy", "--listen=:1"), {}, "proxy")
    other = Started(("other", "--cluster-cidr=10.9.0.0/16"), {}, "other")
    manager = Started(tuple(FLAGS.split()), {}, "kube-controller-manager")

    assert BOTH == read_manager([proxy, manager])
    assert BOTH == read_manager([other, manager])
    assert ClusterCidrs() == read_manager([proxy])
    assert ClusterCidrs() == read_manager([])


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (
            ["--cluster-cidr=$(FROM_A_SECRET)"],
            "--cluster-cidr is $(FROM_A_SECRET), and its pod does not say",
        ),
        (["sh", "-c", "exec kcm $FLAGS"], "its command line has $FLAGS, and its pod does not say"),
        (["sh", "-c", "kcm --cluster-cidr $PODS"], "--cluster-cidr is $PODS, and its pod does not"),
        (["sh", "-c", "kcm --cluster-cidr=${A:-10.0.0.0/8}"], "--cluster-cidr is ${A:-10.0.0.0/8}"),
        (
            ["sh", "-c", 'kcm --v=2 "--cluster-cidr=10.0.0.0/8'],
            "its command line is not readable: No closing quotation",
        ),
        (
            ["--cluster-cidr", "10.0.0.0"],
            '--cluster-cidr: "10.0.0.0" is not a CIDR and is left out',
        ),
    ],
)
def test_manager_not_readable(words: list[str], problem: str) -> None:
    """What cannot be read is named."""
    (told,) = read_manager([Started(tuple(words), {})]).problems

    assert told.startswith("kube-controller-manager: ")
    assert problem in told


def test_each_fills_in_for_the_other() -> None:
    """What one source leaves open another may say, and all that was odd is kept."""
    one, two = ClusterCidrs(PODS, (), ("a",)), ClusterCidrs(("10.9.0.0/16",), SERVICES, ("b", "a"))

    assert ClusterCidrs(PODS, SERVICES, ("a", "b")) == one.or_else(two)


@given(st.lists(st.ip_addresses(v=4).map(lambda ip: f"{ip}/24") | st.text(max_size=5), max_size=5))
def test_valid_cidrs(items: list[str]) -> None:
    """What is left is a part of what was there, in its order, each once, and nothing more is taken from it."""
    found = valid_cidrs(items)

    assert found == valid_cidrs(found)
    assert list(found) == [item for item in dict.fromkeys(items) if item in found]


@given(st.text(max_size=80))
def test_any_text(text: str) -> None:
    """No text of either source ends in anything but an answer."""
    read_kubeadm(text)
    read_manager([Started(("sh", "-c", f"a --{text}"), {})])
