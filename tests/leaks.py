"""Looks for PINs where none may be: in log lines, rows and errors, in the shapes they take."""

from __future__ import annotations

import base64
import logging
import re
from collections.abc import Collection

from pinqueue.db import Database
from tests import factories

_DATES = re.compile(r"datetime\.datetime\([^)]*\)")
_RUNS = re.compile(r"(?<![\w.])\d{6,7}(?!\w)")
_SPACED = re.compile(r"(?<!\d)\d(?:[ -]\d){5,6}(?!\d)")
_HEX = re.compile(r"(?=((?:3\d){6,7}))")
_BASE64 = re.compile(
    r"(?=([MNO][A-Z][A-Za-z0-9][0-9w-z][MNO][A-Z][A-Za-z0-9][0-9w-z](?:[MNO][QA-Z])?))"
)


def leaks(text: str, pins: Collection[str]) -> set[str]:
    """Which of these PINs are in the text: as digits, digits apart, hex, or base64.

    A fraction of a second is no PIN, though it looks like one.
    """
    wanted = set(pins)
    by_hex = {pin.encode().hex(): pin for pin in wanted}
    by_base64 = {base64.b64encode(pin.encode()).decode().rstrip("="): pin for pin in wanted}
    text = _DATES.sub("", text)
    found = wanted.intersection(_RUNS.findall(text))
    found |= wanted.intersection(re.sub("[ -]", "", run) for run in _SPACED.findall(text))
    found |= {
        by_hex[part] for run in _HEX.findall(text) for part in (run, run[:12]) if part in by_hex
    }
    found |= {
        by_base64[part]
        for run in _BASE64.findall(text)
        for part in (run, run[:8])
        if part in by_base64
    }
    return found


class Recorder(logging.Handler):
    """Everything that is logged, with what was attached to it, as text; the same line once, since
    most are the same statements again."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: set[str] = set()
        self._with_trace = logging.Formatter("%(name)s %(levelname)s %(message)s")

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.add(self._with_trace.format(record))
        told = vars(record)
        if extra := told.keys() - _PLAIN:
            self.lines.add(repr({key: told[key] for key in extra}))

    def text(self) -> str:
        return "\n".join(self.lines)


_PLAIN = vars(logging.makeLogRecord({"message": "", "asctime": ""})).keys()


async def dump(db: Database) -> str:
    """Every row of every table, and what the server is being asked, as text."""
    tables = await factories.rows(
        db, "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY tablename"
    )
    assert len(tables) > 12
    parts = []
    for table in (row["tablename"] for row in tables):
        rows = await factories.rows(db, f'SELECT t::text AS row FROM "{table}" t')
        parts += [f"{table} {row['row']}" for row in rows]
    asked = await factories.rows(db, "SELECT query FROM pg_stat_activity")
    return "\n".join(parts + [str(row["query"]) for row in asked])
