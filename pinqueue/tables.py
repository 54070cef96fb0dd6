"""How the command line shows rows: a table for people, JSON or CSV for programs."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

Row = dict[str, Any]


LEAST_LAST = 16
"""Characters. Of a table, only the last column is broken over lines, and only if it has as many."""
ENDLESS = 1_000_000


def show(
    rows: Sequence[Row], *, title: str = "", as_json: bool = False, as_csv: bool = False
) -> None:
    """JSON is one array; CSV has a header and neutralises what a spreadsheet would run."""
    if as_json:
        sys.stdout.write(dumps(rows) + "\n")
    elif as_csv:
        _write_csv(rows)
    elif not rows:
        sys.stdout.write(f"{title}: nothing\n" if title else "nothing\n")
    else:
        _draw(rows, title)


def dumps(value: object) -> str:
    """As JSON: times in ISO 8601 and UTC, durations in seconds."""
    return json.dumps(value, default=_plain, indent=2)


def show_facts(facts: Row, title: str) -> None:
    """One thing, a value a line."""
    _write_blocks([facts], title)


def show_health(report: Row, *, as_json: bool) -> None:
    """Whether all is well, and what is not; then the figures, as far as there are any."""
    if as_json:
        sys.stdout.write(dumps(report) + "\n")
        return
    lines = ["healthy" if report["healthy"] else "not healthy"]
    lines += [f"! {told}" for told in (*report["problems"], *report["warnings"])]
    lines.append(f"database {report['database']}, lock cloud {report['lock_cloud']}")
    sys.stdout.write("\n".join(lines) + "\n")
    if report["queues"] is None:
        return
    show([{"queue": queue, **jobs} for queue, jobs in report["queues"].items()], title="jobs")
    show(report["workers"], title="workers")
    show(
        [{key: held[key] for key in HELD} for held in report["locks_held"]],
        title="locks held",
    )


HELD = ("lock_id", "reservation_id", "kind", "holder", "pid", "client", "held_seconds")


def show_bench(measured: Row, *, as_json: bool) -> None:
    """Each side's figures, then what they come to."""
    if as_json:
        sys.stdout.write(dumps(measured) + "\n")
        return
    for name, result in measured["benches"].items():
        figures = [
            {"side": side, "figure": figure, **{key: spread[key] for key in SPREAD}}
            for side, found in result["sides"].items()
            for figure, spread in found.items()
        ]
        show(figures, title=f"{name}: {result['what']}")
        if result["ratios"]:
            show(result["ratios"], title=f"{name}: ratios")


SPREAD = ("median", "least", "most")


def _draw(rows: Sequence[Row], title: str) -> None:
    """A table where the terminal is wide enough, else blocks: half a name is nothing to read or to
    copy. A file or a pipe is as wide as the table, so that `grep` finds whole lines."""
    from rich.console import Console  # not above: drawing is not needed to say what is wrong

    console, drawn = Console(), table(rows, title)
    needs = Console(width=ENDLESS).measure(drawn)
    if not console.is_terminal:
        Console(width=needs.maximum).print(drawn)
    elif needs.minimum <= console.width:
        console.print(drawn)
    else:
        _write_blocks(rows, title)


def _write_blocks(rows: Sequence[Row], title: str) -> None:
    """One row a block, one value a line."""
    width = max(len(column) for column in rows[0])
    for number, row in enumerate(rows, 1):
        sys.stdout.write(title + f" {number} of {len(rows)}" * (len(rows) > 1) + "\n")
        for column, value in row.items():
            utc = " UTC" if isinstance(value, datetime) else ""
            sys.stdout.write(f"  {column:<{width}}  {_text(value)}{utc}\n")


def table(rows: Sequence[Row], title: str = "") -> Table:
    from rich import box
    from rich.cells import cell_len
    from rich.table import Table
    from rich.text import Text

    made = Table(
        title=title or None,
        title_justify="left",
        header_style="bold",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    *_, last = rows[0]
    for column in rows[0]:
        instants = any(isinstance(row[column], datetime) for row in rows)
        head = f"{column} (UTC)" if instants else column
        wide = max(cell_len(text) for text in (head, *(_text(row[column]) for row in rows)))
        if column == last:
            made.add_column(head, overflow="fold", min_width=min(wide, LEAST_LAST))
        else:
            made.add_column(head, no_wrap=True, min_width=wide)
    for row in rows:
        made.add_row(*(Text(_text(value)) for value in row.values()))
    return made


def _write_csv(rows: Sequence[Row]) -> None:
    # All quoted: a bare carriage return in a guest's name would begin a row of its own.
    writer = csv.writer(sys.stdout, lineterminator="\n", quoting=csv.QUOTE_ALL)
    if rows:
        writer.writerow(rows[0])
    for row in rows:
        writer.writerow([_cell(value) for value in row.values()])


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return _harmless(value)
    return json.dumps(value, default=_plain).strip('"')


def _harmless(text: str) -> str:
    """A guest's name that begins like a formula must not be one when the file is opened (OWASP)."""
    return "'" + text if text[:1] in ("=", "+", "-", "@", "\t", "\r", "\n") else text


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return _utc(value).isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    return str(value)


def _utc(value: datetime) -> datetime:
    """The database gives times in whatever zone its session has."""
    return value.astimezone(UTC) if value.tzinfo else value


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return _utc(value).strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, float):
        return f"{value:.1f}"
    if isinstance(value, timedelta):
        return f"{value.total_seconds():.3f} s"
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_text(inner)}" for key, inner in value.items())
    if isinstance(value, list):
        return ", ".join(_text(inner) for inner in value)
    return str(value)
