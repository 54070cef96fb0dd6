"""Which error each code of Tuya becomes, and what a person reads."""

from __future__ import annotations

import pytest

from pinqueue.errors import (
    LockBusy,
    LockError,
    LockFaulted,
    LockFull,
    LockRefused,
    LockUnreachable,
    NameTaken,
    PinRejected,
    WindowPassed,
)
from pinqueue.locks.tuya_errors import DEAD_TOKEN, label_of, refusal

EXPECTED: list[tuple[type[LockError], list[int]]] = [
    (LockUnreachable, [500, 1010, 1011, 1012, 1400, 2001, 2312, 2313]),
    (LockBusy, [1110, 1111, 1113, 1199, 2311, 2317, 2328]),
    (LockFull, [2303, 2305, 2307, 2308]),
    (PinRejected, [2322]),
    (NameTaken, [2316]),
    (LockRefused, [1001, 1002, 1004, 1005, 1013, 1106, 1108]),
    (LockRefused, [2003, 2004, 2008, 2009, 2010, 2314]),
    (WindowPassed, [2318]),
    (LockRefused, [28841001, 28841002, 28841004, 28841101, 28841105, 28841106]),
    (LockFaulted, [1109, 2304, 2310, 2321, 2323, 2324]),
    (LockFaulted, [1, 1100, 1101, 9999, 40000309]),
]
CODES = [(kind, code) for kind, codes in EXPECTED for code in codes]


def error(code: object, msg: object = "msg", *, writes: bool = True) -> LockError:
    return refusal({"success": False, "code": code, "msg": msg}, writes=writes)


@pytest.mark.parametrize(("kind", "code"), CODES)
def test_a_code_becomes_the_error_that_says_what_to_do(kind: type[LockError], code: int) -> None:
    assert type(error(code)) is kind
    assert error(code).code == str(code)


@pytest.mark.parametrize("code", [500, 1, 9999])
def test_a_write_is_in_doubt_after_an_outage_or_an_unknown_code(code: int) -> None:
    assert error(code, writes=True).in_doubt
    assert not error(code, writes=False).in_doubt


@pytest.mark.parametrize("code", [1004, 1199, 2312, 2314, 2316, 2322, 2328])
def test_a_refusal_leaves_no_doubt(code: int) -> None:
    assert not error(code, writes=True).in_doubt


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        (1004, "PINQUEUE_TUYA_ACCESS_SECRET"),
        (1013, "clock of this machine"),
        (1106, "link the app account"),
        (2314, "wrong length"),
        (28841002, "renew it at iot.tuya.com"),
        (28841004, "quota"),
        (28841105, "Smart Lock Open Service"),
    ],
)
def test_a_refusal_names_the_remedy_and_what_tuya_said(code: int, remedy: str) -> None:
    message = str(error(code, "the vendor's words"))
    assert remedy in message
    assert f"(Tuya {code}: the vendor's words)" in message


def test_a_code_in_quotes_is_the_same_code() -> None:
    assert type(error("2316")) is NameTaken


@pytest.mark.parametrize("code", [None, "", "x", [], {}, 1.5])
def test_a_code_that_is_no_number_is_an_unknown_failure(code: object) -> None:
    assert type(error(code)) is LockFaulted
    assert error(code).code == ""


def test_the_vendors_words_stay_one_short_line() -> None:
    message = str(error(9999, "two\nlines " + "x" * 1000))
    assert "\n" not in message
    assert len(message) < 400


def test_every_code_of_a_dead_token_is_known_as_an_outage_where_renewing_does_not_help() -> None:
    assert {type(error(code)) for code in DEAD_TOKEN} == {LockUnreachable}


@pytest.mark.parametrize(
    ("code", "label"),
    [("1110", "1110"), ("429", "429"), ("500", "500"), ("424242", "other"), ("", "none")],
)
def test_a_code_is_a_label_only_when_it_is_one_of_those_we_know(code: str, label: str) -> None:
    assert label_of(code) == label
