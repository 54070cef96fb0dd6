"""What one temporary password grants. The cloud and the lock each keep a copy."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo


@dataclass(frozen=True)
class DailyHours:
    """Minutes of the day, on the weekdays of a bit field: bit 0 is Sunday, bit 6 is Saturday."""

    from_minute: int
    until_minute: int
    weekdays: int

    def cover(self, local: datetime) -> bool:
        sunday_first = local.isoweekday() % 7
        minute = local.hour * 60 + local.minute
        on_that_day = bool(self.weekdays >> sunday_first & 1)
        return on_that_day and self.from_minute <= minute < self.until_minute


@dataclass(frozen=True)
class Terms:
    """Instants are epoch seconds, as on the wire."""

    name: str
    digits: str = field(repr=False)
    effective_time: int
    invalid_time: int
    one_time: bool = False
    time_zone: str = ""
    schedule: tuple[DailyHours, ...] = ()

    def grant(self, now: float) -> bool:
        """Whether they open the door: from `effective_time`, until before `invalid_time`."""
        if not self.effective_time <= now < self.invalid_time:
            return False
        if not self.schedule:
            return True
        local = datetime.fromtimestamp(now, UTC).astimezone(zone(self.time_zone))
        return any(hours.cover(local) for hours in self.schedule)


def zone(name: str) -> tzinfo:
    """An IANA name or an offset like `-03:00`; ValueError for anything else."""
    if offset := re.fullmatch(r"([+-])(\d\d):(\d\d)", name):
        sign = -1 if offset[1] == "-" else 1
        return timezone(sign * timedelta(hours=int(offset[2]), minutes=int(offset[3])))
    try:
        return ZoneInfo(name)
    except (KeyError, OSError) as error:
        raise ValueError(f"no time zone {name!r}") from error


def iso(epoch: float) -> str:
    """An instant as the control API writes it: ISO 8601 in UTC."""
    return datetime.fromtimestamp(epoch, UTC).isoformat()
