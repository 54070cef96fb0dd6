"""Which calls a fault strikes."""

from __future__ import annotations

import pytest

from pinqueue.simulator.faults import Faults, read_fault


def struck(faults: Faults, calls: int = 10) -> list[bool]:
    return [faults.draw("GET", "/v1.0/devices/d", "d") is not None for _ in range(calls)]


def test_a_fault_strikes_once_unless_told_otherwise() -> None:
    faults = Faults()
    faults.add({"fault": "http_500"})
    assert struck(faults, 3) == [True, False, False]


def test_a_fault_strikes_as_often_as_ordered_after_letting_some_pass() -> None:
    faults = Faults()
    faults.add({"fault": "http_500", "after": 1, "times": 2})
    assert struck(faults, 4) == [False, True, True, False]


def test_a_fault_with_a_probability_strikes_the_same_calls_for_the_same_seed() -> None:
    runs = []
    for _ in range(2):
        faults = Faults()
        faults.add({"fault": "hang", "probability": 0.5, "seed": 7})
        runs.append(struck(faults, 40))
    assert runs[0] == runs[1]
    assert set(runs[0]) == {True, False}


@pytest.mark.parametrize(
    "match", [{"method": "POST"}, {"path": "temp-password"}, {"device": "other"}]
)
def test_a_fault_leaves_other_calls_alone(match: dict[str, str]) -> None:
    faults = Faults()
    faults.add({"fault": "hang", "match": match})
    assert struck(faults, 1) == [False]


@pytest.mark.parametrize(
    "wanted",
    [
        {},
        {"fault": "earthquake"},
        {"fault": "hang", "seconds": "long"},
        {"fault": "hang", "times": True},
        {"fault": "hang", "match": {"verb": "GET"}},
        {"fault": "hang", "match": {"path": 7}},
        {"fault": "hang", "struck": 3},
    ],
)
def test_a_fault_that_cannot_be_is_refused(wanted: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"fault|match"):
        read_fault(wanted)
