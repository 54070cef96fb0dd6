"""PINs: long enough, hard to guess, fairly chosen, and silent about their digits."""

from __future__ import annotations

import copy
import io
import json
import logging
import pickle
import random
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pinqueue.pins import LENGTHS, Pin, choose, is_weak

DIGITS = "4809173"
PIN = Pin(DIGITS)

lengths = st.sampled_from(sorted(set(LENGTHS.values())))


@settings(max_examples=1000)
@given(lengths)
def test_a_chosen_pin_has_the_length_asked_for_and_digits_only_and_is_not_weak(length: int) -> None:
    digits = choose(length).digits()
    assert len(digits) == length
    assert set(digits) <= set("0123456789")
    assert not is_weak(digits)


def test_a_lock_gets_as_many_digits_as_its_protocol_takes() -> None:
    assert LENGTHS == {"wifi": 7, "zigbee": 6, "bluetooth": 6}


def test_a_pin_may_begin_with_zeros() -> None:
    first = {choose(6).digits()[:1] for _ in range(500)}
    assert first == set("0123456789")


def test_f22_no_seed_makes_a_pin_come_again() -> None:
    """The prototype draws from a generator whose next number can be computed."""
    drawn = set()
    for _ in range(5):
        random.seed(1)
        drawn.add(choose(7).digits())
    assert len(drawn) == 5


def test_every_digit_is_as_likely_as_any_other_in_every_place() -> None:
    # A fair choice misses the critical value once in a thousand draws, so twice in a row once in a
    # million; a biased one misses it every time.
    assert _chi_square() < CRITICAL or _chi_square() < CRITICAL


PLACES, CRITICAL = 7, 103.442
"""Chi-square with 7 x 9 degrees of freedom at p = 0.001."""


def _chi_square() -> float:
    drawn = [choose(PLACES).digits() for _ in range(1_000_000 // PLACES)]
    fair = len(drawn) / 10
    return sum(
        (count - fair) ** 2 / fair
        for place in range(PLACES)
        for count in Counter(digits[place] for digits in drawn).values()
    )


@pytest.mark.parametrize(
    "digits",
    [
        *("000000", "7777777"),  # one digit
        *("112122", "9998999"),  # two digits
        *("123456", "987654", "890123", "0246802", "9630741"),  # steps of one size
        *("121212", "480480", "4804804"),  # a block again and again
        *("480084", "1234321"),  # mirrors
        *("000048", "0000917"),  # hardly begun
    ],
)
def test_digits_that_people_would_try_first_are_weak(digits: str) -> None:
    assert is_weak(digits)


@pytest.mark.parametrize(
    "digits", ["480917", "4809173", "000485", "123457", "112233", "480481", "484840", "135790"]
)
def test_digits_that_only_resemble_a_pattern_are_not_weak(digits: str) -> None:
    assert not is_weak(digits)


@pytest.mark.parametrize("length", [6, 7])
def test_fewer_than_one_pin_in_a_hundred_is_weak(length: int) -> None:
    rng = random.Random(length)
    drawn = ["".join(rng.choices("0123456789", k=length)) for _ in range(50_000)]
    assert 0 < sum(map(is_weak, drawn)) < len(drawn) / 100


# Silence


@dataclass
class _Holder:
    pin: Pin


def _logged() -> str:
    out = io.StringIO()
    logger = logging.Logger("pins")
    logger.addHandler(logging.StreamHandler(out))
    logger.error("%s %r %s", PIN, PIN, {"pin": PIN})
    return out.getvalue()


def _raised() -> str:
    try:
        raise RuntimeError(PIN)
    except RuntimeError as error:
        lines = traceback.TracebackException.from_exception(error, capture_locals=True).format()
        return "".join(lines)


@pytest.mark.parametrize(
    "say",
    [
        lambda: repr(PIN),
        lambda: str(PIN),
        lambda: format(PIN),
        lambda: f"{PIN} {PIN!r} {PIN!s} {PIN!a}",
        lambda: "{} {!r}".format(PIN, PIN),  # noqa: UP032  # both ways are asked
        lambda: "%s %r" % (PIN, PIN),  # noqa: UP031  # and this one
        lambda: repr([PIN, (PIN,), {PIN: PIN}]),
        lambda: repr(_Holder(PIN)),
        lambda: json.dumps({"pin": PIN}, default=str),
        _logged,
        _raised,
    ],
)
def test_a_pin_in_a_text_is_three_stars(say: Callable[[], str]) -> None:
    said = say()
    assert "***" in said
    assert DIGITS not in said


@pytest.mark.parametrize(
    "carry",
    [
        lambda: json.dumps(PIN),
        lambda: pickle.dumps(PIN),
        lambda: copy.copy(PIN),
        lambda: asdict(_Holder(PIN)),
        lambda: vars(PIN),
        lambda: format(PIN, ">9"),
    ],
)
def test_a_pin_is_not_carried_off_unseen(carry: Callable[[], object]) -> None:
    with pytest.raises(TypeError) as refused:
        carry()
    assert DIGITS not in str(refused.value)


@pytest.mark.parametrize(
    "text", ["", "12a456", "١٢٣٤٥٦", " 123456", "123456\n", "-12345", "1²3456"]
)
def test_what_is_no_pin_is_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(ValueError, match="digits 0 to 9") as refused:
        Pin(text)
    assert not text.strip() or text not in str(refused.value)


def test_pins_are_equal_by_their_digits() -> None:
    assert Pin("480917") == Pin("480917")
    assert Pin("480917") != Pin("480918")
    assert Pin("480917") != "480917"
    assert len({Pin("480917"), Pin("480917")}) == 1
