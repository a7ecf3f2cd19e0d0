"""
SpiderReservedIP: addresses that no pool may hand out.

Source: docs/reference/objects.md#spiderreservedip.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import msgspec

from spiderpool.api.crd.group import spiderpool_resource
from spiderpool.api.kubernetes.meta import Kube, KubeObject, Resource


class ReservedIPSpec(Kube, frozen=True, kw_only=True):
    """The reserved addresses, all of one family."""

    ip_version: Annotated[
        Literal[4, 6] | None, msgspec.Meta(description="family; filled from the first item")
    ] = None
    ips: tuple[str, ...] = ()


class SpiderReservedIP(KubeObject, frozen=True, kw_only=True):
    """A set of reserved addresses."""

    resource: ClassVar[Resource] = spiderpool_resource("SpiderReservedIP", "spiderreservedips")

    spec: ReservedIPSpec = ReservedIPSpec()
