"""How the command line shows rows: a table for people, JSON or CSV for programs."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

Row = dict[str, Any]


MOST_COLUMNS = 8
"""More do not fit beside each other on a terminal."""


def show(
    rows: Sequence[Row], *, title: str = "", as_json: bool = False, as_csv: bool = False
) -> None:
    """JSON is one array; CSV has a header and neutralises what a spreadsheet would run."""
    if as_json:
        sys.stdout.write(json.dumps(rows, default=_plain, indent=2) + "\n")
    elif as_csv:
        _write_csv(rows)
    elif not rows:
        Console().print(f"{title}: nothing" if title else "nothing")
    elif len(rows[0]) > MOST_COLUMNS:
        _write_blocks(rows, title)
    else:
        Console().print(table(rows, title))


def _write_blocks(rows: Sequence[Row], title: str) -> None:
    """One row a block, one value a line: as columns so many would be a letter wide."""
    width = max(len(column) for column in rows[0])
    for number, row in enumerate(rows, 1):
        sys.stdout.write(f"{title} {number} of {len(rows)}\n")
        for column, value in row.items():
            sys.stdout.write(f"  {column:<{width}}  {_text(value)}\n")


def table(rows: Sequence[Row], title: str = "") -> Table:
    made = Table(title=title or None, title_justify="left", header_style="bold")
    for column in rows[0]:
        made.add_column(column, overflow="fold")
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
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    return str(value)


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, timedelta):
        return f"{value.total_seconds():.3f} s"
    if isinstance(value, dict | list):
        return json.dumps(value, default=_plain)
    return str(value)
