"""The addresses of SpiderReservedIPs as an informer has them."""

from __future__ import annotations

from collections.abc import Mapping

import structlog

from spiderpool.addressing.sets import AddressSet
from spiderpool.api.crd.reservedip import SpiderReservedIP
from spiderpool.kube.informer import Informer
from spiderpool.model.reserved import Reserved, read_reserved

log = structlog.get_logger(__name__)


class ReservedAddresses:
    """Reserved addresses by family, read again when a SpiderReservedIP changes."""

    def __init__(self, informer: Informer[SpiderReservedIP]) -> None:
        """
        Follow an informer for as long as it lives.

        Args:
            informer: of SpiderReservedIPs; it may still be empty.
        """
        self._informer = informer
        self._reserved = Reserved()
        informer.subscribe(lambda *_: self._read())
        self._read()

    @property
    def by_family(self) -> Mapping[int, AddressSet]:
        """The reserved addresses of both families; a new mapping after each change."""
        return self._reserved.by_family

    def _read(self) -> None:
        """Read all objects; an item that cannot be read is logged once, when it comes."""
        known = self._reserved.unreadable
        self._reserved = read_reserved(self._informer)
        for reason in self._reserved.unreadable:
            if reason not in known:
                log.warning("reserved address is skipped", reason=reason)
