"""
Kernel settings of a node that the agent changed.

Its record, and the answer of `GET /v1/node`, read by `spiderpoolctl`.
"""

from __future__ import annotations

from spiderpool.api.kubernetes.meta import Kube


class ChangedSetting(Kube, omit_defaults=False, frozen=True, kw_only=True):
    """
    One kernel setting (`net.ipv4.conf.all.rp_filter`), before and after.

    `kept`: it stays when Spiderpool goes, because other networks of the node may have come to need
    it.
    """

    key: str
    before: str
    after: str
    kept: bool = False


class NodeRecord(Kube, omit_defaults=False, frozen=True, kw_only=True):
    """All settings that were changed, in the order of their change."""

    settings: tuple[ChangedSetting, ...] = ()


class NodeReport(Kube, omit_defaults=False, frozen=True, kw_only=True):
    """
    What the agent did to its node, and what it found there.

    `invalid` says what becomes of packets that conntrack calls INVALID (decision 0014): a word and
    a sentence.
    """

    node: str
    settings: tuple[ChangedSetting, ...] = ()
    invalid: str = ""
    explanation: str = ""
