"""The matrix as a table of sources and targets, and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from spiderpool.connectivity.matrix import Case, Goal, Kind, Placement, Result, Stage

GREEN, RED, NONE = "✅", "❌", "-"

COLUMNS: Final[tuple[tuple[Goal, ...], ...]] = (
    (Goal.OVERLAY_POD,),
    (Goal.UNDERLAY_POD,),
    (Goal.MULTI_OVERLAY_IP, Goal.MULTI_UNDERLAY_IP),
    (Goal.OVERLAY_SERVICE,),
    (Goal.UNDERLAY_SERVICE,),
    (Goal.MULTI_SERVICE,),
)
"""Six targets; the multi-NIC pod has two addresses and one column."""


@dataclass(frozen=True, slots=True)
class Names:
    """What the cluster's CNIs are called."""

    overlay: str = "Overlay"
    underlay: str = "Underlay"

    def pod(self, kind: Kind) -> str:
        """Name a kind of pod."""
        return {
            Kind.OVERLAY: f"{self.overlay} Pod",
            Kind.UNDERLAY: f"{self.underlay} Pod",
            Kind.MULTI: f"{self.overlay} + {self.underlay} Pod",
        }[kind]

    def goal(self, goal: Goal) -> str:
        """Name a target."""
        if goal.is_service:
            return f"Service of {self.pod(goal.kind)}"
        address = {Goal.MULTI_OVERLAY_IP: self.overlay, Goal.MULTI_UNDERLAY_IP: self.underlay}.get(
            goal
        )
        return f"{self.pod(goal.kind)} ({address} IP)" if address else self.pod(goal.kind)

    def column(self, goals: Sequence[Goal]) -> str:
        """Name a column."""
        if len(goals) == 1:
            return self.goal(goals[0])
        return f"{self.pod(goals[0].kind)} ({self.overlay} / {self.underlay} IP)"


def render_report(results: Sequence[Result], names: Names) -> str:
    """Return a table for each pair of nodes and family, and each failed case with what to do."""
    groups = list(dict.fromkeys((result.case.placement, result.case.family) for result in results))
    tables = [render_table(results, placement, family, names) for placement, family in groups]
    failures = [render_failure(result, names) for result in results if not result.passed]
    return "\n\n".join([*tables, *failures, *render_remedies(results), render_verdict(results)])


def render_table(results: Iterable[Result], placement: Placement, family: int, names: Names) -> str:
    """Return one table in Markdown, which also reads well in a terminal."""
    mine = [
        result
        for result in results
        if (result.case.placement, result.case.family) == (placement, family)
    ]
    by_case = {(result.case.source, result.case.goal): result for result in mine}
    kinds = [kind for kind in Kind if any(result.case.source is kind for result in mine)]
    columns = [column for column in COLUMNS if any(result.case.goal in column for result in mine)]
    rows = [["Source \\ Target", *(names.column(column) for column in columns)]]
    rows += [
        [
            names.pod(kind),
            *(
                " / ".join(_mark(by_case.get((kind, goal))) for goal in column)
                for column in columns
            ),
        ]
        for kind in kinds
    ]
    return "\n".join([f"IPv{family}, {placement}", "", *_lines(rows)])


def _mark(result: Result | None) -> str:
    if result is None:
        return NONE
    return GREEN if result.passed else RED


def _lines(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Write rows in Markdown, padded; a mark is two columns wide in a terminal."""
    widths = [max(map(_width, column)) for column in zip(*rows, strict=True)]
    for number, row in enumerate(rows):
        yield (
            "| "
            + " | ".join(
                text + " " * (width - _width(text)) for text, width in zip(row, widths, strict=True)
            )
            + " |"
        )
        if number == 0:
            yield "|" + "|".join("-" * (width + 2) for width in widths) + "|"


def _width(text: str) -> int:
    return len(text) + sum(text.count(mark) for mark in (GREEN, RED))


def render_failure(result: Result, names: Names) -> str:
    """Say of one case how far it came, where it ended, and why."""
    case, asked = result.case, result.transfer
    who = f"{names.pod(case.source)} -> {names.goal(case.goal)}, IPv{case.family}, {case.placement}"
    lines = [
        f"{RED} {who}: {asked.client or 'no address'} -> {asked.server} port {asked.server_port}"
    ]
    lines.append(f"   {_stage_words(asked.stage)}: {asked.words}")
    found = result.diagnosis
    if found:
        lines.append(f"   ended at {found.station}: {found.reason}: {found.sentence}")
        lines += [f"   request: {found.request}"] if found.request else []
        lines += [f"   answer:  {found.reply}"] if found.reply else []
    return "\n".join(lines)


def render_remedies(results: Iterable[Result]) -> list[str]:
    """Say once for each reason what to do."""
    found = [result.diagnosis for result in results if result.diagnosis]
    return list(dict.fromkeys(f"{each.reason}: {each.remedy}" for each in found))


def _stage_words(stage: Stage) -> str:
    return "no connection" if stage is Stage.CONNECT else "connected, but not all bytes passed"


def render_verdict(results: Sequence[Result]) -> str:
    """Return the closing line."""
    failed = sum(not result.passed for result in results)
    again = sum(result.passed and result.attempts > 1 for result in results)
    late = f", {again} of them not at the first attempt" if again else ""
    if failed:
        return f"{len(results)} cases: {len(results) - failed} passed{late}, {failed} failed"
    return f"{len(results)} cases: all passed{late}" if results else "no case could be tried"


def to_json(results: Iterable[Result]) -> list[dict[str, Any]]:
    """Return all results as plain JSON values."""
    return [_json(result) for result in results]


def _json(result: Result) -> dict[str, Any]:
    case, asked, found = result.case, result.transfer, result.diagnosis
    shown: dict[str, Any] = {
        **_case_json(case),
        "passed": result.passed,
        "attempts": result.attempts,
        "stage": asked.stage.value,
        "client": str(asked.client) if asked.client else None,
        "server": str(asked.server),
        "port": asked.server_port,
        "seenSource": str(asked.seen) if asked.seen else None,
    }
    if asked.words:
        shown["error"] = asked.words
    if found:
        shown["diagnosis"] = {
            "reason": found.reason.value,
            "station": found.station,
            "sentence": found.sentence,
            "remedy": found.remedy,
            "request": [str(hop) for hop in found.request.hops] if found.request else [],
            "answer": [str(hop) for hop in found.reply.hops] if found.reply else [],
        }
    return shown


def _case_json(case: Case) -> dict[str, Any]:
    return {
        "family": case.family,
        "clientNode": case.placement.client,
        "serverNode": case.placement.server,
        "source": case.source.value,
        "target": case.goal.value,
    }
