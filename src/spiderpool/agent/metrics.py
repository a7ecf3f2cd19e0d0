"""
What the agent counts, under the documented names; only what exists is exported.

Each series carries the two `otel_scope` labels of the original, since boards select by them.

Source: docs/reference/configuration.md#metrics.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest

from spiderpool.datapath.invalid_packets import Fate, ProbeResult, Verdict
from spiderpool.errors import Exhausted, InvalidRequest, NoPool

SCOPE: Final = "spiderpool-agent"
SERVICE: Final = "spiderpool.spidernet.io"
BUCKETS_S: Final = (0.1, 0.3, 0.5, 1, 3, 5, 7, 10, 15)
# The coordinator asks no API server: a call is a matter of milliseconds.
COORDINATOR_BUCKETS_S: Final = (0.005, 0.01, 0.02, 0.04, 0.1, 0.3, 0.5, 1, 3, 10)
_LABELS: Final = ("otel_scope_name", "otel_scope_version")


@dataclass(slots=True)
class _Durations:
    """Average, maximum, minimum and latest of a duration, and its histogram."""

    histogram: Histogram
    average: Gauge
    maximum: Gauge
    minimum: Gauge
    latest: Gauge
    count: int = 0
    total_s: float = 0.0
    most_s: float = 0.0
    least_s: float = field(default=float("inf"))

    def observe(self, seconds: float) -> None:
        """Take in one duration."""
        self.count += 1
        self.total_s += seconds
        self.most_s = max(self.most_s, seconds)
        self.least_s = min(self.least_s, seconds)
        self.histogram.observe(seconds)
        self.average.set(self.total_s / self.count)
        self.maximum.set(self.most_s)
        self.minimum.set(self.least_s)
        self.latest.set(seconds)


@dataclass(frozen=True, slots=True)
class _Calls:
    """How many calls of a kind there were, how many failed, and how long each took."""

    count: Counter
    failures: Counter
    time: _Durations


class Metrics:
    """All series of one agent, in a registry of their own."""

    def __init__(self, version: str) -> None:
        """
        Register the series.

        Args:
            version: value of the label `otel_scope_version`.
        """
        self.registry = CollectorRegistry()
        self._scope = (SCOPE, version)
        Info("otel_scope", "Instrumentation scope", _LABELS, registry=self.registry).labels(
            *self._scope
        ).info({})
        target = Gauge("target_info", "Target metadata", ("service_name",), registry=self.registry)
        target.labels(SERVICE).set(1)
        self.allocations = self._counter("ipam_allocation_counts", "ADD calls")
        self.allocation_failures = self._counter(
            "ipam_allocation_failure_counts", "ADD calls that failed"
        )
        self.lost_creates = self._counter(
            "ipam_allocation_update_ippool_conflict_counts",
            "creates that met an address that somebody else has",
        )
        self._internal = self._counter(
            "ipam_allocation_err_internal_counts", "ADD calls that failed for another reason"
        )
        self._no_pool = self._counter(
            "ipam_allocation_err_no_available_pool_counts", "ADD calls without a usable pool"
        )
        self._refused = self._counter(
            "ipam_allocation_err_retries_exhausted_counts",
            "ADD calls that the caller's input makes impossible",
        )
        self._used_out = self._counter(
            "ipam_allocation_err_ip_used_out_counts", "ADD calls that met only full pools"
        )
        self.allocation_time = self._durations("ipam_allocation", "duration", "time of an ADD")
        self.allocation_wait = self._durations(
            "ipam_allocation", "limit_duration", "time that an ADD waits for its pod's lock"
        )
        self.releases = self._counter("ipam_release_counts", "DEL calls")
        self.release_failures = self._counter(
            "ipam_release_failure_counts", "DEL calls that failed"
        )
        self.lost_releases = self._counter(
            "ipam_release_update_ippool_conflict_counts",
            "deletions of records that somebody else changed meanwhile",
        )
        self._release_internal = self._counter(
            "ipam_release_err_internal_counts", "DEL calls that failed"
        )
        self.release_time = self._durations("ipam_release", "duration", "time of a DEL")
        self.release_wait = self._durations(
            "ipam_release", "limit_duration", "time that a DEL waits for its pod's lock"
        )
        self._api_calls = Counter(
            "spiderpool_api_requests",
            "requests to the API server, watches left out; code 0 = no answer",
            (*_LABELS, "verb", "resource", "code"),
            registry=self.registry,
        )
        self.lost_addresses = self._counter(
            "ipam_lost_address_counts",
            "addresses of living pods that were found in somebody else's hands",
        )
        self.fenced_addresses = self._counter(
            "ipam_fenced_address_counts",
            "addresses that were taken off namespaces whose pods are gone",
        )
        self.suspicious_addresses = self._counter(
            "ipam_suspicious_address_counts",
            "addresses that somebody has, or answers for, in larger numbers than in good faith",
        )
        self._coordinator = {
            command: self._calls("coordinator", command) for command in ("ADD", "DEL", "CHECK")
        }
        self._task_restarts = Counter(
            "spiderpool_background_task_restarts",
            "background tasks of the agent that ended and were started again",
            (*_LABELS, "task"),
            registry=self.registry,
        )
        self._drops_invalid = self._gauge(
            "node_kube_proxy_drops_invalid",
            "1 where kube-proxy drops packets that conntrack calls INVALID",
        )
        self._tcp_be_liberal = self._gauge(
            "node_conntrack_tcp_be_liberal", "the kernel setting of that name"
        )

    def task_restarted(self, task: str) -> None:
        """Count a background task that ended and is started again."""
        self._task_restarts.labels(*self._scope, task).inc()

    def packets_invalid(self, verdict: Verdict, findings: ProbeResult) -> None:
        """Note what becomes of packets that conntrack calls INVALID."""
        self._drops_invalid.set(verdict.fate is Fate.DROPPED)
        self._tcp_be_liberal.set(bool(findings.liberal))

    def api_call(self, verb: str, resource: str, code: int, _seconds: float) -> None:
        """Count a request to the API server."""
        if verb != "watch":
            self._api_calls.labels(*self._scope, verb, resource, code).inc()

    @contextmanager
    def coordinator_call(self, command: str) -> Iterator[None]:
        """
        Count a call of the coordinator, take its time, and note when it fails.

        Args:
            command: `ADD`, `DEL` or `CHECK`; another one is not counted.
        """
        calls = self._coordinator.get(command)
        if calls is None:
            yield
            return
        began = time.monotonic()
        calls.count.inc()
        try:
            yield
        except BaseException:
            calls.failures.inc()
            raise
        finally:
            calls.time.observe(time.monotonic() - began)

    def failed_add(self, error: BaseException) -> None:
        """Count a failed ADD and its reason."""
        self.allocation_failures.inc()
        if isinstance(error, Exhausted):
            self._used_out.inc()
        elif isinstance(error, NoPool):
            self._no_pool.inc()
        elif isinstance(error, InvalidRequest):
            self._refused.inc()
        else:
            self._internal.inc()

    def failed_delete(self, error: BaseException) -> None:
        """Count a failed DEL."""
        self.release_failures.inc()
        if isinstance(error, Exception):  # a caller that hung up is none
            self._release_internal.inc()

    def render(self) -> bytes:
        """Return the text that Prometheus reads."""
        return generate_latest(self.registry)

    def _counter(self, name: str, text: str) -> Counter:
        return Counter(f"spiderpool_{name}", text, _LABELS, registry=self.registry).labels(
            *self._scope
        )

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(f"spiderpool_{name}", text, _LABELS, registry=self.registry).labels(
            *self._scope
        )

    def _calls(self, subject: str, command: str) -> _Calls:
        name = f"{subject}_{command.lower()}"
        return _Calls(
            self._counter(f"{name}_counts", f"{command} calls of the {subject}"),
            self._counter(
                f"{name}_failure_counts", f"{command} calls of the {subject} that failed"
            ),
            self._durations(
                name, "duration", f"time of {command} calls of the {subject}", COORDINATOR_BUCKETS_S
            ),
        )

    def _durations(
        self, subject: str, kind: str, text: str, buckets_s: Sequence[float] = BUCKETS_S
    ) -> _Durations:
        histogram = Histogram(
            f"spiderpool_{subject}_{kind}_seconds",
            text,
            _LABELS,
            registry=self.registry,
            buckets=buckets_s,
        ).labels(*self._scope)
        return _Durations(
            histogram,
            average=self._gauge(f"{subject}_average_{kind}_seconds", f"average {text}"),
            maximum=self._gauge(f"{subject}_max_{kind}_seconds", f"longest {text}"),
            minimum=self._gauge(f"{subject}_min_{kind}_seconds", f"shortest {text}"),
            latest=self._gauge(f"{subject}_latest_{kind}_seconds", f"latest {text}"),
        )
