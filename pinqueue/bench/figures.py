"""What was measured, round by round, and what that comes to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

Round = Mapping[str, float]
"""The figures of one round of one side, by name; the name ends in the unit."""
Side = Callable[[], Awaitable[Round]]
"""One round of one side."""


def percentile(values: Sequence[float], share: float) -> float:
    """The value that so large a share of them does not exceed, counted as the peer counts it."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


@dataclass(frozen=True)
class Bar:
    """What a bench has to reach: a figure of one side, as a multiple of the other side's."""

    figure: str
    against: str
    at_most: float | None = None
    at_least: float | None = None
    of: str = "pinqueue"


async def alternate(
    sides: Mapping[str, Side], rounds: int, tell: Callable[[str], None]
) -> dict[str, list[Round]]:
    """Each side in turn, round after round, beginning with another one each time: what else this
    machine does meanwhile strikes all alike."""
    measured: dict[str, list[Round]] = {name: [] for name in sides}
    order = list(sides)
    for number in range(rounds):
        first = number % len(order)
        for name in order[first:] + order[:first]:
            figures = await sides[name]()
            shown = ", ".join(f"{figure} {value:.1f}" for figure, value in figures.items())
            tell(f"  round {number + 1}, {name}: {shown}")
            measured[name].append(figures)
    return measured


def summary(
    what: str, measured: Mapping[str, Sequence[Round]], bars: Sequence[Bar]
) -> dict[str, Any]:
    """A bench's result, as `--json` tells it."""
    return {
        "what": what,
        "sides": {
            side: {name: _spread([one[name] for one in rounds]) for name in rounds[0]}
            for side, rounds in measured.items()
        },
        "ratios": [_judged(measured, bar) for bar in bars if {bar.of, bar.against} <= {*measured}],
    }


def _spread(values: Sequence[float]) -> dict[str, Any]:
    shown = [round(value, 3) for value in values]
    return {
        "median": round(median(values), 3),
        "least": min(shown),
        "most": max(shown),
        "rounds": shown,
    }


def _judged(measured: Mapping[str, Sequence[Round]], bar: Bar) -> dict[str, Any]:
    one, other = (median(r[bar.figure] for r in measured[side]) for side in (bar.of, bar.against))
    ratio = one / other
    limit = f"at most {bar.at_most}" if bar.at_most is not None else f"at least {bar.at_least}"
    return {
        "figure": bar.figure,
        "of": bar.of,
        "against": bar.against,
        "ratio": round(ratio, 3),
        "wanted": limit,
        "reached": (bar.at_most is None or ratio <= bar.at_most)
        and (bar.at_least is None or ratio >= bar.at_least),
    }
