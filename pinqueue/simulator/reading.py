"""Reading the body of a create or modify call, checked in the documented order (tuya.md 6)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pinqueue.simulator.doors import Door
from pinqueue.simulator.records import Operation, Record
from pinqueue.simulator.replies import Refusal
from pinqueue.simulator.settings import Settings
from pinqueue.simulator.terms import DailyHours, Terms, zone
from pinqueue.simulator.tickets import TicketOffice

REQUIRED: Final = (
    "name",
    "password",
    "effective_time",
    "invalid_time",
    "password_type",
    "ticket_id",
)
PASSWORD_TYPE: Final = "ticket"  # noqa: S105  # a kind of password, not one
NAME_LENGTH: Final = 20
SCHEDULES: Final = 3
TEN_DIGITS: Final = 9_999_999_999
"""A longer figure is a time in milliseconds."""


def read_terms(
    body: Mapping[str, object],
    door: Door,
    tickets: TicketOffice,
    settings: Settings,
    now: float,
    changing: Record | None = None,
) -> Terms:
    """The terms asked for, after every check. `changing` is the record a modify call is about."""
    for name in REQUIRED:
        if body.get(name) in (None, ""):
            raise Refusal(1100)
    if body["password_type"] != PASSWORD_TYPE:
        raise Refusal(1109)
    digits = tickets.unseal(
        door.id,
        _text(body["ticket_id"]),
        _text(body["password"]),
        now,
        single_use=settings.single_use_tickets,
    )
    if len(digits) != door.pin_length:
        raise Refusal(2314)
    effective_time = _integer(body["effective_time"])
    invalid_time = _integer(body["invalid_time"])
    if invalid_time <= now or (effective_time < now and not settings.past_starts):
        raise Refusal(2318)
    if invalid_time <= effective_time or max(effective_time, invalid_time) > TEN_DIGITS:
        raise Refusal(1109)
    schedule, time_zone = _schedule(body)
    terms = Terms(
        _name(body["name"]),
        digits,
        effective_time,
        invalid_time,
        one_time=_one_time(body),
        time_zone=time_zone,
        schedule=schedule,
    )
    _refuse_repeats(terms, door, settings, changing)
    if changing is None and sum(r.live(now) for r in door.records.values()) >= settings.max_live:
        raise Refusal(2303)
    door.refuse_if_busy()
    door.refuse_if_unreachable(Operation.CREATE if changing is None else Operation.MODIFY)
    return terms


def _refuse_repeats(terms: Terms, door: Door, settings: Settings, changing: Record | None) -> None:
    others = [record for record in door.records.values() if record is not changing]
    present = [record for record in others if not record.gone]
    named = others if settings.deleted_names_taken else present
    if any(record.terms.name == terms.name for record in named):
        raise Refusal(2316)
    if any(record.terms.digits == terms.digits for record in present):
        raise Refusal(2322)


def _schedule(body: Mapping[str, object]) -> tuple[tuple[DailyHours, ...], str]:
    listed = body.get("schedule_list") or []
    time_zone = body.get("time_zone") or ""
    if not isinstance(listed, list) or len(listed) > SCHEDULES:
        raise Refusal(1109)
    if listed and not time_zone:
        raise Refusal(1100)
    if time_zone:
        try:
            zone(_text(time_zone))
        except ValueError:
            raise Refusal(1109) from None
    return tuple(_hours(entry) for entry in listed), _text(time_zone)


def _hours(entry: object) -> DailyHours:
    if not isinstance(entry, dict):
        raise Refusal(1109)
    hours = DailyHours(
        _integer(entry.get("effective_time")),
        _integer(entry.get("invalid_time")),
        _integer(entry.get("working_day")),
    )
    if not (0 <= hours.from_minute < hours.until_minute <= 1440 and 0 < hours.weekdays < 128):
        raise Refusal(1109)
    return hours


def _one_time(body: Mapping[str, object]) -> bool:
    kind = body.get("type", 0)
    if kind is None:
        return False
    if _integer(kind) not in (0, 1):
        raise Refusal(1109)
    return kind == 1


def _name(value: object) -> str:
    name = _text(value)
    if len(name) > NAME_LENGTH:
        raise Refusal(1109)
    return name


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise Refusal(1109)
    return value


def _integer(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise Refusal(1109)
    return value
