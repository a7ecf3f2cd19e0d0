"""Annotations that users write, and what becomes of them by slips of the hand."""

from __future__ import annotations

import json
from random import Random
from typing import Any, Final

IPPOOLS: Final = "ipam.spidernet.io/ippools"
IPPOOL: Final = "ipam.spidernet.io/ippool"
SUBNETS: Final = "ipam.spidernet.io/subnets"
SUBNET: Final = "ipam.spidernet.io/subnet"
NUMBER: Final = "ipam.spidernet.io/ippool-ip-number"
RECLAIM: Final = "ipam.spidernet.io/ippool-reclaim"
IP: Final = "ipam.spidernet.io/ip"
ROUTES: Final = "ipam.spidernet.io/routes"
NETWORKS: Final = "k8s.v1.cni.cncf.io/networks"
DEFAULT_NETWORK: Final = "v1.multus-cni.io/default-network"
NAMESPACE_POOLS: Final = "ipam.spidernet.io/default-ipv4-ippool"

# Each is right as it stands.
VALID: Final = (
    (
        IPPOOLS,
        '[{"interface":"eth0","ipv4":["blue"],"ipv6":["six"],"cleangateway":true},{"interface":"net1","ipv4":["b*"]}]',
    ),
    (IPPOOLS, '[{"ipv4":["blue"]},{"ipv4":["blue","red"]}]'),
    (IPPOOL, '{"ipv4":["blue","red"],"ipv6":["six"]}'),
    (IPPOOL, '{"ipv4":["b[a-z]ue?"]}'),
    (
        SUBNETS,
        '[{"interface":"eth0","ipv4":["s1"],"ipv6":["s6"]},{"interface":"net1","ipv4":["s2"]}]',
    ),
    (SUBNET, '{"interface":"eth0","ipv4":["s1"]}'),
    (NUMBER, "+1"),
    (NUMBER, "5"),
    (RECLAIM, "false"),
    (IP, "10.6.0.10"),
    (IP, "10.6.0.10,fd00::10"),
    (IP, '["10.6.0.10-10.6.0.12","fd00::10-fd00::12"]'),
    (IP, '[{"interface":"eth0","ipv4":["10.6.0.10"]},{"interface":"net1","ipv6":["fd00::10"]}]'),
    (ROUTES, '[{"dst":"10.0.0.0/16","gw":"10.6.0.1"},{"dst":"fd01::/64","gw":"fd00::1"}]'),
    (NETWORKS, "kube-system/macvlan1@net1, macvlan2"),
    (
        NETWORKS,
        '[{"name":"lan","namespace":"ns","interface":"net1","ips":["10.6.0.10/16"],"mac":"0a:00:00:00:00:01"}]',
    ),
    (DEFAULT_NETWORK, "kube-system/macvlan1"),
    (NAMESPACE_POOLS, '["blue","red"]'),
)

ODD: Final = (
    "",
    " ",
    "\n",
    "\t",
    '"',
    "'",
    "\\",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "/",
    "@",
    "-",
    "+",
    "*",
    "?",
    "0",
    "é",
    "\u2028",
)
SCALARS: Final[tuple[object, ...]] = (
    None,
    True,
    False,
    0,
    -1,
    1.5,
    2**70,
    "",
    " ",
    "eth0",
    "10.6.0.300",
    "fd00::1/129",
    [],
    {},
    [[]],
    "\x00",
)


def slip(text: str, chance: Random) -> str:
    """
    Do one thing to a text: take away, put in, swap, repeat, cut off.

    Or put another value into its JSON.
    """
    if chance.random() < 0.4:
        changed = _other_value(text, chance)
        if changed is not None:
            return changed
    start = chance.randrange(len(text) + 1)
    end = min(len(text), start + chance.randrange(1, 6))
    middle = chance.choice(
        (
            "",
            chance.choice(ODD),
            text[start:end] * 2,
            text[start:end][::-1],
            text[start:end].swapcase(),
            text[start:end] + chance.choice(ODD),
        )
    )
    return text[:start] + middle if chance.random() < 0.1 else text[:start] + middle + text[end:]


def slips(text: str, chance: Random) -> str:
    """Do one to three such things."""
    for _ in range(chance.randint(1, 3)):
        text = slip(text, chance)
    return text


def _other_value(text: str, chance: Random) -> str | None:
    """Put another value somewhere into a JSON document, None when the text is none."""
    try:
        document = json.loads(text)
    except ValueError:
        return None
    holder: dict[str, Any] = {"whole": document}
    places = list(_places(holder))
    where, key = chance.choice(places)
    match chance.randrange(3):
        case 0:
            where[key] = chance.choice(SCALARS)
        case 1:
            where[key] = [where[key]] if chance.random() < 0.5 else {"ipv4": where[key]}
        case _:
            other, name = chance.choice(places)
            where[key] = json.loads(json.dumps(other[name]))
    return json.dumps(holder["whole"], ensure_ascii=chance.random() < 0.5)


def _places(value: Any) -> Any:
    """Return every (container, key) inside a container."""
    for key in list(value) if isinstance(value, dict) else range(len(value)):
        yield value, key
        if isinstance(value[key], dict | list):
            yield from _places(value[key])
