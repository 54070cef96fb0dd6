"""The body of a request, taken within limits of size and time, and read strictly: what two JSON
readers could read differently is refused."""

from __future__ import annotations

import asyncio
import json
import math
import re
from contextlib import aclosing
from typing import Any, NoReturn

from starlette.requests import ClientDisconnect, Request

LARGEST_BODY = 256 * 1024
BODY_WITHIN = 10.0
"""Seconds."""
DEEPEST = 32
_NOT_STORED = re.compile("[\x00\ud800-\udfff]")


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
        retry_after: float | None = None,
    ) -> None:
        """`retry_after` is in seconds."""
        super().__init__(message)
        self.status, self.code, self.message, self.details = status, code, message, details or []
        self.audit, self.retry_after = audit, retry_after


async def receive_body(request: Request) -> bytes:
    """The body as it came, or Refusal: too large, too slow, or not JSON by its own account."""
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > LARGEST_BODY:
        raise _too_large()
    content_type = request.headers.get("content-type", "").split(";")
    parameters = {p.strip().lower().replace('"', "") for p in content_type[1:]}
    if content_type[0].strip().lower() != "application/json" or parameters - {"charset=utf-8", ""}:
        raise Refusal(415, "unsupported_media_type", "send application/json in UTF-8")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Refusal(415, "unsupported_encoding", "send the body uncompressed")
    raw = bytearray()
    try:
        async with asyncio.timeout(BODY_WITHIN), aclosing(request.stream()) as chunks:
            async for chunk in chunks:
                raw += chunk
                if len(raw) > LARGEST_BODY:  # one sent in chunks announces no length
                    raise _too_large()
    except TimeoutError:
        raise Refusal(408, "request_timeout", "the body did not arrive in time") from None
    except ClientDisconnect:
        raise Refusal(400, "incomplete_body", "the body did not arrive whole") from None
    return bytes(raw)


def _too_large() -> Refusal:
    return Refusal(413, "body_too_large", f"send at most {LARGEST_BODY // 1024} KiB")


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
        if _NOT_STORED.search(value):
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
