"""Guesty's reservations, as its webhooks and its API write them, and its API.

Source: open-api-docs.guesty.com. `/v1/reservations` goes away on 1 March 2027. Its successor, v3,
is asked only once it has: users report that its search leaves out whole channels. Not verified
against the real thing: what v3 answers (read here as public programs read it), and what a webhook
of the second generation holds besides an id.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterable
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, TypeVar

from pinqueue.errors import SourceRefused, SourceUnreachable
from pinqueue.fetchers.reading import identifier, instant, part, words
from pinqueue.lifecycle import ReservationStatus
from pinqueue.reservations import Booking

if TYPE_CHECKING:
    from pinqueue.fetchers import Client

T = TypeVar("T")

URL: Final = "https://open-api.guesty.com"
_ALL, _V3 = "/v1/reservations", "/v1/reservations-v3"
_FIELDS: Final = (
    "_id listingId status checkIn checkOut checkInDateLocalized checkOutDateLocalized"
    " plannedArrival plannedDeparture lastUpdatedAt guest.fullName guest.phone"
)
_PAGE = 100  # the most it gives
_TOKEN_LASTS, _EARLY = timedelta(days=1), timedelta(minutes=30)
_OLD_ENOUGH = timedelta(hours=5)
"""It gives five tokens a day: one that is refused sooner is not replaced."""

STATUSES: Final = {
    "confirmed": ReservationStatus.CONFIRMED,
    "checked_in": ReservationStatus.CONFIRMED,
    "checked_out": ReservationStatus.CONFIRMED,  # who leaves early may have forgotten something
    "no_show": ReservationStatus.CONFIRMED,  # or come late
    "inquiry": ReservationStatus.PENDING,
    "reserved": ReservationStatus.PENDING,  # an inquiry that holds its dates, as Guesty defines it
    "awaiting_payment": ReservationStatus.PENDING,
    "canceled": ReservationStatus.CANCELLED,
    "cancelled": ReservationStatus.CANCELLED,
    "closed": ReservationStatus.CANCELLED,
    "declined": ReservationStatus.CANCELLED,
    "expired": ReservationStatus.CANCELLED,
}
_PHONES: Final = (("phone",), ("phones", 0))
_TIME = re.compile(r"([01]?[0-9]|2[0-3]):([0-5][0-9])(:[0-5][0-9])?")


async def booking(client: Client, reservation_id: str) -> Booking | None:
    found = await _get(client, f"{_ALL}/{reservation_id}", fields=_FIELDS)
    if found is not None:
        return _read(client, found)
    answer = await _get(client, _V3, **{"reservationIds[]": reservation_id})
    rows = [] if answer is None else _rows(answer)
    named = [row for row in rows if id_of(row) == reservation_id]
    return _read(client, named[0]) if named else None


async def bookings(client: Client, since: date, until: date) -> AsyncIterator[Booking]:
    """Of every status, page by page up to an empty one, by id: none changes its place meanwhile."""
    path, query = _ALL, _legacy(since, until)
    seen: set[str] = set()
    skip = 0
    while True:
        answer = await _get(client, path, **query, sort="_id", limit=_PAGE, skip=skip)
        if answer is None and path == _ALL and not seen:
            path, query = f"{_V3}/search", _search(since, until)
            continue
        rows = _rows(answer)
        if not rows:
            return
        found = [_read(client, row) for row in rows]
        if all(one.reservation_id in seen for one in found):
            raise SourceUnreachable("the sender's API lists the same page again and again")
        for one in found:
            if one.reservation_id not in seen:
                seen.add(one.reservation_id)
                yield one
        skip += len(rows)


def id_of(reservation: Any) -> str | None:
    return identifier(part(reservation, "_id")) or identifier(part(reservation, "reservationId"))


def booking_of(reservation: Any, reservation_id: str, told_at: datetime, event_id: str) -> Booking:
    """What a reservation object tells, of any generation.

    In the third the unit and the days are those of one or more segments. We have no stay in two
    units: of one that changes its unit, the unit is not told.
    """
    segments = part(reservation, "stay")
    segments = segments if isinstance(segments, list) else [segments]
    units = {unit for segment in segments if (unit := _unit(segment))}
    return Booking(
        reservation_id=reservation_id,
        status=_status(reservation),
        updated_at=told_at,
        event_at=told_at,
        event_id=event_id,
        listing_id=None if len(units) > 1 else _unit(reservation) or next(iter(units), None),
        check_in=_moment("In", "plannedArrival", reservation, part(segments, 0)),
        check_out=_moment("Out", "plannedDeparture", reservation, (segments or [None])[-1]),
        guest_name=_guest_name(part(reservation, "guest")),
        guest_phone=_first(words(part(reservation, "guest", *at), 50) for at in _PHONES),
    )


def _unit(told: Any) -> str | None:
    """The id of a listing, which is a unit's own where Guesty has many of a type."""
    named = part(told, "unitId"), part(told, "listingId"), part(told, "listing", "_id")
    return _first(map(identifier, named))


