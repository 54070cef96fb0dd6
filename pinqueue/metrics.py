"""What one process counts, and how a deployment's counts are told to Prometheus.

Processes are many, and each counts for itself; `monitoring` adds up in one table what they counted.
Label values are bounded: kinds, outcomes, classes and templates, never an id, a name or a PIN.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from itertools import accumulate
from typing import Final, TypeAlias

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder

from pinqueue.lifecycle import OperationKind

Series: TypeAlias = tuple[str, tuple[tuple[str, str], ...]]
"""A sample's name, and its labels in order."""
Values: TypeAlias = Mapping[Series, float]
"""Of a histogram, `_bucket` is what fell into that bucket alone, not into the smaller ones too: so
versions of PinQueue that divide differently can still be added up."""

SWEPT: Final = ("rescued", "quarantined")
FINDINGS: Final = ("as_wanted", "unread", "doubted", "missing", "stray", "unknown")
OUTCOMES: Final = ("completed", "later", "failed", "overtaken", *SWEPT)
METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
OTHER: Final = "other"
"""In place of a label value that anybody could have made up."""

_LATENESS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600)
_DURATION: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


@dataclass(frozen=True)
class Definition:
    name: str
    documentation: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    """Upper bounds in seconds, of a histogram."""


OPERATIONS = Definition(
    "pinqueue_operations_total", "Tries of operations, by how they ended", ("kind", "outcome")
)
LATENESS = Definition(
    "pinqueue_operation_lateness_seconds",
    "From when an operation was due until a worker took it up",
    ("kind",),
    _LATENESS,
)
RINGS = Definition(
    "pinqueue_operation_seconds", "How long a try of an operation took", ("kind",), _DURATION
)
LATE = Definition(
    "pinqueue_operations_late_total", "Operations that came to threaten their deadline", ("kind",)
)
LOCK_CALLS = Definition(
    "pinqueue_lock_call_seconds", "How long calls to the locks' cloud took", ("call",), _DURATION
)
LOCK_ERRORS = Definition(
    "pinqueue_lock_errors_total",
    "Calls to the locks' cloud that failed",
    ("call", "error", "code"),
)
WEBHOOKS = Definition(
    "pinqueue_webhook_answers_total", "Answers to webhooks", ("kind", "status", "outcome")
)
OLD_SECRETS = Definition(
    "pinqueue_webhooks_by_old_secret_total",
    "Webhooks that only the secret before the present one proved",
    ("kind",),
)
REQUESTS = Definition(
    "pinqueue_http_requests_total", "HTTP requests answered", ("route", "method", "status")
)
PATROL = Definition(
    "pinqueue_patrol_findings_total",
    "What the patrol found: locks as wanted, unread or doubted, PINs missing, stray or unknown",
    ("found",),
)
COUNTED: Final = (
    OPERATIONS,
    LATENESS,
    RINGS,
    LATE,
    LOCK_CALLS,
    LOCK_ERRORS,
    PATROL,
    WEBHOOKS,
    OLD_SECRETS,
    REQUESTS,
)

JOBS = Definition("pinqueue_jobs", "Jobs in a queue, by state", ("queue", "state"))
OLDEST_OVERDUE = Definition(
    "pinqueue_oldest_overdue_seconds", "How long the oldest due operation has waited"
)
OVERDUE_PINS = Definition(
    "pinqueue_overdue_pins", "PINs not confirmed off their door past their end: must be 0"
)
WORKERS = Definition("pinqueue_workers", "Workers that gave a sign of life within 30 seconds")
DATABASE_UP = Definition("pinqueue_database_up", "Whether the database answered this scrape")
BUILD_INFO = Definition("pinqueue_build_info", "The version that answers", ("version",))
GAUGES: Final = (JOBS, OLDEST_OVERDUE, OVERDUE_PINS, WORKERS, DATABASE_UP, BUILD_INFO)

Gauges: TypeAlias = Mapping[Definition, Mapping[tuple[str, ...], float]]


