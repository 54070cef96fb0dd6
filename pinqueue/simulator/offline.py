"""Offline passwords: the cloud and the lock compute the same digits (tuya.md 4.6)."""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from pinqueue.simulator.doors import Door
from pinqueue.simulator.lock import ClearingCode
from pinqueue.simulator.replies import Refusal
from pinqueue.simulator.terms import Terms

HOUR = 3600


def issue_offline(door: Door, body: Mapping[str, object], now: float) -> dict[str, object]:
    kind = body.get("type")
    if kind in (None, ""):
        raise Refusal(1100)
    effective, invalid = _window(kind, body, now)
    name = str(body.get("name") or f"offline-{effective}")
    digits = "".join(secrets.choice("0123456789") for _ in range(10))
    password_id = secrets.token_hex(8)
    if kind in ("multiple", "once"):
        terms = Terms(name, digits, effective, invalid, one_time=kind == "once")
        door.lock.add_offline(password_id, terms, now)
    else:
        cleared = str(body["password_id"]) if kind == "clear_one" else None
        door.lock.add_clearing_code(ClearingCode(digits, effective, invalid, cleared))
    return {
        "offline_temp_password_id": password_id,
        "offline_temp_password": digits,
        "offline_temp_password_name": name,
        "effective_time": effective,
        "invalid_time": invalid,
    }


def _window(kind: object, body: Mapping[str, object], now: float) -> tuple[int, int]:
    """Cut to the full hour, as the lock's arithmetic knows no minutes."""
    this_hour = int(now) // HOUR * HOUR
    if kind == "once":
        return this_hour, this_hour + 6 * HOUR
    if kind == "clear_all":
        return this_hour, this_hour + 24 * HOUR
    if kind == "clear_one":
        if body.get("password_id") in (None, ""):
            raise Refusal(1100)
        return this_hour, this_hour + 24 * HOUR
    if kind != "multiple":
        raise Refusal(1109)
    effective, invalid = body.get("effective_time"), body.get("invalid_time")
    if effective is None or invalid is None:
        raise Refusal(1100)
    if not isinstance(effective, int) or not isinstance(invalid, int):
        raise Refusal(1109)
    effective, invalid = effective // HOUR * HOUR, invalid // HOUR * HOUR
    if invalid <= now:
        raise Refusal(2318)
    if invalid <= effective:
        raise Refusal(1109)
    return effective, invalid
