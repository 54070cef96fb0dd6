"""From what a sender wrote to instants; from instants to the moments at which something rings."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pinqueue.errors import BookingInvalid
from pinqueue.schedule import (
    check_stay,
    due_times,
    late_since,
    next_look,
    next_retry,
    to_instant,
    turns_over,
)

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
ZONES = [
    *("Europe/Berlin", "America/New_York", "America/Santiago"),
    *("Australia/Lord_Howe", "Asia/Beirut", "Africa/Casablanca"),
]

moments = st.integers(1_577_836_800, 1_893_456_000).map(lambda s: datetime.fromtimestamp(s, UTC))
waits = st.timedeltas(timedelta(0), timedelta(days=400))


# Due times


@pytest.mark.parametrize(
    ("stay", "starts", "ends", "generate_at", "revoke_at"),
    [
        ("ahead", NOON + DAY, NOON + 3 * DAY, NOON + DAY - HOUR, NOON + 3 * DAY),
        ("about to begin", NOON + HOUR / 2, NOON + DAY, NOON, NOON + DAY),
        ("begun", NOON - DAY, NOON + DAY, NOON, NOON + DAY),
        ("over", NOON - 3 * DAY, NOON - DAY, NOON, NOON),
    ],
)
def test_a_pin_is_due_the_lead_before_a_stay_and_until_its_end_but_never_in_the_past(
    stay: str, starts: datetime, ends: datetime, generate_at: datetime, revoke_at: datetime
) -> None:
    due = due_times(starts, ends, HOUR, NOON)
    assert (due.generate_at, due.revoke_at) == (generate_at, revoke_at), stay


@given(now=moments, until=waits, length=waits, lead=waits)
def test_nothing_is_due_before_now_and_a_pin_is_never_due_after_its_stay_began(
    now: datetime, until: timedelta, length: timedelta, lead: timedelta
) -> None:
    due = due_times(now + until, now + until + length, lead, now)
    assert now <= due.generate_at <= now + until
    assert due.revoke_at == now + until + length


# Late


@pytest.mark.parametrize(
    ("case", "kind", "due_at", "starts_at", "late_at"),
    [
        ("an hour ahead", "generate", NOON - HOUR, NOON, NOON - 30 * MINUTE),
        ("a day ahead, the lock sleeps", "generate", NOON - DAY, NOON, NOON - 30 * MINUTE),
        ("a lead of 32 minutes", "generate", NOON - 32 * MINUTE, NOON, NOON - 27 * MINUTE),
        ("booked 10 minutes before", "generate", NOON - 10 * MINUTE, NOON, NOON - 5 * MINUTE),
        ("booked, or moved, within the stay", "generate", NOON, NOON - DAY, NOON + 5 * MINUTE),
        ("the stay ends", "revoke", NOON, NOON - DAY, NOON + 5 * MINUTE),
        ("cancelled long before the stay", "revoke", NOON, NOON + DAY, NOON + 5 * MINUTE),
    ],
)
def test_an_operation_is_late_30_minutes_before_check_in_or_5_after_it_was_due(
    case: str, kind: str, due_at: datetime, starts_at: datetime, late_at: datetime
) -> None:
    assert late_since(kind, due_at, starts_at, late_at - timedelta(seconds=1)) is None, case
    for later in (timedelta(0), DAY):
        assert late_since(kind, due_at, starts_at, late_at + later) == late_at, case


@given(
    kind=st.sampled_from(["generate", "revoke"]),
    due=moments,
    starts=moments,
    now=moments,
    more=waits,
)
def test_what_is_late_stays_late_since_the_same_moment_and_had_5_minutes(
    kind: str, due: datetime, starts: datetime, now: datetime, more: timedelta
) -> None:
    since = late_since(kind, due, starts, now)
    if since is None:
        assert now < max(due + 5 * MINUTE, starts - 30 * MINUTE)
    else:
        assert due + 5 * MINUTE <= since <= now
        assert late_since(kind, due, starts, now + more) == since


# Local times


@pytest.mark.parametrize(
    ("zone", "skipped", "first_valid"),
    [
        ("Europe/Berlin", "2025-03-30T02:30", "2025-03-30T01:00Z"),
        ("America/New_York", "2025-03-09T02:30", "2025-03-09T07:00Z"),
        ("America/Santiago", "2025-09-07T00:30", "2025-09-07T04:00Z"),
        ("Australia/Lord_Howe", "2025-10-05T02:15", "2025-10-04T15:30Z"),
        ("Asia/Beirut", "2025-03-30T00:30", "2025-03-29T22:00Z"),
        ("Africa/Casablanca", "2025-04-06T02:30", "2025-04-06T02:00Z"),
        ("Pacific/Apia", "2011-12-30T12:00", "2011-12-30T10:00Z"),  # skipped the whole day
    ],
)
@pytest.mark.parametrize("end", ["start", "end"])
@pytest.mark.parametrize("fraction", ["", ":59", ":00.7"])
def test_f11_a_time_that_the_clocks_skip_becomes_the_first_valid_one(
    zone: str, skipped: str, first_valid: str, end: str, fraction: str
) -> None:
    read = to_instant("check_in", skipped + fraction, ZoneInfo(zone), gap=end)
    assert read == datetime.fromisoformat(first_valid)


@pytest.mark.parametrize(
    ("zone", "twice", "earlier", "later"),
    [
        ("Europe/Berlin", "2025-10-26T02:30", "2025-10-26T00:30Z", "2025-10-26T01:30Z"),
        ("America/New_York", "2025-11-02T01:30", "2025-11-02T05:30Z", "2025-11-02T06:30Z"),
        ("America/Santiago", "2025-04-05T23:30", "2025-04-06T02:30Z", "2025-04-06T03:30Z"),
        ("Australia/Lord_Howe", "2025-04-06T01:45", "2025-04-05T14:45Z", "2025-04-05T15:15Z"),
        ("Asia/Beirut", "2025-10-25T23:30", "2025-10-25T20:30Z", "2025-10-25T21:30Z"),
        ("Africa/Casablanca", "2025-02-23T02:30", "2025-02-23T01:30Z", "2025-02-23T02:30Z"),
    ],
)
def test_f11_a_time_that_comes_twice_is_early_for_a_start_and_late_for_an_end(
    zone: str, twice: str, earlier: str, later: str
) -> None:
    read = [to_instant("check_in", twice, ZoneInfo(zone), gap=end) for end in ("start", "end")]
    assert read == [datetime.fromisoformat(earlier), datetime.fromisoformat(later)]


@given(moments, st.sampled_from(ZONES), st.sampled_from(["start", "end"]))
def test_a_time_that_comes_once_is_read_as_the_clock_on_the_wall_shows_it(
    moment: datetime, zone: str, end: str
) -> None:
    wall = moment.astimezone(ZoneInfo(zone)).replace(tzinfo=None)
    assume(_offset(wall, zone, 0) == _offset(wall, zone, 1))
    assert to_instant("check_in", wall.isoformat(), ZoneInfo(zone), gap=end) == moment


def _offset(wall: datetime, zone: str, fold: int) -> timedelta | None:
    return wall.replace(tzinfo=ZoneInfo(zone), fold=fold).utcoffset()


@given(moments, st.sampled_from(ZONES))
def test_a_start_is_never_later_than_an_end_of_the_same_local_time(
    moment: datetime, zone: str
) -> None:
    text = moment.replace(tzinfo=None).isoformat()
    start, end = (to_instant("x", text, ZoneInfo(zone), gap=gap) for gap in ("start", "end"))
    assert start <= end


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2026-12-24T15:00:00-03:00", "2026-12-24T18:00Z"),
        ("2026-12-24T15:00:00Z", "2026-12-24T15:00Z"),
        ("2026-12-24t15:00:00z", "2026-12-24T15:00Z"),
        ("2026-12-24 15:00+05:45", "2026-12-24T09:15Z"),
        ("20261224T150000+0100", "2026-12-24T14:00Z"),
        ("2025-03-30T02:30:00+01:00", "2025-03-30T01:30Z"),  # skipped in Berlin, but not this one
    ],
)
def test_a_written_offset_wins_over_the_zone_of_the_listing(text: str, instant: str) -> None:
    read = to_instant("check_in", text, ZoneInfo("Europe/Berlin"), gap="start")
    assert read == datetime.fromisoformat(instant)
    assert read.tzinfo is UTC


def test_an_instant_has_whole_seconds_as_the_lock_has() -> None:
    read = to_instant("check_in", "2026-12-24T15:00:00.999999Z", ZoneInfo("UTC"), gap="start")
    assert read == datetime(2026, 12, 24, 15, tzinfo=UTC)


# What cannot be


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("", "ISO 8601"),
        ("tomorrow", "ISO 8601"),
        ("24.12.2026 15:00", "ISO 8601"),
        ("2026-02-30T15:00", "ISO 8601"),
        ("2026-12-24T25:00", "ISO 8601"),
        ("9223372036854775807", "ISO 8601"),
        ("2026-12-24T15:00+24:00", "ISO 8601"),
        ("2026-12-24_09:00", "ISO 8601"),
        ("2026-12-24", "time of day"),
        ("20261224", "time of day"),
        ("2026-W52-4", "time of day"),
        ("0001-01-01T00:00Z", "years 2000 to 2200"),
        ("1999-12-31T23:59Z", "years 2000 to 2200"),
        ("2201-01-01T00:00Z", "years 2000 to 2200"),
        ("9999-12-31T23:59:59-12:00", "years 2000 to 2200"),
    ],
)
def test_a_text_that_is_no_time_is_refused_with_its_field_and_the_remedy(
    text: str, remedy: str
) -> None:
    with pytest.raises(BookingInvalid, match=f"^check_out: .*{remedy}") as refused:
        to_instant("check_out", text, ZoneInfo("Europe/Berlin"), gap="end")
    assert refused.value.field == "check_out"


@pytest.mark.parametrize("mark", ["_", "x", "-", "\u017f"])
def test_a_time_that_is_not_written_as_one_is_refused_and_not_replaced_by_the_listings(
    mark: str,
) -> None:
    with pytest.raises(BookingInvalid, match="ISO 8601"):
        to_instant(
            "check_in",
            f"2026-12-24{mark}09:00",
            ZoneInfo("UTC"),
            gap="start",
            time_of_day=time(15),
        )


iso_like = st.from_regex(
    r"[0-9]{4}-[01][0-9]-[0-3][0-9][Tt _][0-2][0-9]:[0-9]{2}([+-][0-9:]{2,8}|Z)?"
)


@settings(max_examples=50)
@given(st.text() | iso_like, st.sampled_from(ZONES))
def test_any_text_becomes_an_instant_in_range_or_is_refused_by_name(text: str, zone: str) -> None:
    try:
        read = to_instant("check_in", text, ZoneInfo(zone), gap="start")
    except BookingInvalid as error:
        refused = error.field
    else:
        refused = "check_in" if 1999 <= read.year <= 2201 and read.tzinfo is UTC else "nothing"
    assert refused == "check_in"


@pytest.mark.parametrize(
    ("length", "fault"),
    [
        (timedelta(0), "after check_in"),
        (-DAY, "after check_in"),
        (365 * DAY + timedelta(seconds=1), "at most 365 days"),
    ],
)
def test_a_stay_must_end_after_it_begins_and_within_a_year(length: timedelta, fault: str) -> None:
    with pytest.raises(BookingInvalid, match=f"^check_out: .*{fault}"):
        check_stay(NOON, NOON + length)


@pytest.mark.parametrize("length", [timedelta(seconds=1), 365 * DAY])
def test_a_stay_may_last_from_a_second_to_a_year(length: timedelta) -> None:
    check_stay(NOON, NOON + length)


# Trying again


def test_unknown_failures_are_tried_again_after_2_4_and_8_seconds_and_then_no_more() -> None:
    tries = [next_retry(n, 3, timedelta(seconds=2), NOON) for n in (1, 2, 3, 4, 5)]
    assert tries == [*(NOON + timedelta(seconds=s) for s in (2, 4, 8)), None, None]


@given(st.integers(0, 20), st.timedeltas(timedelta(milliseconds=1), HOUR))
def test_there_are_as_many_tries_again_as_set_and_each_waits_twice_as_long(
    retries: int, backoff: timedelta
) -> None:
    tries = [next_retry(n, retries, backoff, NOON) for n in range(1, retries + 2)]
    assert tries.pop() is None
    assert [at - NOON for at in tries if at] == [backoff * 2**n for n in range(retries)]


@pytest.mark.parametrize(
    ("next_check_in", "turns"),
    [
        ("2026-11-03T23:59+01:00", True),
        ("2026-11-03T00:00+01:00", True),
        ("2026-11-04T00:00+01:00", False),
        ("2026-11-02T23:59+01:00", False),
    ],
)
def test_a_stay_turns_over_on_the_local_day_on_which_the_next_guest_comes(
    next_check_in: str, turns: bool
) -> None:
    check_in, check_out, next_ = map(
        datetime.fromisoformat, ("2026-11-01T15:00Z", "2026-11-03T10:00Z", next_check_in)
    )
    assert turns_over(check_in, check_out, next_, ZoneInfo("Europe/Berlin")) is turns


@given(moments, waits, waits)
def test_f25_looks_come_after_two_seconds_at_first_then_ever_rarer_but_every_five_minutes(
    since: datetime, waited: timedelta, more: timedelta
) -> None:
    gaps = [next_look(since, now) - now for now in (since + waited, since + waited + more)]
    assert timedelta(seconds=2) <= gaps[0] <= gaps[1] <= timedelta(minutes=5)
    assert next_look(since, since) - since == timedelta(seconds=2)
    assert next_look(since, since + HOUR) - (since + HOUR) == timedelta(minutes=5)


def test_an_answer_within_half_an_hour_waits_at_most_half_as_long_again_to_be_noticed() -> None:
    at, looks = NOON, 0
    while at < NOON + HOUR / 2:
        following = next_look(NOON, at)
        assert following - at <= max((at - NOON) / 2, timedelta(seconds=2))
        at, looks = following, looks + 1
    assert looks < 25


def test_a_clock_that_was_set_back_is_looked_at_again_in_two_seconds() -> None:
    assert next_look(NOON, NOON - DAY) == NOON - DAY + timedelta(seconds=2)
