"""
Trying the cases.

Transfers from the pods that ask, and a look at all namespaces around those that fail.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

import msgspec

from spiderpool.addressing.sets import IPAddress
from spiderpool.cli.agents import AgentPod
from spiderpool.cli.connectivity.manifests import (
    CONTAINER,
    GIVE,
    PORT,
    TAKE,
    TRANSFER_COMMAND,
    Probe,
)
from spiderpool.cli.connectivity.workloads import Scene
from spiderpool.connectivity.diagnosis import Diagnosis, Flow, Reason, diagnose
from spiderpool.connectivity.matrix import Case, Goal, Kind, Result, Stage, Transfer
from spiderpool.connectivity.survey import NamespaceSurvey, read_surveys
from spiderpool.errors import NotFound, SpiderpoolError
from spiderpool.kube.client import KubeClient

SLACK_S: Final = 30.0  # for starting a program in a container of a busy node, besides its own time
SURVEY: Final = ("python3", "-m", "spiderpool.cli.connectivity.inside.survey")


class Report(msgspec.Struct, frozen=True, rename="camel"):
    """How far one transfer came, as the program in the pod tells."""

    stage: Stage
    client: str
    client_port: int
    seen: str
    name: str
    words: str


@dataclass(frozen=True, slots=True)
class Trial:
    """A scene with running pods, and the agents of its nodes."""

    client: KubeClient
    scene: Scene
    agents: Mapping[str, AgentPod]  # by node
    addresses: Mapping[tuple[str, Goal, int], IPAddress]
    timeout_s: float

    async def run(self, cases: Sequence[Case]) -> list[Result]:
        """
        Try all cases.

        Those that fail are tried once more, with a look at the nodes before and after.
        """
        first = await self._try(cases)
        results = {case: Result(case, first[case]) for case in cases}
        failed = [case for case in cases if not results[case].passed]
        if failed:
            results |= await self._try_again(failed)
        return [results[case] for case in cases]

    async def _try_again(self, cases: Sequence[Case]) -> dict[Case, Result]:
        try:
            before = await self._survey(cases)
            again = await self._try(cases)
            after = await self._survey(cases)
        except SpiderpoolError as error:
            again = await self._try(cases)
            blind = Diagnosis(
                Reason.UNKNOWN, "nowhere", f"the nodes could not be looked at: {error.message}"
            )
            return {case: _judged(case, again[case], blind) for case in cases}
        return {
            case: _judged(case, again[case], self._diagnose(case, again[case], before, after))
            for case in cases
        }

    def _diagnose(
        self,
        case: Case,
        transfer: Transfer,
        before: Sequence[NamespaceSurvey],
        after: Sequence[NamespaceSurvey],
    ) -> Diagnosis:
        name = self._asking(case.source).name
        client = next((station for station in after if station.pod == name), None)
        if client is None:
            return Diagnosis(
                Reason.UNKNOWN, f"pod {name}", "the agent does not find its network namespace"
            )
        return diagnose(
            Flow(transfer, client, transfer.server if case.goal.is_service else None), before, after
        )

    def _asking(self, kind: Kind) -> Probe:
        return next(
            probe for probe in self.scene.probes if probe.kind is kind and not probe.answers
        )

    def _answering(self, case: Case) -> Probe:
        servers = (
            probe for probe in self.scene.probes if probe.kind is case.goal.kind and probe.answers
        )
        return next(probe for probe in servers if probe.node == case.placement.server)

    async def _try(self, cases: Sequence[Case]) -> dict[Case, Transfer]:
        """Run one program in each pod that asks; it tries all its targets at once."""
        groups = {kind: [case for case in cases if case.source is kind] for kind in Kind}
        answers = await asyncio.gather(
            *(self._transfer(kind, mine) for kind, mine in groups.items() if mine)
        )
        return {case: transfer for answer in answers for case, transfer in answer.items()}

    async def _transfer(self, source: Kind, cases: Sequence[Case]) -> dict[Case, Transfer]:
        targets = [self.addresses[case.placement.server, case.goal, case.family] for case in cases]
        asked = {
            "targets": [(str(address), PORT) for address in targets],
            "give": GIVE,
            "take": TAKE,
            "timeout_s": self.timeout_s,
        }
        pod = self._asking(source).name
        text = await self._output(
            pod, CONTAINER, (*TRANSFER_COMMAND, json.dumps(asked)), self.timeout_s
        )
        try:
            reports = msgspec.json.decode(text, type=tuple[Report, ...])
        except msgspec.DecodeError as error:
            raise SpiderpoolError(f"transfers of pod {pod}: {error}") from error
        return {
            case: read_report(report, address, self._answering(case).name)
            for case, address, report in zip(cases, targets, reports, strict=True)
        }

    async def _output(
        self, pod: str, container: str, command: Sequence[str], extra_s: float, namespace: str = ""
    ) -> bytes:
        namespace = namespace or self.scene.recipe.namespace
        done = await self.client.execute(
            pod, namespace, container, command, timeout_s=SLACK_S + extra_s
        )
        if done.code:
            words = done.errors.decode(errors="replace").strip().splitlines()
            raise SpiderpoolError(
                f"{command[0]} in pod {namespace}/{pod} ended with {done.code}: "
                f"{words[-1] if words else ''}"
            )
        return done.output

    async def _survey(self, cases: Iterable[Case]) -> tuple[NamespaceSurvey, ...]:
        """Look at the nodes of some cases, and at the test's pods on them."""
        nodes = sorted(
            {node for case in cases for node in (case.placement.client, case.placement.server)}
        )
        pods = await self.scene.pods()
        found = await asyncio.gather(
            *(
                self._survey_node(node, {p.metadata.uid: n for n, p in pods.items()})
                for node in nodes
            )
        )
        return tuple(station for stations in found for station in stations)

    async def _survey_node(self, node: str, pods: Mapping[str, str]) -> tuple[NamespaceSurvey, ...]:
        agent = self.agents.get(node)
        if agent is None:
            raise NotFound(f"no agent runs on {node}")
        here = {probe.name for probe in self.scene.probes if probe.node == node}
        words = [f"{uid}={name}" for uid, name in pods.items() if name in here]
        meta, container = agent.metadata, agent.spec.containers[0].name
        return read_surveys(
            await self._output(meta.name, container, (*SURVEY, node, *words), 0, meta.namespace)
        )


def read_report(report: Report, server: IPAddress, name: str) -> Transfer:
    """
    Read what the program in the pod tells.

    Args:
        report: its words.
        server: who was asked.
        name: the pod that had to answer; another one that does is a failure.
    """
    stage, words = report.stage, report.words
    if stage is Stage.DONE and report.name != name:
        stage, words = Stage.TRANSFER, f"pod {report.name} answers in place of {name}"
    unset = ("", "0.0.0.0", "::")  # noqa: S104 - what a socket without a route says of itself
    return Transfer(
        stage=stage,
        client=None if report.client in unset else ip_address(report.client),
        client_port=report.client_port,
        server=server,
        server_port=PORT,
        seen=ip_address(report.seen) if report.seen else None,
        words=words,
    )


def _judged(case: Case, transfer: Transfer, diagnosis: Diagnosis) -> Result:
    done = transfer.stage is Stage.DONE
    return Result(case, transfer, attempts=2, diagnosis=None if done else diagnosis)
