"""How rows are shown: to people, to programs and to spreadsheets."""

from __future__ import annotations

import csv
import io
import json
import re
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from pinqueue.tables import HELD, show, show_health, table

ROW: dict[str, Any] = {
    "job_id": 7,
    "at": datetime(2026, 6, 1, 12, 30, tzinfo=UTC),
    "late_by": timedelta(seconds=1.5),
    "detail": {"reason": "asleep", "at": datetime(2026, 6, 1, tzinfo=UTC)},
    "error": None,
    "final": True,
}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def _shown(rows: list[dict[str, Any]], *, columns: int | None = None, **how: Any) -> str:
    """What is written into a pipe, or to a terminal of so many columns."""
    out = io.StringIO() if columns is None else Terminal()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdout", out)
        patch.setenv("COLUMNS", str(columns or 40))
        patch.setenv("TERM", "xterm")
        for forced in ("FORCE_COLOR", "TTY_COMPATIBLE"):
            patch.delenv(forced, raising=False)
        show(rows, **how)
    return re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue())


def _table(*rows: dict[str, Any]) -> str:
    out = io.StringIO()
    Console(file=out, width=200).print(table(rows))
    return out.getvalue()


def test_json_is_one_array_of_objects_with_times_in_iso_and_durations_in_seconds() -> None:
    (row,) = json.loads(_shown([ROW], as_json=True))
    assert row == {
        "job_id": 7,
        "at": "2026-06-01T12:30:00+00:00",
        "late_by": 1.5,
        "detail": {"reason": "asleep", "at": "2026-06-01T00:00:00+00:00"},
        "error": None,
        "final": True,
    }


def test_json_of_no_rows_is_an_empty_array() -> None:
    assert json.loads(_shown([], as_json=True)) == []


def test_csv_has_a_header_and_a_line_for_each_row() -> None:
    head, *rows = csv.reader(io.StringIO(_shown([ROW, ROW], as_csv=True)))
    assert head == list(ROW)
    cells = dict(zip(head, rows[0], strict=True))
    assert json.loads(cells.pop("detail"))["reason"] == "asleep"
    assert cells == {
        "job_id": "7",
        "at": "2026-06-01T12:30:00+00:00",
        "late_by": "1.5",
        "error": "",
        "final": "true",
    }
    assert len(rows) == 2


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n"])
def test_a_text_that_a_spreadsheet_would_run_is_made_harmless(start: str) -> None:
    assert _cell(f"{start}cmd|' /C calc'!A0") == f"'{start}cmd|' /C calc'!A0"


@pytest.mark.parametrize(
    ("value", "cell"), [(-3, "-3"), (timedelta(seconds=-0.5), "-0.5"), (Decimal("-1.5"), "-1.5")]
)
def test_a_negative_number_stays_a_number(value: object, cell: str) -> None:
    assert _cell(value) == cell


@given(st.text())
def test_any_other_text_comes_through_csv_unchanged(text: str) -> None:
    assert _cell(text).removeprefix("'" if text[:1] in tuple("=+-@\t\r\n") else "") == text


def _cell(value: object) -> str:
    written = io.StringIO(_shown([{"cell": value}], as_csv=True), newline="")
    _, (cell,) = csv.reader(written)
    return cell


def test_a_table_names_its_columns_and_shows_each_value_for_a_person() -> None:
    drawn = _table(ROW)
    for text in (*ROW, "2026-06-01 12:30:00", "1.500 s", "asleep", "True"):
        assert text in drawn
    assert "None" not in drawn


def test_times_are_shown_in_utc_and_say_so_whatever_zone_the_database_gave_them_in() -> None:
    there = datetime(2026, 6, 1, 9, 30, tzinfo=timezone(timedelta(hours=-3)))
    drawn = _table({"at": None}, {"at": there})
    assert "at (UTC)" in drawn
    assert "2026-06-01 12:30:00" in drawn
    assert json.loads(_shown([{"at": there}], as_json=True)) == [
        {"at": "2026-06-01T12:30:00+00:00"}
    ]
    narrow = _shown([{str(number): there for number in range(9)}], columns=80, title="stay")
    assert narrow.startswith("stay\n")
    assert narrow.count("2026-06-01 12:30:00 UTC") == 9


ASLEEP = "asleep" + 8 * " asleep"
EVENTS = [
    {"reservation_id": f"stay-{n:08}", "event": "code:scheduled", "detail": ASLEEP} for n in (1, 2)
]


def test_in_a_pipe_a_row_is_one_line_however_long() -> None:
    _, _, _, *lines = _shown(EVENTS, title="timeline").splitlines()
    assert [re.split(" {2,}", line) for line in lines] == [[*one.values()] for one in EVENTS]


def test_on_a_terminal_only_the_last_column_is_broken_over_lines() -> None:
    lines = _shown(EVENTS, columns=60, title="timeline").splitlines()
    assert max(map(len, lines)) <= 60
    assert sum("stay-" in line and "code:scheduled" in line for line in lines) == 2
    assert sum(line.count("asleep") for line in lines) == 18


def test_on_a_terminal_too_narrow_for_a_table_each_row_is_a_block() -> None:
    assert _shown(EVENTS, columns=40, title="timeline").splitlines()[:4] == [
        "timeline 1 of 2",
        "  reservation_id  stay-00000001",
        "  event           code:scheduled",
        f"  detail          {ASLEEP}",
    ]


def test_lists_and_objects_are_told_to_a_person_without_brackets() -> None:
    drawn = _table({"locks": ["back", "front"], "detail": {"code": 7, "reason": "asleep"}})
    assert "back, front" in drawn
    assert "code: 7, reason: asleep" in drawn


def test_health_is_told_to_a_person_with_what_is_wrong_first() -> None:
    report: dict[str, Any] = {
        "healthy": False,
        "problems": ["no worker is alive"],
        "warnings": ["3 PINs"],
        "database": "ok",
        "lock_cloud": "reachable",
        "queues": {"generate_pin": {"waiting": 41}},
        "workers": [],
        "locks_held": [dict.fromkeys(HELD, 17.25)],
    }
    out = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdout", out)
        show_health(report, as_json=False)
    lines = out.getvalue().splitlines()
    assert lines[:3] == ["not healthy", "! no worker is alive", "! 3 PINs"]
    for text in ("41", "workers: nothing", "held_seconds", "17.2"):
        assert text in out.getvalue()


@pytest.mark.parametrize("text", ["[red]Ana[/red]", "[5]", "a\\[b]", "[/]", "[link=x]y", "a\\"])
def test_a_text_is_drawn_as_it_is_even_where_it_looks_like_a_style(text: str) -> None:
    assert f"  {text}  " in _table({"id": 1, "guest": text, "status": "confirmed"})
    assert f"name: {text}" in _table({"detail": {"name": text}})


def test_a_person_is_told_when_there_is_nothing() -> None:
    assert _shown([], title="audit_failed") == "audit_failed: nothing\n"
    assert _shown([]) == "nothing\n"
