"""CNI calls: what is read, what is refused, and with which code."""

from __future__ import annotations

import contextlib
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiderpool.cni.request import (
    DEFAULT_SOCKET,
    CniArgs,
    CniRequest,
    IpamConfig,
    ipam_config,
    parse_args,
    parse_call,
    requested_version,
    wanted_ips,
)
from spiderpool.errors import BadEnvironment, InvalidRequest, SpiderpoolError
from spiderpool.model.link_names import valid_ifname

ENV = {
    "CNI_COMMAND": "ADD",
    "CNI_CONTAINERID": "c1",
    "CNI_NETNS": "/run/netns/x",
    "CNI_IFNAME": "eth0",
    "CNI_ARGS": "IgnoreUnknown=1;K8S_POD_NAMESPACE=ns;K8S_POD_NAME=p;K8S_POD_INFRA_CONTAINER_ID=c1;K8S_POD_UID=u",
    "CNI_PATH": "/opt/cni/bin",
    "PATH": "/bin",
}
CONFIG = {"cniVersion": "1.0.0", "name": "net", "type": "macvlan", "ipam": {"type": "spiderpool"}}


def request(*, plugin: str = "spiderpool", config: Any = None, **env: Any) -> CniRequest:
    """Make a request; None removes a variable."""
    merged = {key: value for key, value in {**ENV, **env}.items() if value is not None}
    return CniRequest(plugin, merged, CONFIG if config is None else config)


def test_whole_call() -> None:
    """A call carries what the runtime said."""
    call = parse_call(request())

    assert ("spiderpool", "ADD", "c1", "/run/netns/x", "eth0", "/opt/cni/bin", "1.0.0", "net") == (
        call.plugin,
        call.command,
        call.container_id,
        call.netns,
        call.ifname,
        call.path,
        call.cni_version,
        call.network,
    )
    assert ("ns", "p", "c1", "u") == (
        call.args.namespace,
        call.args.name,
        call.args.infra_container_id,
        call.args.uid,
    )


@pytest.mark.parametrize(
    ("env", "code", "words"),
    [
        ({"CNI_COMMAND": None}, 4, "[CNI_COMMAND] missing"),
        ({"CNI_COMMAND": "add"}, 4, "CNI_COMMAND is 'add'"),
        (
            {"CNI_CONTAINERID": None, "CNI_NETNS": None, "CNI_IFNAME": ""},
            4,
            "[CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME]",
        ),
        ({"CNI_CONTAINERID": "../x"}, 4, "CNI_CONTAINERID"),
        ({"CNI_IFNAME": "a/b"}, 4, "CNI_IFNAME"),
        ({"CNI_IFNAME": "0123456789abcdef"}, 4, "CNI_IFNAME"),
        ({"CNI_ARGS": "X=1"}, 4, "unknown keys X"),
        ({"CNI_ARGS": "IgnoreUnknown=perhaps"}, 4, "IgnoreUnknown"),
        ({"CNI_ARGS": "IgnoreUnknown=1;K8S_POD_NAME"}, 4, "K8S_POD_NAME"),
        ({"CNI_ARGS": "IP=10.0.0.256"}, 4, "10.0.0.256"),
        ({"CNI_COMMAND": "GC", "CNI_PATH": None}, 4, "CNI_PATH"),
    ],
)
def test_environment_refused(env: dict[str, str | None], code: int, words: str) -> None:
    """A missing or malformed variable is named, code 4."""
    with pytest.raises(SpiderpoolError) as refusal:
        parse_call(request(**dict[str, Any](env)))

    assert code == refusal.value.cni_code
    assert words in refusal.value.message


