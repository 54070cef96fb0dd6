"""Of each field the newest telling counts, in whatever order and however often they arrive."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from pinqueue.tellings import Telling, Version, current, dump, load, merge

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
NAMES = ("status", "check_in", "check_out", "guest_name")

versions = st.builds(
    Version,
    updated_at=st.integers(0, 3).map(lambda hours: NOON + timedelta(hours=hours)),
    event_at=st.integers(0, 1).map(lambda hours: NOON + timedelta(hours=hours)),
    cancels=st.booleans(),
    event_id=st.text("abc", min_size=1, max_size=2),
)
parts = st.dictionaries(st.sampled_from(NAMES), st.text("xyz", min_size=1, max_size=2), min_size=1)
histories = st.lists(st.builds(Telling, versions, parts), max_size=6, unique_by=lambda t: t.version)


def telling(hours: int, **fields: str) -> Telling:
    return Telling(Version(NOON + timedelta(hours=hours), NOON, False, f"evt_{hours}"), fields)


def merged(tellings: list[Telling]) -> list[Telling]:
    told: list[Telling] = []
    for one in tellings:
        told = merge(told, one)
    return told


@given(histories.flatmap(lambda told: st.tuples(st.just(told), st.permutations(told + told))))
def test_every_order_with_repeats_ends_the_same(
    orders: tuple[list[Telling], list[Telling]],
) -> None:
    told, other = orders
    assert merged(told) == merged(other)


@given(histories)
def test_of_each_field_the_newest_telling_counts(told: list[Telling]) -> None:
    wanted = {
        name: max((t for t in told if name in t.fields), key=lambda t: t.version).fields[name]
        for name in NAMES
        if any(name in t.fields for t in told)
    }
    assert current(merged(told)) == wanted


@given(histories)
def test_no_field_is_kept_twice(told: list[Telling]) -> None:
    kept = [name for one in merged(told) for name in one.fields]
    assert len(kept) == len(set(kept))


def test_a_whole_telling_leaves_nothing_of_the_older_ones() -> None:
    whole = telling(2, status="confirmed", check_in="c", check_out="d")
    assert merged([telling(1, status="pending", check_in="a"), whole]) == [whole]


def test_a_late_telling_is_stale_when_all_it_tells_is_told_anew() -> None:
    told = merged([telling(2, status="confirmed", check_in="a")])
    assert merge(told, telling(1, check_in="b")) == told


def test_a_late_telling_adds_what_nobody_told_since() -> None:
    told = merged([telling(2, check_in="moved"), telling(1, check_in="a", check_out="b")])
    assert current(told) == {"check_in": "moved", "check_out": "b"}


def test_of_two_at_the_same_moment_the_cancel_counts() -> None:
    cancels = Telling(Version(NOON, NOON, True, "evt_1"), {"status": "cancelled"})
    confirms = Telling(Version(NOON, NOON, False, "evt_2"), {"status": "confirmed"})
    assert current(merged([cancels, confirms])) == {"status": "cancelled"}


@given(histories)
def test_what_counts_survives_its_way_through_json(told: list[Telling]) -> None:
    assert load(json.loads(json.dumps(dump(merged(told))))) == merged(told)
