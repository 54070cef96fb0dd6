"""Reading what senders write, leniently: what cannot be used was not told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from pinqueue.reservations import Booking
from pinqueue.schedule import EARLIEST_YEAR, LATEST_YEAR, LONGEST_STAY


@dataclass(frozen=True)
class Rooms:
    """A reservation of several rooms, of which each is a stay of its own."""

    reservation_id: str
    stays: Sequence[Booking]
    """All there are. Their ids are `reservation_id`, or begin with it and a hyphen: ours of that
    form that are not among these are over, since the sender tells the reservation without them."""


def identifier(value: Any) -> str | None:
    """An id, also one that its sender writes as a number; none is longer than 64 characters."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    text = words(value, 65)
    return text if text and len(text) <= 64 else None


def words(value: Any, longest: int) -> str | None:
    """A text without what PostgreSQL cannot hold and space around it, cut; None where that leaves
    nothing, and for what is no text."""
    if not isinstance(value, str):
        return None
    kept = value.replace("\x00", "").encode("utf-8", "ignore").decode()
    return kept.strip()[:longest] or None


def instant(value: Any) -> datetime | None:
    """An ISO 8601 date and time with an offset, in the years that bookings are in."""
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    if moment.tzinfo is None or not EARLIEST_YEAR <= moment.year <= LATEST_YEAR:
        return None
    return moment.astimezone(UTC)


def part(value: Any, *path: str | int) -> Any:
    """What lies at this path of keys and places; None where nothing does."""
    for step in path:
        if isinstance(value, dict):
            value = value.get(step)
        elif isinstance(value, list) and isinstance(step, int) and step < len(value):
            value = value[step]
        else:
            return None
    return value


def days(arrival: Any, departure: Any) -> tuple[str, str] | tuple[None, None]:
    """The days of a stay; nothing where they cannot be those of one, whatever the sender meant."""
    try:
        first, last = (date.fromisoformat(str(day)[:10]) for day in (arrival, departure))
    except ValueError:
        return None, None
    nights = (last - first).days
    if not (EARLIEST_YEAR <= first.year < LATEST_YEAR and 0 < nights < LONGEST_STAY.days):
        return None, None
    return first.isoformat(), last.isoformat()