@pytest.mark.parametrize(
    ("config", "code", "words"),
    [
        ([], 6, "write a JSON object"),
        ({**CONFIG, "cniVersion": 1}, 6, "cniVersion is the number 1"),
        (
            {**CONFIG, "cniVersion": "0.2.0"},
            1,
            "'0.2.0', spiderpool supports 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0",
        ),
        ({"name": "net"}, 1, "'0.1.0'"),
        ({**CONFIG, "cniVersion": "2.0.0"}, 1, "incompatible CNI versions"),
        ({**CONFIG, "name": ""}, 7, "no name"),
        ({**CONFIG, "name": "a b"}, 7, "'a b'"),
        ({**CONFIG, "name": 5}, 7, "network name is 5"),
    ],
)
def test_configuration_refused(config: Any, code: int, words: str) -> None:
    """A configuration that cannot be used has the code of the specification."""
    with pytest.raises(SpiderpoolError) as refusal:
        parse_call(request(config=config))

    assert code == refusal.value.cni_code
    assert words in refusal.value.message


@pytest.mark.parametrize(
    ("command", "version", "known"),
    [
        ("CHECK", "0.3.1", False),
        ("CHECK", "0.4.0", True),
        ("STATUS", "1.0.0", False),
        ("STATUS", "1.1.0", True),
        ("GC", "1.0.0", False),
        ("GC", "1.1.0", True),
        ("DEL", "0.1.0", True),
    ],
)
def test_verbs_of_versions(command: str, version: str, known: bool) -> None:
    """A verb younger than the protocol version is refused with code 1."""
    asked = request(
        plugin="coordinator", config={**CONFIG, "cniVersion": version}, CNI_COMMAND=command
    )
    if known:
        assert command == parse_call(asked).command
        return
    with pytest.raises(SpiderpoolError) as refusal:
        parse_call(asked)
    assert 1 == refusal.value.cni_code


def test_delete_without_namespace() -> None:
    """DEL needs no network namespace, and a missing CNI version is the oldest."""
    call = parse_call(
        request(plugin="ifacer", config={"name": "n"}, CNI_COMMAND="DEL", CNI_NETNS=None)
    )

    assert ("", "0.1.0") == (call.netns, call.cni_version)


@pytest.mark.parametrize(
    ("config", "version"),
    [
        (CONFIG, "1.0.0"),
        ({"cniVersion": "9"}, "0.3.0"),
        ([], "0.3.0"),
        ({}, "0.3.0"),
        ({"CNIVERSION": "0.4.0"}, "0.4.0"),
    ],
)
def test_version_of_errors(config: Any, version: str) -> None:
    """An error is rendered in the requested version when there is one that we speak."""
    assert version == requested_version(request(config=config))


NAMES = st.text("abcXYZ019_-", min_size=1, max_size=8)
VALUES = st.text(st.characters(exclude_characters=";", exclude_categories=["Cs"]), max_size=12)


@given(st.dictionaries(NAMES, VALUES, max_size=6))
def test_arguments_keep_foreign_pairs(pairs: dict[str, str]) -> None:
    """Every pair survives in its order, whatever its value holds."""
    text = ";".join(f"{key}={value}" for key, value in pairs.items())

    assert (("IgnoreUnknown", "true"), *pairs.items()) == parse_args(
        f"IgnoreUnknown=true;{text}"
    ).pairs


@given(st.text(max_size=60))
def test_arguments_never_crash(text: str) -> None:
    """Any text is read, or refused with code 4."""
    with contextlib.suppress(BadEnvironment):
        assert isinstance(parse_args(text), CniArgs)


@pytest.mark.parametrize(
    ("name", "valid"),
    [
        ("eth0", True),
        ("NET_1.100", True),
        ("0123456789abcde", True),
        ("0123456789abcdef", False),
        ("ééééééé", True),  # 14 bytes
        ("éééééééé", False),
        ("", False),
        (".", False),
        ("..", False),
        ("a b", False),
        ("a:b", False),
        ("a/b", False),
        ("a\tb", False),
        ("a%d", False),  # a pattern to the kernel
        ("all", False),  # directories of sysctl
        ("default", False),
        ("a\u00a0b", False),
        ("a\x01", False),
    ],
)
def test_interface_names(name: str, valid: bool) -> None:
    """
    Names are those that kernel and libcni take.

    Source: docs/reference/meta-plugin.md#network-selections.
    """
    assert valid is valid_ifname(name)


