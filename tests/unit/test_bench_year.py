"""The year on a model clock: what is asked of the doors, and what becomes of it at a set pace."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from pinqueue.bench import year
from pinqueue.lifecycle import OperationKind

GENERATE, REVOKE = OperationKind.GENERATE, OperationKind.REVOKE
NOON = 12 * 60


def due(*, generates: int = 0, revokes: int = 0) -> year.Due:
    """All at noon of the first day."""
    return {GENERATE: Counter({NOON: generates}), REVOKE: Counter({NOON: revokes})}


def test_a_pin_is_asked_for_an_hour_before_check_in_and_taken_off_at_check_out() -> None:
    asked = year.asked(200, 1)
    hours = {kind: {minute % year.DAY / 60 for minute in asked[kind]} for kind in asked}
    assert hours == {GENERATE: {13, 14, 15, 17}, REVOKE: {10, 11, 12}}


def test_each_pin_is_put_on_once_and_taken_off_once() -> None:
    asked = year.asked(50, 1)
    assert asked[GENERATE].total() == asked[REVOKE].total() > 50 * 50


def test_the_same_seed_asks_the_same() -> None:
    assert year.asked(20, 7) == year.asked(20, 7) != year.asked(20, 8)


def test_those_due_at_once_wait_for_each_other() -> None:
    done = year.served(due(generates=6000), per_second=10)
    assert done.waiting[NOON] == 6000
    assert done.waiting[NOON + 9] == 600
    assert NOON + 10 not in done.waiting
    assert done.late(0.5) == pytest.approx(300, abs=10)
    assert max(most for _, most, _ in done.waits) == 600


def test_who_arrives_goes_before_who_has_left() -> None:
    done = year.served(due(generates=600, revokes=600), per_second=10)
    assert done.waits == [(0, 60, 600), (60, 120, 600)]


def test_what_is_put_on_more_than_an_hour_late_is_after_its_check_in() -> None:
    assert year.served(due(generates=36_000), per_second=10).after_check_in == 0
    assert year.served(due(generates=36_600), per_second=10).after_check_in == 600


def test_a_higher_rate_of_calls_leaves_fewer_waiting(tmp_path: Path) -> None:
    sides, (plot,) = year.measured(0.002, tmp_path)
    waits = [figures["late_p99_seconds"] for (figures,) in sides.values()]
    assert waits == sorted(waits, reverse=True)
    assert Path(plot).read_text().startswith("<svg")