def _status(reservation: Any) -> ReservationStatus | None:
    status = words(part(reservation, "status"), 64)
    if status is None:
        return None
    status = re.sub(r"[- ]", "_", status.lower())
    # One that we do not know gets no PIN: better a call from a guest than a stranger in the house.
    return STATUSES.get(status, ReservationStatus.PENDING)


def _moment(which: str, planned: str, *told: Any) -> str | None:
    """The planned time of the local day; else the instant, which a change of time may leave as it
    was, unless it is of another day; else the day alone."""
    day = _first(_day(part(one, f"check{which}DateLocalized")) for one in told)
    at = _first(instant(part(one, f"check{which}")) for one in told)
    time = _first(_TIME.fullmatch(words(part(one, planned), 64) or "") for one in told)
    if day is not None and time is not None:
        return f"{day}T{int(time[1]):02}:{time[2]}"
    if at is not None and (day is None or abs(at.date() - day) <= timedelta(days=1)):
        return at.isoformat()
    return None if day is None else day.isoformat()


def _first(found: Iterable[T | None]) -> T | None:
    return next((one for one in found if one is not None), None)


def _day(value: Any) -> date | None:
    try:
        return date.fromisoformat((words(value, 64) or "")[:10])
    except ValueError:
        return None


def _guest_name(guest: Any) -> str | None:
    full = words(part(guest, "fullName"), 200)
    parts = [words(part(guest, name), 200) for name in ("firstName", "lastName")]
    return full or words(" ".join(name for name in parts if name), 200)


def _legacy(since: date, until: date) -> dict[str, str]:
    filters = [
        {"field": "checkOutDateLocalized", "operator": "$gte", "value": since.isoformat()},
        {"field": "checkInDateLocalized", "operator": "$lte", "value": until.isoformat()},
    ]
    return {"fields": _FIELDS, "filters": json.dumps(filters)}


def _search(since: date, until: date) -> dict[str, str]:
    return {
        "filter[checkOut][gte]": since.isoformat(),
        "filter[checkIn][lte]": until.isoformat(),
    }


def _rows(answer: Any) -> list[Any]:
    rows = answer if isinstance(answer, list) else part(answer, "results")
    if not isinstance(rows, list):
        raise SourceUnreachable("the sender's API answered with something else than a list")
    return rows


def _read(client: Client, reservation: Any) -> Booking:
    """Its version is when we asked: nobody says whether a change of the planned times, say, moves
    `lastUpdatedAt`, and a change with an old version would never count."""
    found = id_of(reservation)
    if found is None:
        raise SourceUnreachable("the sender's API answered with something else than a reservation")
    return booking_of(reservation, found, client.asked_at, "api")


async def _get(client: Client, path: str, **query: str | int) -> Any:
    token = client.kept.get("token")
    if token is None or _made_at(client) + _TOKEN_LASTS - _EARLY < client.asked_at:
        token = await _new_token(client)
    try:
        return await client.get(path, headers=_headers(token), **query)
    except SourceRefused:
        if _made_at(client) + _OLD_ENOUGH > client.asked_at:
            raise
    return await client.get(path, headers=_headers(await _new_token(client)), **query)


async def _new_token(client: Client) -> str:
    grant = {
        "grant_type": "client_credentials",
        "scope": "open-api",
        "client_id": client.api.user,
        "client_secret": client.api.token,
    }
    answer = await client.ask("POST", "/oauth2/token", data=grant)
    token = words(part(answer, "access_token"), 5000)
    if token is None:
        raise SourceUnreachable("the sender's API gave no access token")
    await client.keep(token=token, token_made_at=client.asked_at.isoformat())
    return token


def _made_at(client: Client) -> datetime:
    return datetime.fromisoformat(client.kept["token_made_at"])


def _headers(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}", "Accept": "application/json"}