def ipam(**keys: Any) -> IpamConfig:
    """Read an `ipam` object."""
    return ipam_config(
        parse_call(request(config={**CONFIG, "ipam": {"type": "spiderpool", **keys}}))
    )


def test_ipam_defaults() -> None:
    """An `ipam` object with its type alone has the reference's defaults."""
    assert IpamConfig() == ipam()
    assert DEFAULT_SOCKET == ipam().ipam_unix_socket_path
    assert ipam().default_ipv4_ippool is None


def test_ipam_keys() -> None:
    """All keys of the reference are read."""
    wanted = IpamConfig(
        default_ipv4_ippool=("a", "b*"),
        default_ipv6_ippool=(),
        clean_gateway=True,
        match_master_subnet=True,
        ipam_unix_socket_path="/x",
        log_level="info",
    )

    assert wanted == ipam(
        default_ipv4_ippool=["a", "b*"],
        default_ipv6_ippool=[],
        clean_gateway=True,
        match_master_subnet=True,
        ipam_unix_socket_path="/x",
        log_level="INFO",
        log_file_max_size=-1,
        log_file_path="/var/log/x",
    )


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (
            {"log_file_max_size": "100"},
            'ipam.log_file_max_size is the string "100", write a number without quotes',
        ),
        ({"clean_gateway": "true"}, 'ipam.clean_gateway is the string "true", write true or false'),
        ({"clean_gateway": 1}, "ipam.clean_gateway is the number 1, write true or false"),
        (
            {"default_ipv4_ippool": "a"},
            'ipam.default_ipv4_ippool is the string "a", write a list of strings',
        ),
        (
            {"default_ipv6_ippool": [1]},
            "ipam.default_ipv6_ippool is the list [1], write a list of strings",
        ),
        (
            {"ipam_unix_socket_path": 5},
            "ipam.ipam_unix_socket_path is the number 5, write a string",
        ),
        ({"log_level": "loud"}, "ipam.log_level is 'loud'"),
    ],
)
def test_ipam_types(keys: dict[str, Any], words: str) -> None:
    """
    A wrong type is refused with key, value and what to write; a string for a number is one.

    Source: docs/reference/cni.md#ipam-configuration.
    """
    with pytest.raises(InvalidRequest) as refusal:
        ipam(**keys)

    assert words in refusal.value.message


def test_no_ipam() -> None:
    """A configuration without `ipam` is refused."""
    with pytest.raises(InvalidRequest, match="ipam is absent"):
        ipam_config(parse_call(request(config={"cniVersion": "1.0.0", "name": "net"})))


@pytest.mark.parametrize(
    ("config", "args", "wanted"),
    [
        ({}, "", []),
        ({}, "IP=10.6.0.5", ["10.6.0.5"]),
        ({}, "IP=10.6.0.5/16,fd00::5", ["10.6.0.5", "fd00::5"]),
        ({"args": {"cni": {"ips": ["10.6.0.6/16"]}}}, "IP=10.6.0.5", ["10.6.0.6"]),
        (
            {"runtimeConfig": {"ips": ["10.6.0.7"]}, "args": {"cni": {"ips": ["10.6.0.6"]}}},
            "",
            ["10.6.0.7"],
        ),
        ({"runtimeConfig": {"ips": []}}, "IP=10.6.0.5", ["10.6.0.5"]),
    ],
)
def test_wanted_addresses(config: dict[str, Any], args: str, wanted: list[str]) -> None:
    """The capability wins over `args.cni`, which wins over CNI_ARGS."""
    call = parse_call(request(config={**CONFIG, **config}, CNI_ARGS=args))

    assert tuple(ip_address(text) for text in wanted) == wanted_ips(call)
