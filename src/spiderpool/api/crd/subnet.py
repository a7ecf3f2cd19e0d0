"""
SpiderSubnet.

Addresses from which pools are cut, by hand or automatically for applications.

Source: docs/reference/automatic-pools.md#spidersubnet.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec

from spiderpool.api.crd.group import spiderpool_resource
from spiderpool.api.crd.ippool import RangeSpec
from spiderpool.api.kubernetes.meta import Kube, KubeObject, Resource


class SubnetSpec(RangeSpec, frozen=True, kw_only=True):
    """What the user asks of a subnet; only `subnet` is required."""


class SubnetStatus(Kube, frozen=True, kw_only=True):
    """
    Which pools the subnet's addresses are given to.

    Written by the controller's leader alone, before the pools themselves: what stands here is
    decided, whether the pool has it already or not. The counts follow from it.
    """

    controlled_ippools: str | None = msgspec.field(default=None, name="controlledIPPools")
    """
    Which addresses are given to which pool: JSON text
    `{"<pool>":{"ips":["A-B"],"application":"<key>"}}`; absent when none are.
    """
    total_ip_count: Annotated[int, msgspec.Meta(ge=0)] | None = msgspec.field(
        default=None, name="totalIPCount"
    )
    """How many addresses `ips` without `excludeIPs` has."""
    allocated_ip_count: Annotated[int, msgspec.Meta(ge=0)] | None = msgspec.field(
        default=None, name="allocatedIPCount"
    )
    """How many addresses are given to pools."""


class SpiderSubnet(KubeObject, frozen=True, kw_only=True):
    """A subnet whose addresses are given to pools."""

    resource: ClassVar[Resource] = spiderpool_resource("SpiderSubnet", "spidersubnets")

    spec: SubnetSpec
    """What the user asks for."""
    status: SubnetStatus = SubnetStatus()
    """What the controller decided and counted."""
