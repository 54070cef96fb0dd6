"""RULE: choose a PIN that nobody guesses, and never let its digits slip out.

Sources: OWASP ASVS 5.0 6.5.3 (CSPRNG) and 6.5.4 (20 bits: six random digits are enough). Machine
chosen PINs need only a small filter; keypads are guessed by pattern, so patterns are refused.
"""

from __future__ import annotations

import secrets
from itertools import pairwise
from typing import Final

LENGTHS: Final = {"wifi": 7, "zigbee": 6, "bluetooth": 6}
"""Digits by lock protocol (Tuya, "Create Temporary Password"); other lengths: refused as 2314."""


class Pin:
    """The digits that open a door. Prints as `***`; only `digits()` gives them away."""

    __slots__ = ("_digits",)

    def __init__(self, digits: str) -> None:
        if not (digits.isascii() and digits.isdigit()):
            raise ValueError("a PIN is made of the digits 0 to 9")
        self._digits = digits

    def digits(self) -> str:
        return self._digits

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pin) and secrets.compare_digest(self._digits, other._digits)

    def __hash__(self) -> int:
        return hash(self._digits)

    def __repr__(self) -> str:
        return "***"

    __str__ = __repr__

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a PIN is never pickled: a pickle would carry its digits")


def choose(length: int) -> Pin:
    """A random PIN of that many digits that is not weak."""
    while is_weak(digits := "".join(secrets.choice("0123456789") for _ in range(length))):
        pass
    return Pin(digits)


def is_weak(digits: str) -> bool:
    """Whether people would try these digits first: few different ones, runs, blocks, mirrors.

    >>> [is_weak(d) for d in ("111222", "123456", "989898", "123321", "480917")]
    [True, True, True, True, False]
    """
    return (
        len(set(digits)) < 3
        or _is_run(digits)
        or _is_repeated_block(digits)
        or digits == digits[::-1]
        or digits.startswith("0000")
    )


def _is_run(digits: str) -> bool:
    steps = {(int(b) - int(a)) % 10 for a, b in pairwise(digits)}
    return len(steps) == 1


def _is_repeated_block(digits: str) -> bool:
    return any(
        digits == (digits[:size] * len(digits))[: len(digits)]
        for size in range(1, len(digits) // 2 + 1)
    )
