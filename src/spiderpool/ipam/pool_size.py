"""
How many addresses an application's automatic pool has, and which.

Lowest addresses first in both directions; an address that a pod holds never leaves.

Source: docs/reference/annotations.md#ippool-ip-number,
docs/reference/automatic-pools.md#which-applications,
docs/reference/automatic-pools.md#growing-and-shrinking.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from spiderpool.addressing.sets import AddressSet, Span
from spiderpool.api.kubernetes.workloads import CronJob, DaemonSet, Job, JobSpec, Workload
from spiderpool.errors import Exhausted, InvalidRequest, TryAgain

COUNT: Final = re.compile(r"[0-9]{1,18}")
# Addresses that may be on their way out of one pool: each is a claim, which every agent is told of.
LEAVE_AT_ONCE: Final = 256


@dataclass(frozen=True, slots=True)
class SizeLimits:
    """
    How large an automatic pool may become: the writer an application's annotations asks for it.

    `ip_number` in any case, and `per_replica` times the replicas plus `extra`.

    Source: docs/reference/automatic-pools.md#limits.
    """

    ip_number: int = 1024
    per_replica: int = 3
    extra: int = 64

    def largest(self, replicas: int | None) -> int:
        """Return the largest size for an application; None = its replicas are not known."""
        if replicas is None:
            return self.ip_number
        return min(self.ip_number, self.per_replica * replicas + self.extra)


@dataclass(frozen=True, slots=True)
class IPNumber:
    """
    How many addresses are asked for.

    `count` on top of the replicas when flexible, else `count` in all.
    """

    count: int
    flexible: bool

    def __str__(self) -> str:
        """Write it as the annotation does."""
        return f"+{self.count}" if self.flexible else str(self.count)

    def size(self, replicas: int) -> int:
        """Return the size of the pool."""
        return replicas + self.count if self.flexible else self.count


def parse_number(text: str) -> IPNumber:
    """
    Read `N` or `+N`.

    What stands before the sign is ignored, as the original does.

    Source: docs/reference/annotations.md#ippool-ip-number.
    """
    before, sign, count = text.partition("+")
    if not COUNT.fullmatch(count if sign else before):
        raise InvalidRequest(
            f'the value is "{text}"; write a number of addresses such as 5, or such as +1 on top '
            "of the replicas"
        )
    return IPNumber(int(count if sign else before), flexible=bool(sign))


def replicas_of(workload: Workload) -> int:
    """
    Return how many pods a controller of Kubernetes itself wants.

    Source: docs/reference/automatic-pools.md#which-applications.
    """
    spec = workload.spec
    match workload:
        case DaemonSet():
            return workload.status.desired_number_scheduled
        case Job():
            return _pods_of_job(spec)
        case CronJob():
            return _pods_of_job(spec.job_template.spec) if spec.job_template else 1
        case _:
            return spec.replicas or 0


def _pods_of_job(spec: JobSpec) -> int:
    """Count a job's pods: completions, else parallelism, else 1; 0 counts as 1."""
    count = spec.completions if spec.completions is not None else spec.parallelism
    return count or 1


@dataclass(frozen=True, slots=True)
class Holding:
    """
    What is known of the addresses of one automatic pool.

    `listed`: those in the pool's specification, empty when there is no pool. `granted`: those that
    the subnet's status gives to it, None when it says nothing. `held`: those of the pool that pods
    hold. `blocked`: those that other pools have, and those that no pod of the subnet can have.
    """

    listed: AddressSet
    granted: AddressSet | None
    held: AddressSet
    blocked: AddressSet

    @property
    def begun(self) -> AddressSet:
        """
        What the pool has, or is about to have.

        What the subnet's status grants counts, so that work that was cut off is finished and not
        begun again; without a grant the pool's specification. What pods hold stays in any case.
        """
        base = self.listed if self.granted is None else self.granted
        return (base - self.blocked) | (self.held & self.listed)


def resize(
    holding: Holding, size: int, free: AddressSet, leave_at_most: int = LEAVE_AT_ONCE
) -> AddressSet:
    """
    Return the addresses of a pool of this size, first of all those that it has or is to have.

    Args:
        free: addresses of the subnet that no pool has and that are not reserved.
        leave_at_most: how many may leave now; the others leave later.
    Raises:
        Exhausted: the subnet has too few free addresses.
        TryAgain: pods hold more addresses than the pool may have.
    """
    base = holding.begun
    if base.size < size:
        more, rest = size - base.size, free - base
        if rest.size < more:
            raise Exhausted(f"{more} more addresses are needed, {rest.size} are free")
        return base | lowest(rest, more)
    excess, idle = base.size - size, base - holding.held
    if idle.size < excess:
        raise TryAgain(
            f"IPPool available free IPs are not enough: {excess} of {base.size} addresses have to "
            f"leave the pool, and pods hold all but {idle.size}; the pool shrinks when they have "
            "ended"
        )
    return base - lowest(idle, min(excess, leave_at_most))


def lowest(addresses: AddressSet, count: int) -> AddressSet:
    """Return the lowest addresses of a set; it must have so many."""
    spans: list[Span] = []
    for low, high in addresses.spans:
        if count <= 0:
            break
        spans.append((low, min(high, low + count - 1)))
        count -= high - low + 1
    return AddressSet(addresses.family, tuple(spans))
