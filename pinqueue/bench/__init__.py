"""`pinqueue bench`: what the README's figures are measured with, side by side in one run.

Nothing is assumed to run: each bench starts PostgreSQL from its wheel with fsync on, the processes
it measures and, where a folder with the peer is given, that with a Redis of its own.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pinqueue.bench import drain, ingest, late, memory, pending, plot, rush, year
from pinqueue.bench.figures import alternate, summary
from pinqueue.bench.ground import ground
from pinqueue.errors import InputInvalid, PinQueueError

BENCHES = {"late": late, "rush": rush, "drain": drain, "pending": pending, "ingest": ingest}
"""By name, in the order in which `all` runs them."""
BY_NAME = {**BENCHES, "memory": memory}
"""Those besides take long, and have no peer."""
ALL, YEAR = "all", "year"
_LAST_LINES = 20


async def run(
    name: str,
    *,
    peer: Path | None,
    rounds: int,
    scale: float = 1.0,
    plots: Path,
    tell: Callable[[str], None],
) -> dict[str, Any]:
    """The results by the name of the bench. `scale` makes the work smaller, for a quick look; the
    peer always does the whole. Raises InputInvalid, and PinQueueError where a bench fails."""
    if name not in (*BY_NAME, ALL, YEAR):
        raise InputInvalid("name", f"must be one of {', '.join((*BY_NAME, ALL, YEAR))}")
    if peer is not None and scale != 1.0:
        raise InputInvalid("scale", "the peer does the whole work only: leave one of them out")
    if name == YEAR:
        sides, drawn = year.measured(scale, plots)
        told = {**summary(year.WHAT, sides, ()), "plots": drawn}
        return _told({YEAR: told}, rounds=1, scale=scale)
    chosen = list(BENCHES) if name == ALL else [name]
    results: dict[str, Any] = {}
    async with ground(peer, tell) as place:
        for bench in chosen:
            module = BY_NAME[bench]
            tell(f"{bench}: {module.WHAT}")
            try:
                async with module.sides(place, scale) as sides:
                    measured = await alternate(sides, rounds, tell)
            except PinQueueError as error:
                raise PinQueueError(f"{bench}: {error}{_last_words(place.log_file)}") from error
            results[bench] = summary(module.WHAT, measured, module.BARS)
    if "pending" in results:
        results["pending"]["plots"] = _plotted(results["pending"]["sides"], plots)
    return _told(results, rounds=rounds, scale=scale)


def _told(results: dict[str, Any], *, rounds: int, scale: float) -> dict[str, Any]:
    return {"machine": _machine(), "rounds": rounds, "scale": scale, "benches": results}


def _last_words(log_file: Path) -> str:
    lines = log_file.read_text(errors="replace").splitlines() if log_file.exists() else []
    return "".join(f"\n  {line}" for line in lines[-_LAST_LINES:])


def _machine() -> dict[str, Any]:
    return {
        "processors": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def _plotted(sides: dict[str, Any], folder: Path) -> list[str]:
    """Lateness, and what an operation costs, against the number of jobs ahead."""

    def line(figure: str) -> Sequence[tuple[float, float]]:
        return [(float(size), figures[figure]["median"]) for size, figures in sides.items()]

    drawn = {
        "lateness.svg": plot.lines(
            "Lateness of due operations",
            "jobs months ahead",
            "ms",
            {"p99": line("late_p99_ms"), "p50": line("late_p50_ms")},
        ),
        "cost.svg": plot.lines(
            "Cost of an operation, and of a look at what is due",
            "jobs months ahead",
            "ms",
            {
                "operation": [(x, 1000 / y) for x, y in line("per_second")],
                "fetch": line("fetch_ms"),
            },
        ),
    }
    for name, svg in drawn.items():
        (folder / name).write_text(svg)
    return [str(folder / name) for name in drawn]
