"""
What the webhooks of coordinators and networks look at.

Decisions are in `admission.coordinators` and `admission.multusconfigs`.
"""

from __future__ import annotations

from collections.abc import Collection

from spiderpool.admission.coordinators import complete_coordinator, validate_coordinator
from spiderpool.admission.field_errors import new_errors
from spiderpool.admission.multusconfigs import complete_config, managed_by_another, validate_config
from spiderpool.api.crd.coordinator import SpiderCoordinator
from spiderpool.api.crd.multusconfig import SpiderMultusConfig
from spiderpool.api.kubernetes.core import NetworkAttachmentDefinition
from spiderpool.controller.webhooks.pool_review import FINE, Change, Opinion
from spiderpool.errors import NotFound
from spiderpool.kube.cluster import Cluster
from spiderpool.networks.definition import definition_name


class CoordinatorReviewer:
    """Coordinators: nothing but themselves matters."""

    kind = SpiderCoordinator

    async def complete(self, change: Change[SpiderCoordinator]) -> SpiderCoordinator | None:
        """Fill in a coordinator."""
        return None if change.new is None else complete_coordinator(change.new)

    async def judge(self, change: Change[SpiderCoordinator]) -> Opinion:
        """Decide on a create or an update."""
        old, new = change.old, change.new
        if new is None or (
            old is not None and new.spec in (old.spec, complete_coordinator(old).spec)
        ):
            return FINE
        return Opinion(errors=tuple(validate_coordinator(new)))


class MultusConfigReviewer:
    """Networks: their definition may be another network's, which is read live."""

    kind = SpiderMultusConfig

    def __init__(self, cluster: Cluster, allowed_plugins: Collection[str] = ()) -> None:
        """
        Keep the arguments; nothing runs yet.

        Args:
            cluster: the door.
            allowed_plugins: the CNI plugins that a network may name; empty = all but meta plugins.
        """
        self._cluster = cluster
        self._allowed_plugins = allowed_plugins

    async def complete(self, change: Change[SpiderMultusConfig]) -> SpiderMultusConfig | None:
        """Fill in a network."""
        return None if change.new is None else complete_config(change.new)

    async def judge(self, change: Change[SpiderMultusConfig]) -> Opinion:
        """Decide on a create or an update."""
        old, new = change.old, change.new
        if new is None or (old is not None and _says_the_same(old, new)):
            return FINE
        before = (
            validate_config(old, complete_config(old), self._allowed_plugins)
            if old is not None
            else ()
        )
        errors = new_errors(validate_config(old, new, self._allowed_plugins), before)
        if not errors and (other := await self._owner_of(new)):
            errors.append(managed_by_another(new, definition_name(new), other))
        return Opinion(errors=tuple(errors))

    async def _owner_of(self, config: SpiderMultusConfig) -> str:
        """
        Name the other network that this one's definition belongs to.

        Empty when it belongs to nobody else.
        """
        try:
            found = await self._cluster.get_metadata(
                NetworkAttachmentDefinition, definition_name(config), config.metadata.namespace
            )
        except NotFound:
            return ""
        kind = SpiderMultusConfig.resource.kind
        owners = (owner.name for owner in found.metadata.owner_references if owner.kind == kind)
        return next((name for name in owners if name != config.metadata.name), "")


def _says_the_same(old: SpiderMultusConfig, new: SpiderMultusConfig) -> bool:
    """Return whether an update changes nothing that is checked."""
    same_spec = new.spec in (old.spec, complete_config(old).spec)
    return same_spec and old.metadata.annotations == new.metadata.annotations
