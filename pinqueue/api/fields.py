"""The kinds of values that the API takes and gives, each with its rule and its JSON schema."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

from pinqueue.config import duration, duration_text
from pinqueue.inventory import NAME
from pinqueue.schedule import EARLIEST_YEAR, LATEST_YEAR, LONGEST_STAY


class Given(BaseModel):
    """What a caller sends: what is not known here is a mistake, so it is refused, not ignored."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class Body(Given):
    """A JSON object, in which a number is no text and a text no number."""

    model_config = ConfigDict(strict=True)


class Told(BaseModel):
    """What we answer."""

    model_config = ConfigDict(
        from_attributes=True, hide_input_in_errors=True, serialize_by_alias=True
    )


def _plain(text: str) -> str:
    if text != text.strip() or not text.isprintable():
        raise PydanticCustomError("id", "must not hold spaces around it or control characters")
    return text


def _whole(value: object) -> object:
    """A number in a path or a query: digits, and nothing else that Python reads as a number."""
    if not isinstance(value, str):
        return value
    if not re.fullmatch(r"-?[0-9]{1,19}", value):
        raise PydanticCustomError("number", "must be a whole number")
    return int(value)


def _instant(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        moment = datetime.fromisoformat(value.upper())
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise PydanticCustomError(
            "time",
            "must be an ISO 8601 date and time with an offset: 2026-11-01T10:00:00Z"
            " (in a URL, write + as %2B)",
        )
    if not EARLIEST_YEAR <= moment.year <= LATEST_YEAR:
        raise PydanticCustomError("time", f"must be in the years {EARLIEST_YEAR} to {LATEST_YEAR}")
    return moment


def _duration(value: object) -> object:
    if isinstance(value, timedelta):
        return value
    try:
        if not isinstance(value, str):
            raise ValueError("write a duration as text, e.g. 90m")
        return duration(value)
    except ValueError as error:
        raise PydanticCustomError("duration", "{why}", {"why": str(error)}) from None


def _no_longer_than_a_stay(lead: timedelta) -> timedelta:
    if lead > LONGEST_STAY:
        raise PydanticCustomError("lead", f"must be at most {LONGEST_STAY.days}d")
    return lead


def _in_utc(row: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value.astimezone(UTC) if isinstance(value, datetime) else value
        for name, value in row.items()
    }


def _like(name: str) -> Any:
    """Says what a text is like where JSON Schema has no words for it."""
    return Field(json_schema_extra={"format": name})


Id = Annotated[str, Field(min_length=1, max_length=128), _like("printable"), AfterValidator(_plain)]
Name = Annotated[str, Field(pattern=f"^{NAME.pattern}$")]
Whole = Annotated[int, BeforeValidator(_whole)]
Number = Annotated[int, Field(ge=1, le=2**63 - 1), BeforeValidator(_whole)]
Moment = Annotated[str, Field(min_length=1, max_length=64), _like("iso-8601")]
"""A date and time whose zone only its listing knows."""
TimeZone = Annotated[str, Field(min_length=1, max_length=64), _like("time-zone")]
Cursor = Annotated[str, Field(min_length=1, max_length=1024), _like("cursor")]
Secret = Annotated[
    str,
    Field(max_length=100, description="A Standard Webhooks secret, whsec_...; made if not given"),
    _like("webhook-secret"),
]
Instant = Annotated[
    datetime,
    BeforeValidator(_instant),
    AfterValidator(lambda moment: moment.astimezone(UTC)),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
Duration = Annotated[
    timedelta,
    BeforeValidator(_duration),
    PlainSerializer(duration_text, return_type=str),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": r"^([0-9]+(\.[0-9]+)?(ms|s|m|h|d))+$",
            "format": "written-duration",
            "examples": ["1h30m"],
        }
    ),
]
Row = Annotated[dict[str, Any], BeforeValidator(_in_utc), WithJsonSchema({"type": "object"})]
"""As the database gives it."""
Lead = Annotated[Duration, AfterValidator(_no_longer_than_a_stay)]
"""How long before check-in a PIN is programmed."""
