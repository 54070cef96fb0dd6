"""A year of many locks on a model clock: how many operations wait, and how long, where all workers
together may do so many a second. No database and no process: what one worker can do the other
benches measure, what a year asks of it is counted here."""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from functools import cache
from pathlib import Path
from typing import TypeVar

from pinqueue.bench import plot
from pinqueue.bench.figures import Round
from pinqueue.config import Settings
from pinqueue.lifecycle import OperationKind
from pinqueue.schedule import due_times

T = TypeVar("T")

WHAT = "a year of stays at 100,000 locks of one time zone, by the calls to Tuya a second"
LOCKS, SEED = 100_000, 1
DAYS, DAY = 365, 24 * 60
"""A day in minutes, which is how finely due times lie."""
CALLS = 4
"""To Tuya for an operation: a look, a ticket, the change, a look whether it is there."""
RATES = (10, 50, 200, 1000)
"""PINQUEUE_TUYA_RATE."""
NIGHTS = {1: 22, 2: 28, 3: 20, 4: 10, 5: 8, 7: 12}
EMPTY = {0: 55, 1: 20, 2: 10, 5: 10, 14: 5}
"""Nights between two stays: mostly the next guest arrives on the day the last one leaves."""
FIRST = range(14)
"""Days of the year's first check-ins."""
CHECK_IN = {time(15): 70, time(14): 12, time(16): 13, time(18): 5}
CHECK_OUT = {time(10): 60, time(11): 30, time(12): 10}

Due = Mapping[OperationKind, Counter[int]]
"""Operations by the minute of the year in which they are due."""


@dataclass
class Year:
    """What became of them."""

    waits: list[tuple[float, float, int]] = field(default_factory=list)
    """How many waited from so long up to so long, evenly; seconds."""
    waiting: dict[int, int] = field(default_factory=dict)
    """At the beginning of each minute in which any were."""
    after_check_in: int = 0

    def late(self, share: float) -> float:
        """Seconds that so large a share of all operations did not exceed."""
        left = share * sum(count for _, _, count in self.waits)
        pieces = sorted(
            (least + (most - least) * (step + 1) / 10, count / 10)
            for least, most, count in self.waits
            for step in range(10)
        )
        for seconds, count in pieces:
            left -= count
            if left <= 0:
                return seconds
        return pieces[-1][0]


def asked(locks: int, seed: int) -> Due:
    """The operations of a year. Each lock has the times of its listing, and one guest at a time."""
    choose = random.Random(seed).choice  # noqa: S311  # to be drawn alike again
    check_in, check_out = _lots(CHECK_IN), _lots(CHECK_OUT)
    nights, empty = _lots(NIGHTS), _lots(EMPTY)
    due: dict[OperationKind, Counter[int]] = {kind: Counter() for kind in OperationKind}
    generates, revokes = due[OperationKind.GENERATE], due[OperationKind.REVOKE]
    for _ in range(locks):
        generate, revoke = _minutes(choose(check_in), choose(check_out))
        day = choose(FIRST)
        while (end := day + choose(nights)) < DAYS:
            generates[day * DAY + generate] += 1
            revokes[end * DAY + revoke] += 1
            day = end + choose(empty)
    return due


def _lots(weights: Mapping[T, int]) -> list[T]:
    """To draw from: each as often as it weighs."""
    return [value for value, weight in weights.items() for _ in range(weight)]


@cache
def _minutes(check_in: time, check_out: time) -> tuple[int, int]:
    """Of the day, when the operations of such a stay are due."""
    day = datetime(2026, 1, 5, tzinfo=UTC)
    starts, ends = (datetime.combine(day, at, UTC) for at in (check_in, check_out))
    lead: timedelta = Settings.model_fields["lead"].default
    due = due_times(starts, ends + timedelta(days=1), lead, day)
    generate, revoke = ((at - day) // timedelta(minutes=1) for at in vars(due).values())
    return generate, revoke - DAY


def served(due: Due, per_second: float) -> Year:
    """All of them, who arrives next first, at that pace."""
    year, queues = Year(), {kind: deque[list[int]]() for kind in OperationKind}
    minute, last = 0, max(max(counts) for counts in due.values())
    while minute <= last or any(queues.values()):
        for kind, queue in queues.items():
            if count := due[kind][minute]:
                queue.append([minute, count])
        if waiting := sum(count for queue in queues.values() for _, count in queue):
            year.waiting[minute] = waiting
            for kind, since, first, count in _taken(queues, round(per_second * 60)):
                late = (minute - since) * 60
                least, most = (late + place / per_second for place in (first, first + count))
                year.waits.append((least, most, count))
                if kind == OperationKind.GENERATE and most > 3600:
                    year.after_check_in += count
        minute += 1
    return year


def _taken(
    queues: Mapping[OperationKind, deque[list[int]]], most: int
) -> Iterator[tuple[OperationKind, int, int, int]]:
    """What can be done in a minute: the kind, the minute it was due in, the place at which it is
    begun, how many."""
    first = 0
    for kind, queue in queues.items():
        while queue and first < most:
            since, count = queue[0]
            done = min(count, most - first)
            yield kind, since, first, done
            first += done
            if done == count:
                queue.popleft()
            else:
                queue[0][1] -= done


def measured(scale: float, plots: Path) -> tuple[dict[str, list[Round]], list[str]]:
    """The figures for each rate, and a plot of how many wait through the busiest day."""
    due = asked(round(LOCKS * scale), SEED)
    sides: dict[str, list[Round]] = {}
    days = {}
    for rate in RATES:
        year = served(due, rate / CALLS)
        busiest = max(year.waiting, key=lambda minute: year.waiting[minute]) // DAY
        minutes = range(busiest * DAY, (busiest + 1) * DAY, 10)
        days[f"{rate} calls/s"] = [((m % DAY) / 60, year.waiting.get(m, 0)) for m in minutes]
        sides[f"{rate} calls a second"] = [
            {
                "operations": sum(count for _, _, count in year.waits),
                "most_waiting": max(year.waiting.values()),
                "late_p50_seconds": year.late(0.5),
                "late_p99_seconds": year.late(0.99),
                "late_most_seconds": max(most for _, most, _ in year.waits),
                "after_check_in": year.after_check_in,
            }
        ]
    file = plots / "year.svg"
    file.write_text(plot.lines("Operations that wait", "hour of the busiest day", "", days))
    return sides, [str(file)]
