"""What was told of a stay, as the columns of its row."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, time
from zoneinfo import ZoneInfo

from pinqueue import tellings
from pinqueue.errors import BookingInvalid
from pinqueue.lifecycle import ReservationStatus
from pinqueue.models import Listing, Reservation
from pinqueue.schedule import can_be_stay, check_stay, to_instant
from pinqueue.tellings import Telling


def check_told(telling: Telling, listing: Listing | None) -> None:
    """Raise BookingInvalid for dates that cannot be, whatever else is told of the stay."""
    check_in, check_out = telling.fields.get("check_in"), telling.fields.get("check_out")
    check_in_at = read_check_in(listing, check_in) if check_in is not None else None
    check_out_at = read_check_out(listing, check_out) if check_out is not None else None
    if check_in_at is not None and check_out_at is not None:
        check_stay(check_in_at, check_out_at)


def without_unreadable_dates(telling: Telling) -> Telling:
    """Of a telling that makes no stay yet what can be read is kept, instead of refusing it all."""
    try:
        check_told(telling, None)
    except BookingInvalid:
        dates = ("check_in", "check_out")
        fields = {name: text for name, text in telling.fields.items() if name not in dates}
        return replace(telling, fields=fields)
    return telling


def of(
    wanted: dict[str, str], listing: Listing | None, stay: Reservation | None
) -> dict[str, object]:
    """The columns that what was told makes. While a part of the dates is untold, or they contradict
    each other, they stay as they are, and a stay that has none yet is pending."""
    values: dict[str, object] = {
        name: wanted[name] for name in ("guest_name", "guest_phone", "other_id") if name in wanted
    }
    if listing is not None and {"check_in", "check_out"} <= wanted.keys():
        check_in_at = read_check_in(listing, wanted["check_in"])
        check_out_at = read_check_out(listing, wanted["check_out"])
        if can_be_stay(check_in_at, check_out_at):
            values |= {"listing_id": listing.id}
            values |= {"check_in_at": check_in_at, "check_out_at": check_out_at}
    status = wanted.get("status", stay.status if stay else ReservationStatus.PENDING)
    has_dates = "listing_id" in values or (stay is not None and stay.listing_id is not None)
    if not has_dates and status != ReservationStatus.CANCELLED:
        status = ReservationStatus.PENDING
    return {**values, "status": status}


def history(
    stay: Reservation | None, told: list[Telling], values: dict[str, object], now: datetime
) -> dict[str, object]:
    """The columns that go with a change. What was granted by hand ends when its date changes, what
    was withheld was withheld from the stay as it was."""
    cancelled_at = (stay and stay.cancelled_at) or now
    cancelled = values["status"] == ReservationStatus.CANCELLED
    kept: dict[str, object] = {
        "told": tellings.dump(told),
        "updated_at": now,
        "cancelled_at": cancelled_at if cancelled else None,
    }
    if stay is None:
        return kept
    if stay.status != values["status"]:
        kept["pins_withheld_at"] = None
    if values.get("check_in_at", stay.check_in_at) != stay.check_in_at:
        kept["early_check_in_at"] = None
    if values.get("check_out_at", stay.check_out_at) != stay.check_out_at:
        kept["late_check_out_at"] = None
    return kept


def same(stay: Reservation, values: dict[str, object]) -> bool:
    return all(getattr(stay, column) == value for column, value in values.items())


def read_check_in(listing: Listing | None, text: str, field: str = "check_in") -> datetime:
    zone, time_of_day = _local(listing, "check_in_time")
    return to_instant(field, text, zone, gap="start", time_of_day=time_of_day)


def read_check_out(listing: Listing | None, text: str, field: str = "check_out") -> datetime:
    zone, time_of_day = _local(listing, "check_out_time")
    return to_instant(field, text, zone, gap="end", time_of_day=time_of_day)


def _local(listing: Listing | None, default: str) -> tuple[ZoneInfo, time]:
    """Before its listing is told, a date is read only to see whether it is one."""
    if listing is None:
        return ZoneInfo("UTC"), time(12)
    return ZoneInfo(listing.time_zone), getattr(listing, default)
