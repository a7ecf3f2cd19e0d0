"""
The webhook that warns a user at once of what cannot be read in a pod's annotations.

For pods and for controllers of pods.

Nothing is refused here, and nobody waits for it (failure policy Ignore): an ADD says the same, in
an Event on the pod.
"""

from __future__ import annotations

from typing import Final

import msgspec

from spiderpool.api.kubernetes.core import PartialObject
from spiderpool.api.kubernetes.workloads import Workload
from spiderpool.controller.webhooks.server import AdmissionAnswer, AdmissionRequest
from spiderpool.ipam.pod_request import malformed
from spiderpool.ipam.unknown_keys import unknown_keys

# characters that kubectl shows of a warning; the API server cuts all of them off beyond 4096
LONGEST: Final = 256


class Typed(PartialObject, frozen=True, kw_only=True):
    """An object of whatever kind."""

    kind: str = ""


async def advise(request: AdmissionRequest) -> AdmissionAnswer:
    """Allow everything; warn of annotations that cannot be read, and of keys that nobody reads."""
    try:
        annotations = _annotations_of(request.object)
    except msgspec.DecodeError:
        # the API server says what is wrong with it
        return AdmissionAnswer(uid=request.uid, allowed=True)
    sentences = (*malformed(annotations, request.namespace), *unknown_keys(annotations))
    warnings = tuple(map(_shortened, sentences))
    return AdmissionAnswer(uid=request.uid, allowed=True, warnings=warnings or msgspec.UNSET)


def _annotations_of(raw: msgspec.Raw) -> dict[str, str]:
    """Return the annotations that pods have, or will have."""
    typed = msgspec.json.decode(raw, type=Typed)
    if typed.kind == "Pod":
        return typed.metadata.annotations
    return msgspec.json.decode(raw, type=Workload).template.metadata.annotations


def _shortened(text: str) -> str:
    """Make one line of a sentence, as long as the API server lets it be."""
    line = " ".join(text.split())
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…"
