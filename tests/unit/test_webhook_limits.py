"""Token buckets: how many at once, how many a second, how many are remembered, and of whom."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinqueue.webhooks import limits
from pinqueue.webhooks.limits import Buckets, stranger


def test_so_many_seconds_worth_may_come_at_once_and_no_more() -> None:
    buckets = Buckets(rate=2, burst=5)
    assert [buckets.take("a", 100.0) for _ in range(11)] == [0.0] * 10 + [0.5]


def test_after_the_wait_that_was_told_there_is_one_more() -> None:
    buckets = Buckets(rate=2, burst=1)
    waits = [buckets.take("a", 0.0) for _ in range(3)]
    assert waits == [0.0, 0.0, 0.5]
    assert [buckets.take("a", 0.5), buckets.take("a", 0.5)] == [0.0, 0.5]


def test_what_is_given_back_was_not_spent() -> None:
    buckets = Buckets(rate=1, burst=1)
    assert buckets.take("a", 7.0) == 0.0
    buckets.give_back("a")
    assert [buckets.take("a", 7.0) for _ in range(2)] == [0.0, 1.0]


def test_what_is_given_back_too_late_or_by_nobody_is_not_saved_up() -> None:
    buckets = Buckets(rate=1, burst=1)
    buckets.give_back("nobody")
    buckets.take("a", 0.0)
    for _ in range(5):
        buckets.give_back("a")
    assert [buckets.take("a", 9.0) for _ in range(2)] == [0.0, 1.0]


def test_one_name_takes_nothing_from_another() -> None:
    buckets = Buckets(rate=1, burst=1)
    assert [buckets.take(name, 0.0) for name in "aab"] == [0.0, 1.0, 0.0]


@given(st.lists(st.floats(0, 3), max_size=60), st.integers(1, 5), st.integers(1, 5))
def test_in_any_time_no_more_are_let_through_than_its_rate_and_one_burst(
    gaps: list[float], rate: int, burst: int
) -> None:
    buckets, now, taken = Buckets(rate, burst), 0.0, 0
    for gap in gaps:
        now += gap
        taken += buckets.take("a", now) == 0.0
        assert taken <= rate * (now + burst) + 1e-6


def test_only_so_many_names_are_remembered_and_the_quiet_ones_go_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "MOST", 3)
    buckets = Buckets(rate=1, burst=1)
    for name in "abca" * 2 + "d":
        buckets.take(name, 0.0)
    waits = {name: buckets.take(name, 0.0) for name in "acdb"}
    assert waits == {"a": 1.0, "c": 1.0, "d": 1.0, "b": 0.0}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("fe80::1%eth0", "fe80::2"),
    ],
)
def test_addresses_that_one_stranger_can_have_count_together(one: str, other: str) -> None:
    assert stranger(one) == stranger(other)


def test_other_addresses_count_apart() -> None:
    hosts = ["2001:db8:1:2::1", "2001:db8:1:3::1", "192.0.2.7", "192.0.2.8", "a-name", None]
    assert len({stranger(host) for host in hosts}) == len(hosts)


def test_an_address_that_is_none_is_not_remembered_at_length() -> None:
    assert len(stranger("x" * 10_000)) == 64
