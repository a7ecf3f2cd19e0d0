"""
SpiderReservedIP: addresses that no pool may hand out.

Source: docs/reference/objects.md#spiderreservedip.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from spiderpool.api.crd.group import spiderpool_resource
from spiderpool.api.kubernetes.meta import Kube, KubeObject, Resource


class ReservedIPSpec(Kube, frozen=True, kw_only=True):
    """The reserved addresses, all of one family."""

    ip_version: Literal[4, 6] | None = None
    """
    Family of all addresses, 4 or 6. The webhook fills it in from the first item; it never
    changes.
    """
    ips: tuple[str, ...] = ()
    """Addresses that no pool hands out, each item `A` or `A-B`."""


class SpiderReservedIP(KubeObject, frozen=True, kw_only=True):
    """A set of reserved addresses."""

    resource: ClassVar[Resource] = spiderpool_resource("SpiderReservedIP", "spiderreservedips")

    spec: ReservedIPSpec = ReservedIPSpec()
    """What the user asks for."""
