"""A stay before any sender has put it into words. Each sender's module `tells` one in its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import count

_numbers = count(1000)


def day(ahead: int) -> date:
    """So many days from today."""
    return datetime.now(UTC).date() + timedelta(days=ahead)


@dataclass(frozen=True)
class Stay:
    """Confirmed, of three days, and told now, unless said otherwise."""

    number: int = field(default_factory=lambda: next(_numbers))
    """Its id is made of that."""
    arrives: date = field(default_factory=lambda: day(10))
    leaves: date = field(default_factory=lambda: day(13))
    cancelled: bool = False
    listing: str = ""
    """The sender's own one, where it is empty."""
    name: str = "Ana"
    phone: str = "+55 11 5550 0100"
    at: datetime = field(default_factory=lambda: datetime.now(UTC))
    """When it was changed; some senders do not tell."""
