"""What a process counts: what is added of it, and how totals are told."""

from __future__ import annotations

import pytest

from pinqueue.metrics import (
    COUNTED,
    DATABASE_UP,
    GAUGES,
    JOBS,
    Metrics,
    Series,
    Values,
    added_up,
)
from tests.exposition import Exposition

COMPLETED: Series = (
    "pinqueue_operations_total",
    (("kind", "generate"), ("outcome", "completed")),
)


def bucket(bound: str) -> Series:
    return ("pinqueue_operation_seconds_bucket", (("kind", "generate"), ("le", bound)))


SUM: Series = ("pinqueue_operation_seconds_sum", (("kind", "generate"),))


def told(totals: Values | None, metrics: Metrics | None = None) -> Exposition:
    text, _ = (metrics or Metrics()).exposition(totals, {DATABASE_UP: {(): 1}})
    return Exposition(text.decode())


# Growth


def test_nothing_counted_is_no_growth() -> None:
    assert Metrics().growth() == {}


def test_growth_is_what_was_counted_since_the_last_that_was_added() -> None:
    metrics = Metrics()
    metrics.operation_ended("generate", "completed", 0.02)
    metrics.operation_ended("generate", "completed", 0.02)
    first = metrics.growth()
    assert first[COMPLETED] == 2
    metrics.mark_added(first)
    assert metrics.growth() == {}
    metrics.operation_ended("generate", "completed", 0.02)
    assert metrics.growth()[COMPLETED] == 1


def test_growth_that_could_not_be_added_is_kept() -> None:
    metrics = Metrics()
    for _ in range(3):
        metrics.operation_ended("generate", "completed", 0.02)
        metrics.growth()
    assert metrics.growth()[COMPLETED] == 3


def test_what_is_counted_while_growth_is_being_added_is_not_lost() -> None:
    metrics = Metrics()
    metrics.operation_ended("generate", "completed", 0.02)
    on_its_way = metrics.growth()
    metrics.operation_ended("generate", "completed", 0.02)
    metrics.mark_added(on_its_way)
    assert metrics.growth()[COMPLETED] == 1


def test_a_histogram_grows_in_the_bucket_alone_and_in_its_sum() -> None:
    metrics = Metrics()
    metrics.operation_ended("generate", "completed", 0.02)
    metrics.operation_ended("generate", "later", 70.0)
    growth = metrics.growth()
    assert {s: v for s, v in growth.items() if s[0].endswith("_bucket")} == {
        bucket("0.025"): 1,
        bucket("+Inf"): 1,
    }
    assert growth[SUM] == pytest.approx(70.02)


def test_a_clock_that_ran_backwards_makes_no_negative_lateness() -> None:
    metrics = Metrics()
    metrics.operation_taken_up("revoke", -3.0)
    labels = (("kind", "revoke"), ("le", "0.01"))
    assert metrics.growth() == {("pinqueue_operation_lateness_seconds_bucket", labels): 1}


def test_growths_are_added_up_series_by_series() -> None:
    assert added_up({COMPLETED: 1, SUM: 2}, {SUM: 3, bucket("1.0"): 4}) == {
        COMPLETED: 1,
        SUM: 5,
        bucket("1.0"): 4,
    }


# Telling


def test_a_histogram_is_told_summed_up_with_its_count() -> None:
    found = told({bucket("0.025"): 2, bucket("1.0"): 1, bucket("+Inf"): 1, SUM: 40.5})
    name = "pinqueue_operation_seconds"
    by_bound = {
        s.labels["le"]: s.value
        for s in found.samples
        if s.name == f"{name}_bucket" and s.labels["kind"] == "generate"
    }
    assert (by_bound["0.01"], by_bound["0.025"], by_bound["0.5"]) == (0, 2, 2)
    assert (by_bound["1.0"], by_bound["30.0"], by_bound["+Inf"]) == (3, 3, 4)
    assert found.value(f"{name}_count", kind="generate") == 4
    assert found.value(f"{name}_sum", kind="generate") == 40.5


def test_buckets_of_another_version_are_told_in_order_with_ours() -> None:
    found = told({bucket("0.3"): 1, bucket("0.5"): 1, bucket("100.0"): 1, SUM: 101.0})
    values = [
        s.value
        for s in found.samples
        if s.name == "pinqueue_operation_seconds_bucket" and s.labels["kind"] == "generate"
    ]
    assert values == sorted(values)
    assert values[-1] == 3
    assert found.value("pinqueue_operation_seconds_bucket", kind="generate", le="0.3") == 1


@pytest.mark.parametrize(
    "series",
    [
        ("pinqueue_of_old_total", (("kind", "generate"),)),
        ("pinqueue_operations_total", (("queue", "generate_pin"),)),
        ("pinqueue_operation_seconds_bucket", (("le", "1.0"),)),
    ],
)
def test_what_another_version_counted_under_other_names_or_labels_is_left_out(
    series: Series,
) -> None:
    assert told({series: 7.0}).text == told({}).text


def test_a_first_failure_is_seen_to_rise_from_0() -> None:
    found = told({})
    for kind in ("generate", "revoke"):
        for outcome in ("completed", "failed", "quarantined"):
            assert found.value("pinqueue_operations_total", kind=kind, outcome=outcome) == 0
        assert found.value("pinqueue_operation_lateness_seconds_count", kind=kind) == 0


def test_totals_that_are_not_known_are_not_told_as_0() -> None:
    assert set(told(None).families) == {"pinqueue_database_up", "pinqueue_build_info"}


def test_every_metric_that_is_defined_is_told_with_its_help() -> None:
    gauges = {one: {tuple("x" for _ in one.labels): 1.0} for one in GAUGES}
    text, _ = Metrics().exposition({}, gauges)
    for one in (*COUNTED, *GAUGES):
        assert f"# HELP {one.name} {one.documentation}\n" in text.decode()


def test_a_method_that_somebody_made_up_is_other() -> None:
    metrics = Metrics()
    metrics.request_answered("/healthz", "PROPFIND", 405)
    metrics.request_answered("/healthz", "GET", 200)
    assert {dict(labels)["method"] for _, labels in metrics.growth()} == {"other", "GET"}


def test_openmetrics_is_told_to_who_asks_for_it() -> None:
    accept = "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"
    text, content_type = Metrics().exposition({COMPLETED: 3.0}, {JOBS: {}}, accept)
    assert content_type.startswith("application/openmetrics-text")
    assert b'pinqueue_operations_total{kind="generate",outcome="completed"} 3.0\n' in text
    assert text.endswith(b"# EOF\n")


def test_plain_text_is_told_to_who_asks_for_nothing() -> None:
    _, content_type = Metrics().exposition({}, {})
    assert content_type == "text/plain; version=0.0.4; charset=utf-8"
