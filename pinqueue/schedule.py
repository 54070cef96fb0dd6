"""RULE: a stay and its listing give a window and due times; local times become instants.

Standard library only, `now` passed in. Instants are aware UTC in whole seconds, the lock's unit.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from pinqueue.errors import BookingInvalid, InputInvalid

LONGEST_STAY = timedelta(days=365)
EARLIEST_YEAR, LATEST_YEAR = 2000, 2200

LATE_BEFORE, LATE_AFTER = timedelta(minutes=30), timedelta(minutes=5)

FIRST_LOOK, LONGEST_GAP = timedelta(seconds=2), timedelta(minutes=5)


@dataclass(frozen=True)
class DueTimes:
    """When each operation of an access code rings."""

    generate_at: datetime
    revoke_at: datetime


def due_times(starts_at: datetime, ends_at: datetime, lead: timedelta, now: datetime) -> DueTimes:
    """Generate `lead` before the window, at once if that has passed; revoke at its end."""
    return DueTimes(generate_at=max(starts_at - lead, now), revoke_at=max(ends_at, now))


def late_since(kind: str, due_at: datetime, starts_at: datetime, now: datetime) -> datetime | None:
    """Since when an operation that is still not confirmed threatens its deadline; None before then.

    A PIN must be on its door 30 minutes before its window starts, and off it 5 minutes after that
    was due, at the end of the stay or when it was cancelled. Where less than that was left when the
    stay was told or moved, a generate has those 5 minutes too.
    """
    late_at = due_at + LATE_AFTER
    if kind == "generate":
        late_at = max(late_at, starts_at - LATE_BEFORE)
    return late_at if late_at <= now else None


def to_instant(
    field: str, text: str, zone: ZoneInfo, *, gap: str, time_of_day: time | None = None
) -> datetime:
    """An ISO 8601 date and time as UTC; without offset it is read in the listing's zone, and a date
    alone gets `time_of_day`.

    A local time that a clock change skips becomes the first valid one after it. One that happens
    twice is read as `gap` says: `"start"` the earlier (the guest is never late), `"end"` the later.
    """
    text = text.upper()  # RFC 3339 allows t and z, fromisoformat does not
    has_time = "T" in text or " " in text
    try:
        if has_time:
            moment = datetime.fromisoformat(text)
        else:  # never so: between date and time it takes any mark, and the time would be dropped
            moment = datetime.combine(date.fromisoformat(text), time_of_day or time.min)
    except ValueError:
        raise BookingInvalid(
            field, "must be a date, or a date and time, in ISO 8601: 2026-12-24T15:00"
        ) from None
    if not has_time and time_of_day is None:
        raise BookingInvalid(field, "must have a time of day, e.g. 2026-12-24T15:00:00-03:00")
    if not EARLIEST_YEAR <= moment.year <= LATEST_YEAR:
        raise BookingInvalid(field, f"must be in the years {EARLIEST_YEAR} to {LATEST_YEAR}")
    if moment.tzinfo is None:
        moment = _localise(moment, zone, fold=0 if gap == "start" else 1)
    return moment.astimezone(UTC).replace(microsecond=0)


def _localise(wall: datetime, zone: ZoneInfo, *, fold: int) -> datetime:
    local = wall.replace(tzinfo=zone, fold=fold)
    if local.astimezone(UTC).astimezone(zone).replace(tzinfo=None) == wall:
        return local
    # The clock skips this time. With fold=1 the offset after the change applies and with fold=0 the
    # one before it: the change itself lies between the two readings, and is the first valid moment.
    before, after = (wall.replace(tzinfo=zone, fold=f).astimezone(UTC) for f in (1, 0))
    return _first_after_change(min(before, after), max(before, after), zone)


def _first_after_change(low: datetime, high: datetime, zone: ZoneInfo) -> datetime:
    offset_before = low.astimezone(zone).utcoffset()
    while high - low > timedelta(seconds=1):
        middle = low + (high - low) // 2
        if middle.astimezone(zone).utcoffset() == offset_before:
            low = middle
        else:
            high = middle
    return high.replace(microsecond=0)


def can_be_stay(check_in: datetime, check_out: datetime) -> bool:
    return timedelta(0) < check_out - check_in <= LONGEST_STAY


def check_stay(check_in: datetime, check_out: datetime) -> None:
    """Raise BookingInvalid for a stay that cannot be."""
    if check_out <= check_in:
        raise BookingInvalid("check_out", "must be after check_in")
    if check_out - check_in > LONGEST_STAY:
        raise BookingInvalid(
            "check_out", f"must be at most {LONGEST_STAY.days} days after check_in"
        )


def turns_over(
    check_in: datetime, check_out: datetime, next_check_in: datetime, zone: ZoneInfo
) -> bool:
    """Whether another guest checks in on the local day on which this one checks out."""
    left, arrives = (moment.astimezone(zone).date() for moment in (check_out, next_check_in))
    return left == arrives and check_in < next_check_in


def check_lead(lead: timedelta) -> timedelta:
    """The lead, or InputInvalid where no PIN can be programmed so long before check-in."""
    if not timedelta(0) <= lead <= LONGEST_STAY:
        raise InputInvalid("lead", f"must be from 0s to {LONGEST_STAY.days}d")
    return lead


def next_look(waiting_since: datetime, now: datetime, longest: timedelta = LONGEST_GAP) -> datetime:
    """When to look or try again at something that may take seconds or hours.

    The gap is half the time waited so far, so that a lock that answers soon is noticed soon and one
    that sleeps for a day is not woken every minute; no gap is longer than `longest`.
    """
    return now + min(max((now - waiting_since) / 2, FIRST_LOOK), longest)


def next_retry(failures: int, retries: int, backoff: timedelta, now: datetime) -> datetime | None:
    """When to try again after that many failures in a row of unknown kind; None when spent.

    With three retries and two seconds: 2, 4 and 8 seconds, then None.
    """
    if failures > retries:
        return None
    return now + backoff * float(2 ** (failures - 1))
