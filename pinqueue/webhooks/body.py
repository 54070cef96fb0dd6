"""The body of a webhook, read strictly: what two JSON readers could read differently is refused."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

DEEPEST = 32


class Refusal(Exception):
    """The request gets this answer, and nothing of it is stored.

    `audit` is what a person should know of it: an authentic event is lost, or its sender at fault.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str = "",
        details: list[dict[str, str]] | None = None,
        *,
        audit: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.details = status, code, message, details or []
        self.audit = audit


def parse(raw: bytes) -> dict[str, Any]:
    """A JSON object, or Refusal: 400 for what is not JSON, 422 for what PostgreSQL cannot hold."""
    try:
        body = json.loads(
            raw.decode("utf-8"),
            object_pairs_hook=_no_duplicates,
            parse_constant=_not_a_number,
            parse_float=_finite,
        )
    except (ValueError, RecursionError) as error:
        raise Refusal(400, "invalid_json", f"the body is not valid JSON: {_short(error)}") from None
    _check(body, DEEPEST)
    if not isinstance(body, dict):
        raise Refusal(422, "invalid_body", "the body must be a JSON object")
    return body


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key appears twice in one object")
    return found


def _not_a_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number is too large")
    return number


def _check(value: Any, depth: int) -> None:
    if depth == 0:
        raise Refusal(400, "invalid_json", f"the body is nested deeper than {DEEPEST} levels")
    if isinstance(value, str):
        if "\x00" in value or any("\ud800" <= c <= "\udfff" for c in value):
            raise Refusal(
                422, "invalid_text", "a text holds a NUL or half a surrogate pair: leave them out"
            )
    elif isinstance(value, dict):
        for key, item in value.items():
            _check(key, depth - 1)
            _check(item, depth - 1)
    elif isinstance(value, list):
        for item in value:
            _check(item, depth - 1)


def _short(error: Exception) -> str:
    # Never the input itself: `json` quotes none of it, UnicodeDecodeError would.
    return "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)[:120]
