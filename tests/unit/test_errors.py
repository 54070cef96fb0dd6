"""Errors: sorted by what to do next, and each says something even where nobody gave it words."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest

from pinqueue import errors
from pinqueue.errors import (
    BookingInvalid,
    InDoubt,
    InputInvalid,
    LockBusy,
    LockError,
    PinQueueError,
    TryLater,
)

OURS = [
    found
    for found in vars(errors).values()
    if isinstance(found, type) and issubclass(found, Exception)
]


def test_the_tree_in_the_docstring_is_the_tree_of_the_classes() -> None:
    path, drawn = ["Exception"], dict[str, str]()
    for line in (errors.__doc__ or "").splitlines()[1:]:
        if found := re.match(r"([│├└─ ]*)([A-Z][A-Za-z]+)(  +|$)", line):
            depth = 1 + len(found[1]) // 4
            path[depth:] = [found[2]]
            drawn[found[2]] = path[depth - 1]
    assert drawn == {error.__name__: error.__base__.__name__ for error in OURS if error.__base__}


@pytest.mark.parametrize("error", OURS)
def test_an_error_says_in_a_sentence_what_happened(error: type[PinQueueError]) -> None:
    assert issubclass(error, PinQueueError)
    assert (error.__doc__ or "").splitlines()[0].endswith(".")


@pytest.mark.parametrize(
    "error",
    [error for error in OURS if error not in (BookingInvalid, InputInvalid, TryLater, InDoubt)],
)
def test_an_error_without_words_of_its_own_says_its_sentence(error: type[PinQueueError]) -> None:
    assert str(error()) == (error.__doc__ or "").splitlines()[0]
    assert str(error("the door is stuck")) == "the door is stuck"


def test_a_refused_booking_names_its_field() -> None:
    refused = BookingInvalid("check_out", "must be after check_in")
    assert (str(refused), refused.field) == ("check_out: must be after check_in", "check_out")


def test_what_must_wait_says_until_when() -> None:
    moment = datetime(2026, 6, 1, tzinfo=UTC)
    assert TryLater("another worker is at it", retry_at=moment).retry_at == moment


def test_a_lock_error_is_not_in_doubt_unless_it_says_so() -> None:
    assert (LockError().in_doubt, LockError().code) == (False, "")
    assert LockError(in_doubt=True, code="2002").in_doubt
    assert LockBusy(code="28841", retry_after=3.5).retry_after == 3.5
    assert LockBusy().retry_after is None
