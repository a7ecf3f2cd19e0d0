"""
`make bench`.

All measurements in one run, one JSON line each, with what is to be reached beside it.
"""

from __future__ import annotations

import asyncio
import dataclasses
import math
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import typer
import uvloop

from bench import add, coordinator, decisions, overhead, raw, watchers
from bench.agents import AgentProcess, running, wait_ready
from bench.api import Api
from bench.stage import NODES, Stage, write_identity
from spiderpool.kube.connect import connect

ROUNDS = (200, 200, 200, 200, 200, 1000, 5000)
SYSTEM_NAMESPACE = "kube-system"
ACCOUNT = "spiderpool-agent"
# where the lab's node1 has its /opt/cni/bin
INSTALLED = Path("/var/lib/spiderlab/nodes/node1/cni-bin/spiderpool")

app = typer.Typer(add_completion=False)


def say(text: str) -> None:
    """Print progress on standard error: standard output is for the rows."""
    print(text, file=sys.stderr, flush=True)


def emit(part: str, row: dict[str, object]) -> None:
    """Print one row, its numbers to the microsecond."""
    rounded = {
        key: round(value, 3) if isinstance(value, float) else value for key, value in row.items()
    }
    print(msgspec.json.encode({"part": part, **rounded}).decode(), flush=True)


def emit_all(part: str, rows: Sequence[coordinator.Row | decisions.Row]) -> None:
    """Print the rows of a part."""
    for row in rows:
        emit(part, dataclasses.asdict(row))


def tell(reached: Mapping[str, bool]) -> bool:
    """Print which targets were reached; return whether all were."""
    for what, ok in reached.items():
        say(f"{'reached    ' if ok else 'NOT REACHED'}  {what}")
    return all(reached.values())


async def adds(
    stage: Stage, agents: dict[str, AgentProcess], identity: Path, rounds: tuple[int, ...]
) -> list[add.Row]:
    """
    Measure the raw rate before, between and after the rounds.

    Relate each round to the median.
    """
    rates = [await asyncio.to_thread(raw.best_rate, str(identity))]
    say(f"raw rate: {rates[-1]:.0f} creations/s")
    rows = []
    for number, n in enumerate(rounds):
        rows.append(await add.measure(stage, agents, n, 0.0))
        say(
            f"n={n}: {rows[-1].adds_per_s:.0f} ADD/s, p99 {rows[-1].p99_ms:.0f} ms, "
            f"{rows[-1].failed_calls} failed"
        )
        if n != rounds[min(number + 1, len(rounds) - 1)] or number == len(rounds) - 1:
            rates.append(await asyncio.to_thread(raw.best_rate, str(identity)))
            say(f"raw rate: {rates[-1]:.0f} creations/s")
    median = statistics.median(rates)
    return [dataclasses.replace(r, raw_per_s=median, ratio=r.adds_per_s / median) for r in rows]


def verdicts(rows: list[add.Row]) -> dict[str, bool]:
    """Compare the rows with what issue and design ask."""
    by_n: dict[int, list[add.Row]] = {}
    for row in rows:
        by_n.setdefault(row.n, []).append(row)

    def rate(n: int) -> float:
        return statistics.median(r.adds_per_s for r in by_n[n])

    checks: dict[str, bool] = {
        "no failed call": all(r.failed_calls == 0 for r in rows),
        "no duplicate": all(r.duplicates == 0 for r in rows),
        "nothing left": all(r.leftovers == 0 for r in rows),
        "endpoints and pool status get right": all(math.isfinite(r.settled_s) for r in rows),
        "release at least as fast as ADD": all(r.releases_per_s >= r.adds_per_s for r in rows),
        "agent at most 100 MB": all(r.peak_rss_mb <= 100 for r in rows),
    }
    for n in (1000, 5000):
        if n in by_n:
            checks[f"ratio at {n} at least 0.3"] = all(r.ratio >= 0.3 for r in by_n[n])
    if 1000 in by_n:
        checks["p99 at 1000 at most 4 x (100 / adds_per_s)"] = all(
            r.p99_ms <= 4e5 / r.adds_per_s for r in by_n[1000]
        )
    if 5000 in by_n and 200 in by_n:
        checks["rate at 5000 at least 0.8 of the rate at 200"] = rate(5000) >= 0.8 * rate(200)
    return checks


