"""What the namespaces of this node are seen to have, whose they are, and since when."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping

from spiderpool.addressing.sets import IPAddress
from spiderpool.api.agent.interfaces import InUseNamespace

Look = Callable[[], Awaitable[tuple[InUseNamespace, ...]]]
"""Looks into the namespaces of this node's pods."""

Fence = Callable[[InUseNamespace, IPAddress], Awaitable[None]]
"""Takes an address off a namespace, as `kernel.fencing.fence` does."""


class Sightings:
    """Since when namespaces of ended pods are seen to have the addresses of records."""

    def __init__(self) -> None:
        """Begin without any."""
        self._since: dict[str, dict[tuple[int, str], float]] = {}

    def of(
        self, name: str, namespaces: Iterable[InUseNamespace], now_s: float
    ) -> Mapping[int, float]:
        """
        Note which namespaces have the address of a record now.

        Returns:
            By inode, for how many seconds each is seen without a break.
        """
        before = self._since.pop(name, {})
        since = {
            (each.inode, each.pod_uid): before.get((each.inode, each.pod_uid), now_s)
            for each in namespaces
        }
        if since:
            self._since[name] = since
        return {inode: now_s - first_s for (inode, _), first_s in since.items()}


def has_address(namespace: InUseNamespace, address: IPAddress) -> bool:
    """Return whether an interface of a namespace has an address."""
    return any(ip == address for _, ip in namespace.pairs)


def is_gone(namespace: InUseNamespace, living: Mapping[str, str]) -> bool:
    """
    Return whether nobody lives in a namespace.

    Pods that kubelet reads from files have UIDs without dashes. The API says little about them:
    their objects are mirror pods, which may be deleted while the pods run.

    Args:
        namespace: of this node.
        living: the pods of this node: the UID that the runtime knows → the UID of the object.
    """
    uid = namespace.pod_uid
    if namespace.others:
        return False  # an administrator's, or one that a plugin is at work in
    return not uid or ("-" in uid and uid not in living and uid not in living.values())


def name_of(namespace: InUseNamespace) -> str:
    """Name a namespace for people."""
    uid = f" (pod UID {namespace.pod_uid})" if namespace.pod_uid else ""
    return f"{namespace.path}{uid}"
