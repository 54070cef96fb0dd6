"""Whose job goes first, as a number: the earlier the deadline the higher, and above all what may
open and should not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from pinqueue.alarms import urgency
from pinqueue.locks import Window

START = datetime(2026, 12, 24, 15, 0, tzinfo=UTC)
END = START + timedelta(days=2)


def of(kind: str, *, due: datetime = END, later: timedelta = timedelta(0)) -> int:
    """Of an operation of a stay that is so much later."""
    return urgency(kind, due + later, Window(START + later, END + later))


def test_the_guest_who_arrives_first_goes_first_however_early_the_lock_is_told() -> None:
    soon = of("generate", due=START - timedelta(hours=1))
    later = of("generate", due=START - timedelta(days=1), later=timedelta(minutes=1))
    assert soon == later + 1


def test_the_stay_that_ended_first_is_revoked_first() -> None:
    assert of("revoke") == of("revoke", later=timedelta(minutes=5)) + 5


def test_a_pin_that_comes_off_before_its_end_goes_before_everything() -> None:
    withdrawn = of("revoke", due=START - timedelta(days=1))
    assert withdrawn > max(of("generate"), of("revoke"))


@pytest.mark.parametrize("year", [2000, 2200])
def test_the_number_of_any_year_that_a_stay_may_have_fits_its_column(year: int) -> None:
    window = Window(START.replace(year=year), END.replace(year=year))
    number = urgency("generate", START, window)
    assert -(2**31) < number < 0
