"""The page of Events, from the list of their reasons."""

from __future__ import annotations

from deploy.reference.tables import page, table
from spiderpool.model.event_reasons import WARNING, EventReason

TEXT = """\
Events that agents and the controller write, by the object that they are on. There is one Event for
each object and reason; repetitions raise its count, at most once in 30 s. The message names what
is meant, so `kubectl describe` of the object is the first thing to look at:

```
kubectl get events --all-namespaces --field-selector reason=NoIPPoolAvailable
```

Reasons are promises: they do not change with a release."""


def render() -> str:
    """Return the page."""
    about = dict.fromkeys(reason.about for reason in EventReason)
    return page(
        "Events",
        "src/spiderpool/model/event_reasons.py",
        TEXT,
        *(f"## {kinds}\n\n{_table(kinds)}" for kinds in about),
    )


def _table(kinds: str) -> str:
    """Return the reasons of Events on objects of some kinds."""
    return table(
        ("reason", "from", "meaning", "what to do"),
        (
            (
                f"`{reason}`{'' if reason.type == WARNING else ' (Normal)'}",
                ", ".join(f"`{part}`" for part in reason.component.split(", ")),
                reason.meaning,
                reason.remedy,
            )
            for reason in EventReason
            if reason.about == kinds
        ),
    )
