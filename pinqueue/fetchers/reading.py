"""Reading what senders write, leniently: what cannot be used was not told."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from pinqueue.schedule import EARLIEST_YEAR, LATEST_YEAR


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
