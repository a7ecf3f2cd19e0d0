"""
Who asks for an address.

The identity that an ADD, its repetition and its DEL have in common.

Source: docs/reference/allocation.md#holder.
"""

from __future__ import annotations

from dataclasses import dataclass

from spiderpool.api.crd.spiderip import Application, HolderKind, SpiderIP, SpiderIPSpec
from spiderpool.api.kubernetes.core import Pod
from spiderpool.configuration.config import Features
from spiderpool.model.label_values import hashed
from spiderpool.model.pod import holder_kind, is_static


@dataclass(frozen=True, slots=True)
class Claimant:
    """
    A pod, or the virtual machine that it runs, as the holder of addresses.

    Of a static holder the name counts and `uid` is empty; of any other pod the UID counts and
    namespace and name are empty. So two claimants are equal exactly when they are the same holder.
    """

    kind: HolderKind
    namespace: str
    name: str
    uid: str
    static: bool

    @classmethod
    def of(cls, pod: Pod, owner: Application, features: Features) -> Claimant:
        """Return the claimant that a pod is."""
        kind, static = holder_kind(owner, features), is_static(owner, features)
        name = owner.name if kind is HolderKind.VIRTUAL_MACHINE else pod.metadata.name
        return cls.named(kind, pod.metadata.namespace, name, pod.metadata.uid, static=static)

    @classmethod
    def named(
        cls, kind: HolderKind, namespace: str, name: str, uid: str, *, static: bool
    ) -> Claimant:
        """Return the claimant, keeping only the part of the names that identifies it."""
        return cls(kind, namespace, name, "", static) if static else cls(kind, "", "", uid, static)

    @property
    def text(self) -> str:
        """The identity as one text."""
        return f"{self.kind}/{self.namespace}/{self.name}" if self.static else f"uid/{self.uid}"

    @property
    def label(self) -> str:
        """
        Value of the label `holder-key`.

        All records of the holder, over its NICs and families, carry it.
        """
        return hashed(self.text)


Slot = tuple[str, int]
"""What one address of a holder is for: NIC and family."""


def slot_of(record: SpiderIP) -> Slot:
    """Return what a record's address is for."""
    return (record.spec.holder.nic, record.spec.family)


@dataclass(frozen=True, slots=True)
class ClaimKey:
    """One address that a holder asks for: on one NIC, of one family."""

    claimant: Claimant
    nic: str
    family: int

    @classmethod
    def of_record(cls, record: SpiderIP) -> ClaimKey:
        """Return the key of the claim that a record answered."""
        return cls.of_spec(record.spec)

    @classmethod
    def of_spec(cls, spec: SpiderIPSpec) -> ClaimKey:
        """Return the key of the claim that a record's specification answers."""
        holder = spec.holder
        claimant = Claimant.named(
            holder.kind, holder.namespace, holder.name, holder.uid, static=spec.static
        )
        return cls(claimant, holder.nic, spec.family)

    @property
    def static(self) -> bool:
        """Return whether the address outlives the pod."""
        return self.claimant.static

    @property
    def seed(self) -> bytes:
        """What the order of addresses is drawn from."""
        return f"{self.claimant.text}/{self.nic}/{self.family}".encode()

    @property
    def label(self) -> str:
        """
        Value of the label `holder-key`.

        The same for all NICs and families of the holder, so one list finds all.
        """
        return self.claimant.label