async def run(parts: tuple[str, ...], rounds: tuple[int, ...], executable: Path) -> bool:
    """Play the parts on the running lab; whether everything that was to be reached was reached."""
    admin = Path(
        subprocess.run(
            ["spiderlab", "kubeconfig"], check=True, capture_output=True, text=True
        ).stdout.strip()
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with (
            connect(str(admin)) as client,
            Api(admin) as api,
            Stage(client, api, NODES) as stage,
        ):
            identities = {
                node: await write_identity(
                    api, admin, SYSTEM_NAMESPACE, ACCOUNT, node, folder / f"{node}.kubeconfig"
                )
                for node in NODES
            }
            with running(identities, folder) as agents:
                await wait_ready(agents)
                first = identities[NODES[0]]
                return await play(parts, stage, agents, first, rounds, executable)


async def play(
    parts: tuple[str, ...],
    stage: Stage,
    agents: dict[str, AgentProcess],
    identity: Path,
    rounds: tuple[int, ...],
    executable: Path,
) -> bool:
    """Play each part and print its rows and verdicts."""
    reached: dict[str, bool] = {}
    first = agents[NODES[0]]
    alone = Stage(stage.client, stage.api, NODES[:1])
    if "executable" in parts:
        row = await overhead.executable_overhead(alone, first, executable)
        emit("executable", {**row})
        reached["executable adds at most 5 ms"] = row["added_ms"] <= 5
    if "pools" in parts:
        sizes = await overhead.pool_sizes(alone, first)
        for size in sizes:
            emit("pools", {**size})
        reached["ADD in any pool at most 1.2 x that in a /24"] = all(
            float(s["ratio"]) <= 1.2 for s in sizes
        )
        reached["any pool costs the agent at most 5 MB"] = all(
            float(s["memory_mb"]) <= 5 for s in sizes
        )
    if "adds" in parts:
        rows = await adds(stage, agents, identity, rounds)
        for add_row in rows:
            print(add_row.line(), flush=True)
        reached |= verdicts(rows)
    if "watchers" in parts:
        for count in (0, watchers.WATCHERS):
            emit("watchers", {**await watchers.cost(stage, identity, count)})
    return tell(reached)


@app.command()
def main(
    parts: str = typer.Option(
        "coordinator,decisions,executable,pools,adds,watchers", help="which parts, in this order"
    ),
    rounds: str = typer.Option(",".join(map(str, ROUNDS)), help="pods of each round of `adds`"),
    executable: Path = typer.Option(INSTALLED, help="the CNI executable"),
) -> None:
    """Measure Spiderpool in the running lab against the API server's own limit."""
    sizes = tuple(int(r) for r in rounds.split(","))
    wanted = set(parts.split(","))
    ok = "coordinator" not in wanted or coordinate()
    ok &= "decisions" not in wanted or decide()
    if wanted - {"coordinator", "decisions"}:
        ok &= uvloop.run(run(tuple(parts.split(",")), sizes, executable))
    raise typer.Exit(0 if ok else 1)


def coordinate() -> bool:
    """Play the part that needs no cluster; whether everything was reached."""
    rows = uvloop.run(coordinator.rounds())
    emit_all("coordinator", rows)
    return tell(coordinator.verdicts(rows))


def decide() -> bool:
    """Play the part that has an API server of its own; whether everything was reached."""
    rows = asyncio.run(decisions.rounds())
    emit_all("decisions", rows)
    return tell(decisions.verdicts(rows))


if __name__ == "__main__":
    app()
