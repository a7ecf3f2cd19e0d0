"""
What a pod template says about automatic pools.

Annotations `subnets`, `subnet`, `ippool-ip-number`, `ippool-reclaim`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from spiderpool.api.crd.group import (
    ANNO_IPPOOL_IP_NUMBER,
    ANNO_IPPOOL_RECLAIM,
    ANNO_SUBNET,
    ANNO_SUBNETS,
)
from spiderpool.configuration.environment import FALSE_TEXTS, TRUE_TEXTS
from spiderpool.errors import InvalidRequest
from spiderpool.ipam.patterns import repeated
from spiderpool.ipam.pool_size import IPNumber, parse_number
from spiderpool.model.json_fields import Fields, read_json, read_objects
from spiderpool.model.limits import check_patterns
from spiderpool.model.link_names import checked_ifname

DEFAULT_NIC: Final = "eth0"
EXAMPLE: Final = '{"interface":"eth0","ipv4":["subnet-a"],"ipv6":["subnet-b"]}'


@dataclass(frozen=True, slots=True)
class SubnetRequest:
    """
    Where the addresses of one NIC come from: names of subnets by family, IPv4 first.

    Only families that are asked for.
    """

    nic: str
    subnets: Mapping[int, str]


@dataclass(frozen=True, slots=True)
class AutomaticRequest:
    """All that a template says; `number` is None where it does not say how many addresses."""

    nics: tuple[SubnetRequest, ...]
    number: IPNumber | None
    reclaim: bool


def wants_subnets(annotations: Mapping[str, str]) -> str | None:
    """
    Return the annotation that asks for automatic pools, None when there is none.

    `subnets` wins.

    Source: docs/reference/selection.md#sources.
    """
    return next((key for key in (ANNO_SUBNETS, ANNO_SUBNET) if key in annotations), None)


def read_automatic_request(annotations: Mapping[str, str]) -> AutomaticRequest:
    """
    Read a template's annotations.

    Raises `InvalidRequest` naming the annotation, the item and what to write.
    """
    number, reclaim = annotations.get(ANNO_IPPOOL_IP_NUMBER), annotations.get(ANNO_IPPOOL_RECLAIM)
    try:
        parsed = None if number is None else parse_number(number)
    except InvalidRequest as error:
        raise InvalidRequest(
            f"wrong input: annotation {ANNO_IPPOOL_IP_NUMBER}: {error.message}"
        ) from None
    if reclaim is not None and reclaim not in TRUE_TEXTS | FALSE_TEXTS:
        raise InvalidRequest(
            f'wrong input: annotation {ANNO_IPPOOL_RECLAIM}: the value is "{reclaim}"; write true '
            "or false"
        )
    return AutomaticRequest(read_subnets(annotations), parsed, reclaim=reclaim not in FALSE_TEXTS)


def read_subnets(annotations: Mapping[str, str]) -> tuple[SubnetRequest, ...]:
    """Read which subnets the NICs of a pod want; none when no annotation says so."""
    key = wants_subnets(annotations)
    if key is None:
        return ()
    try:
        if key == ANNO_SUBNET:
            fields = Fields(read_json(annotations[key], EXAMPLE), "the value")
            nic = checked_ifname(fields.text("interface"), fields.where)
            return (_nic(fields, nic or DEFAULT_NIC),)
        return _nics(read_objects(annotations[key], f"[{EXAMPLE}]"))
    except InvalidRequest as error:
        raise InvalidRequest(f"wrong input: annotation {key}: {error.message}") from None


def _nics(items: list[Fields]) -> tuple[SubnetRequest, ...]:
    """
    Read the items of `subnets`.

    No interface and, in one family, no subnet comes twice.

    Source: docs/reference/annotations.md#subnets-and-subnet.
    """
    if not items:
        raise InvalidRequest(f"the list is empty; write [{EXAMPLE}], or remove the annotation")
    requests = tuple(
        _nic(fields, checked_ifname(fields.text("interface"), fields.where)) for fields in items
    )
    twice = repeated(request.nic for request in requests)
    if twice is not None:
        raise InvalidRequest(f"interface {twice} is listed twice; list it once")
    for family in (4, 6):
        twice = repeated(
            request.subnets[family] for request in requests if family in request.subnets
        )
        if twice is not None:
            raise InvalidRequest(
                f"subnet {twice} is listed twice for IPv{family}; give each interface a subnet of "
                "its own"
            )
    return requests


def _nic(fields: Fields, nic: str) -> SubnetRequest:
    """Read one item; only the first subnet of each family counts."""
    if not nic:
        raise InvalidRequest(f'{fields.where} has no "interface"; write {EXAMPLE}')
    lists = {4: fields.texts("ipv4") or [], 6: fields.texts("ipv6") or []}
    if any("" in names for names in lists.values()):
        raise InvalidRequest(
            f"{fields.where} has an empty subnet name; write the name of a SpiderSubnet"
        )
    for key, names in lists.items():
        check_patterns(tuple(names), f'{fields.where}: "ipv{key}"')
    subnets = {family: names[0] for family, names in lists.items() if names}
    if not subnets:
        raise InvalidRequest(f"{fields.where} names no subnet; write {EXAMPLE}")
    return SubnetRequest(nic, subnets)