class Metrics:
    """The counts of one process. What changes rows is counted once it is committed, not before."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._added: defaultdict[Series, float] = defaultdict(float)
        self._counters = {one: self._counter(one) for one in COUNTED if not one.buckets}
        self._histograms = {one: self._histogram(one) for one in COUNTED if one.buckets}
        self._begin_at_zero()

    def operation_taken_up(self, kind: str, seconds_late: float) -> None:
        """For the first time since it was planned for when it is due."""
        self._histograms[LATENESS].labels(kind).observe(max(seconds_late, 0.0))

    def operation_ended(self, kind: str, outcome: str, seconds: float) -> None:
        self._counters[OPERATIONS].labels(kind, outcome).inc()
        self._histograms[RINGS].labels(kind).observe(seconds)

    def operation_swept(self, kind: str, outcome: str) -> None:
        """`outcome` is one of SWEPT."""
        self._counters[OPERATIONS].labels(kind, outcome).inc()

    def operation_late(self, kind: str) -> None:
        self._counters[LATE].labels(kind).inc()

    def patrol_found(self, found: str) -> None:
        """`found` is one of FINDINGS."""
        self._counters[PATROL].labels(found).inc()

    def lock_called(self, call: str, seconds: float) -> None:
        self._histograms[LOCK_CALLS].labels(call).observe(seconds)

    def lock_call_failed(self, call: str, error: str, code: str) -> None:
        """`code` is one that the adapter knows, or OTHER."""
        self._counters[LOCK_ERRORS].labels(call, error, code).inc()

    def webhook_answered(self, kind: str, status: int, outcome: str) -> None:
        self._counters[WEBHOOKS].labels(kind, status, outcome).inc()

    def webhook_by_old_secret(self, kind: str) -> None:
        self._counters[OLD_SECRETS].labels(kind).inc()

    def request_answered(self, route: str, method: str, status: int) -> None:
        """`route` is a template, as `/webhooks/{source}`."""
        self._counters[REQUESTS].labels(route, method if method in METHODS else OTHER, status).inc()

    def growth(self) -> dict[Series, float]:
        """What was counted and is not yet marked as added to the deployment's totals."""
        counted = _values(self._registry.collect())
        grown = {series: value - self._added[series] for series, value in counted.items()}
        return {series: value for series, value in grown.items() if value > 0}

    def mark_added(self, growth: Values) -> None:
        for series, value in growth.items():
            self._added[series] += value

    def exposition(
        self, totals: Values | None, gauges: Gauges, accept: str = ""
    ) -> tuple[bytes, str]:
        """The text and its content type, one that is accepted.

        Without totals the counted metrics are left out: told from 0, they would seem to have risen
        by everything ever counted as soon as the totals are known.
        """
        families = list(_gauges(gauges))
        if totals is not None:
            # A known series is told as 0 before its first event, so that this one is seen to rise.
            known = dict.fromkeys(_values(self._registry.collect()), 0.0)
            families += _counted({**known, **totals})
        encode, content_type = choose_encoder(accept)
        return encode(_Collected(families)), content_type

    def _counter(self, one: Definition) -> Counter:
        return Counter(one.name, one.documentation, one.labels, registry=self._registry)

    def _histogram(self, one: Definition) -> Histogram:
        return Histogram(
            one.name, one.documentation, one.labels, buckets=one.buckets, registry=self._registry
        )

    def _begin_at_zero(self) -> None:
        for found in FINDINGS:
            self._counters[PATROL].labels(found)
        for kind in OperationKind:
            self._histograms[LATENESS].labels(kind)
            self._histograms[RINGS].labels(kind)
            self._counters[LATE].labels(kind)
            for outcome in OUTCOMES:
                self._counters[OPERATIONS].labels(kind, outcome)


def added_up(first: Values, second: Values) -> dict[Series, float]:
    return {one: first.get(one, 0.0) + second.get(one, 0.0) for one in {**first, **second}}


class _Collected(CollectorRegistry):
    """What an encoder asks a registry for, as it is."""

    def __init__(self, families: list[Metric]) -> None:
        super().__init__()
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _values(families: Iterable[Metric]) -> dict[Series, float]:
    return {series: value for family in families for series, value in _values_of(family)}


def _values_of(family: Metric) -> Iterator[tuple[Series, float]]:
    below = 0.0
    for sample in family.samples:
        series = (sample.name, tuple(sorted(sample.labels.items())))
        if sample.name == f"{family.name}_bucket":  # in order, each with what the smaller ones hold
            yield series, sample.value - below
            below = 0.0 if sample.labels["le"] == "+Inf" else sample.value
        elif sample.name in (f"{family.name}_total", f"{family.name}_sum"):
            yield series, sample.value


def _counted(values: Values) -> Iterator[Metric]:
    """What another version of PinQueue counted, under names or labels not ours, is left out."""
    for one in COUNTED:
        yield _histogram(one, values) if one.buckets else _counter(one, values)


def _counter(one: Definition, values: Values) -> Metric:
    family = CounterMetricFamily(one.name, one.documentation, labels=one.labels)
    for labels, value in _series(one.name, one.labels, values):
        family.add_metric(labels, value)
    return family


def _histogram(one: Definition, values: Values) -> Metric:
    family = HistogramMetricFamily(one.name, one.documentation, labels=one.labels)
    sums = dict(_series(f"{one.name}_sum", one.labels, values))
    buckets = defaultdict[tuple[str, ...], dict[str, float]](dict)
    for (*labels, bound), value in _series(f"{one.name}_bucket", (*one.labels, "le"), values):
        buckets[tuple(labels)][bound] = value
    for key, found in buckets.items():
        bounds = sorted(found, key=float)
        summed = accumulate(found[bound] for bound in bounds)
        family.add_metric(key, list(zip(bounds, summed, strict=True)), sums.get(key, 0.0))
    return family


def _series(
    name: str, labels: tuple[str, ...], values: Values
) -> Iterator[tuple[tuple[str, ...], float]]:
    for (found, pairs), value in sorted(values.items()):
        texts = dict(pairs)
        if found == name and set(texts) == set(labels):
            yield tuple(texts[label] for label in labels), value


def _gauges(gauges: Gauges) -> Iterator[Metric]:
    told: Gauges = {**gauges, BUILD_INFO: {(version("pinqueue"),): 1.0}}
    for one, found in told.items():
        family = GaugeMetricFamily(one.name, one.documentation, labels=one.labels)
        for labels, value in found.items():
            family.add_metric(labels, value)
        yield family
