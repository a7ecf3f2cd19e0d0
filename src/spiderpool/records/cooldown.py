"""What becomes of an address that its holder lets go: it rests for a while, or is free at once."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from spiderpool.api.crd.spiderip import IPState, SpiderIP
from spiderpool.model.pool import Pool
from spiderpool.records.build import let_go

# long enough for the other user of the address to be found, short enough to heal by itself
QUARANTINE_S: Final = 300.0


def release(
    record: SpiderIP,
    pool: Pool | None,
    now: datetime,
    state: IPState = IPState.COOLING,
    *,
    suspicion: str = "",
    conflict_mac: str | None = None,
) -> SpiderIP | None:
    """
    Return the record with its address released, None when the record is to be deleted instead.

    A record is deleted when its pool is gone or going, and when the pool has no cool-down.
    Quarantine outlasts the latter.

    Args:
        record: as it was judged; the write must be conditional on its UID and resource version,
        which the result carries.
        pool: that the address is from, None when it does not exist.
        now: in UTC.
        state: Cooling, or Quarantined for an address that somebody else uses on the wire.
        suspicion: stays on the record, where it is the reason of the release.
        conflict_mac: of the interface that answered for the address on the wire.
    """
    if pool is None or pool.terminating or (state is IPState.COOLING and not pool.cool_down_s):
        return None
    since = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    return let_go(record, state, since, suspicion=suspicion, conflict_mac=conflict_mac)


def rest_s(record: SpiderIP, pool: Pool | None) -> float:
    """
    Return for how many seconds a released address rests.

    Not at all when its pool does not have it any more.
    """
    if record.spec.state is IPState.QUARANTINED:
        return QUARANTINE_S
    return pool.cool_down_s if pool is not None and record.spec.address in pool.total else 0.0
