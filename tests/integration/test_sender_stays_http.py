"""Stays.net from end to end: its very bodies over HTTP, and its API read over HTTP."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from starlette.responses import HTMLResponse, JSONResponse, Response

from pinqueue.errors import SourceBusy, SourceError, SourceRefused, SourceUnreachable
from pinqueue.fetchers import Api
from tests.senders import stays, using
from tests.senders.api import Played
from tests.senders.stays import LISTING, LONG, SECRET, SHORT
from tests.serving import EVENT, PLANNED, STAY, Answer, Web

PATH = f"/webhooks/stays/{SECRET}"
STAY_ID = f"stays:{SHORT}"
OTHER_LISTING = "6706800de5d759250265592e"


def post(web: Web, raw: bytes, path: str = PATH) -> Answer:
    return web.post(raw, using.JSON, path)


def tell(web: Web, raw: bytes) -> str:
    answer = post(web, raw)
    assert answer.status == 200, answer.body
    return answer.outcome


def credentials(played: Played, **changes: str) -> Api:
    return Api(**{"url": played.url, "user": stays.LOGIN, "token": stays.PASSWORD, **changes})


@pytest.fixture
def alone(web: Web) -> Web:
    """A source whose API PinQueue may not read."""
    using.set_up(web, "stays", SECRET, listings=[LISTING, OTHER_LISTING])
    return web


@pytest.fixture
def reading(web: Web) -> Any:
    """A source whose API is played here."""
    with stays.api(stays.full()) as played:
        using.set_up(web, "stays", SECRET, credentials(played), listings=[LISTING, OTHER_LISTING])
        yield web, played


Reading = tuple[Web, Played]


# What comes over HTTP, exactly as it was published


def test_f22_the_published_event_is_a_pre_reservation_and_gets_no_pin(alone: Web) -> None:
    before = alone.counts()
    assert tell(alone, stays.CREATED) == "accepted"
    assert alone.added(before) == STAY
    (stay,) = using.stays(alone)
    zone = ZoneInfo(stays.ZONE)
    assert (stay["id"], stay["status"], stay["listing_id"]) == (STAY_ID, "pending", LISTING)
    assert stay["check_in_at"] == datetime(2024, 7, 26, 15, tzinfo=zone)
    assert stay["check_out_at"] == datetime(2024, 7, 30, 11, tzinfo=zone)


def test_the_published_cancel_without_dates_leaves_a_tombstone(alone: Web) -> None:
    before = alone.counts()
    assert tell(alone, stays.CANCELED) == "accepted"
    assert alone.added(before) == STAY
    assert [(s["id"], s["status"]) for s in using.stays(alone)] == [("stays:JM98I", "cancelled")]
    late = stays.event(at="2024-07-03T15:07:02.577Z", id="JM98I")
    assert tell(alone, late) == "stale"
    assert alone.value("SELECT count(*) FROM access_codes") == 0


def test_the_captured_delete_with_the_long_id_alone_leaves_a_tombstone(alone: Web) -> None:
    assert tell(alone, stays.DELETED) == "accepted"
    (stay,) = using.stays(alone)
    assert (stay["id"], stay["status"]) == ("stays:696d19c9a90f0282b07c8f46", "cancelled")


def test_f26_the_captured_block_is_no_stay_of_a_guest_and_ends_with_its_delete(alone: Web) -> None:
    block = json.loads(stays.DELETED)["payload"]
    blocked = {"_id": block["_id"], "_idlisting": OTHER_LISTING, "type": "blocked", **stays.days()}
    raw = json.dumps({"action": "reservation.created", "payload": blocked}).encode()
    before = alone.counts()
    assert tell(alone, raw) == "accepted"
    assert (alone.added(before), alone.value(using.STATUS)) == (STAY, "blocked")
    assert tell(alone, stays.DELETED) == "accepted"
    assert alone.value(using.STATUS) == "cancelled"


@pytest.mark.parametrize("action", stays.OTHERS)
def test_what_makes_most_of_the_traffic_is_kept_and_ignored(alone: Web, action: str) -> None:
    raw = json.dumps({"action": action, "payload": [{"_idlisting": LISTING}]}).encode()
    before = alone.counts()
    assert tell(alone, raw) == "ignored"
    assert alone.added(before) == EVENT


def test_a_booked_stay_gets_its_pin_and_a_cancel_by_id_takes_it_back(alone: Web) -> None:
    before = alone.counts()
    assert tell(alone, stays.event()) == "accepted"
    assert alone.added(before) == PLANNED
    assert tell(alone, stays.CANCELED.replace(b"JM98I", SHORT.encode())) == "accepted"
    assert alone.value(using.STATUS) == "cancelled"
    assert alone.value("SELECT state FROM access_codes") == "cancelled"


def test_a_pre_reservation_gets_its_pin_once_it_is_paid(alone: Web) -> None:
    assert tell(alone, stays.event(type="reserved")) == "accepted"
    assert alone.counts()["access_codes"] == 0
    assert tell(alone, stays.event("reservation.modified", type="booked")) == "accepted"
    assert alone.counts()["access_codes"] == 1


@pytest.mark.parametrize("named", [{"id": SHORT}, {"_id": LONG}], ids=["short", "long"])
@pytest.mark.parametrize("action", ["reservation.canceled", "reservation.deleted"])
def test_either_id_cancels_the_stay_that_was_told_with_both(
    alone: Web, action: str, named: dict[str, str]
) -> None:
    assert tell(alone, stays.event()) == "accepted"
    raw = json.dumps({"action": action, "payload": {**named, "_idlisting": LISTING}}).encode()
    assert tell(alone, raw) == "accepted"
    assert [(s["id"], s["status"]) for s in using.stays(alone)] == [(STAY_ID, "cancelled")]


@pytest.mark.parametrize("named", [{"id": SHORT}, {"_id": LONG}], ids=["short", "long"])
def test_either_id_cancels_before_the_stay_is_told_with_both(
    alone: Web, named: dict[str, str]
) -> None:
    raw = json.dumps({"action": "reservation.deleted", "payload": named}).encode()
    assert tell(alone, raw) == "accepted"
    assert tell(alone, stays.event(at="2024-07-03T15:07:02.577Z")) == "stale"
    assert [s["status"] for s in using.stays(alone)] == ["cancelled"]


@pytest.mark.anyio
@pytest.mark.parametrize("turn", range(5))
async def test_a_stay_told_by_two_ids_at_once_is_one_stay(alone: Web, turn: int) -> None:
    delete = json.dumps({"action": "reservation.deleted", "payload": {"_id": LONG}}).encode()
    raws = [stays.event(at="2024-07-03T15:07:02Z"), delete]

    def tell_until_taken(raw: bytes) -> None:
        # One waits for the other, a second at most: what is answered 503 is posted again.
        while (answer := post(alone, raw)).status == 503:
            assert answer.outcome == "unavailable"
        assert answer.status == 200, answer.body

    await asyncio.gather(*(asyncio.to_thread(tell_until_taken, raw) for raw in raws))
    assert [s["status"] for s in using.stays(alone)] == ["cancelled"]


def test_a_reactivation_that_tells_all_makes_it_a_stay_again(alone: Web) -> None:
    tell(alone, stays.event())
    tell(alone, stays.event("reservation.canceled"))
    assert tell(alone, stays.event("reservation.reactivated")) == "accepted"
    assert alone.value(using.STATUS) == "confirmed"


def test_a_reactivation_that_tells_an_id_alone_is_a_task_for_a_person(alone: Web) -> None:
    raw = json.dumps({"action": "reservation.reactivated", "payload": {"id": SHORT}}).encode()
    assert tell(alone, raw) == "incomplete"
    assert len(alone.audited("webhook:incomplete")) == 1


def test_an_event_of_the_past_after_a_newer_one_is_stale(alone: Web) -> None:
    tell(alone, stays.event(at="2025-07-03T15:00:00.000Z"))
    older = stays.event("reservation.modified", at="2025-07-03T14:59:59.999Z", type="reserved")
    assert tell(alone, older) == "stale"
    assert alone.value(using.STATUS) == "confirmed"


# What is not believed, or cannot be


def test_a_day_that_is_none_is_refused_and_not_stored(alone: Web) -> None:
    before = alone.counts()
    answer = post(alone, stays.event(checkInDate="soon"))
    assert (answer.status, answer.outcome) == (422, "invalid_booking")
    assert alone.added(before) == {}


# What is read from its API


def test_a_change_is_read_from_the_api_with_its_times_and_guest(reading: Reading) -> None:
    web, played = reading
    assert tell(web, stays.event("reservation.modified")) == "fetching"
    using.fetch(web)
    (stay,) = using.stays(web)
    zone = ZoneInfo(stays.ZONE)
    assert (stay["id"], stay["status"]) == (STAY_ID, "confirmed")
    assert stay["check_in_at"].astimezone(zone).time().isoformat() == "16:30:00"
    assert stay["check_out_at"].astimezone(zone).time().isoformat() == "09:00:00"
    assert (stay["guest_name"], stay["guest_phone"]) == ("Fulana Silva", "+5561999101020")
    assert using.outcomes(web) == ["fetched"]
    assert [path for path, _ in played.asked] == [f"/external/v1/booking/reservations/{SHORT}"]


def test_a_reactivation_by_id_alone_is_read_from_the_api(reading: Reading) -> None:
    web, _ = reading
    assert tell(web, stays.event("reservation.deleted")) == "accepted"
    raw = json.dumps({"action": "reservation.reactivated", "payload": {"_id": LONG}}).encode()
    assert tell(web, raw) == "fetching"
    using.fetch(web)
    assert [(s["id"], s["status"]) for s in using.stays(web)] == [(STAY_ID, "confirmed")]


def test_a_cancel_asks_the_api_nothing(reading: Reading) -> None:
    web, played = reading
    assert tell(web, stays.CANCELED) == "accepted"
    assert played.asked == []


@pytest.mark.parametrize("suffix", ["", "/external/v1"])
def test_the_address_may_be_given_with_the_version_and_without(web: Web, suffix: str) -> None:
    with stays.api(stays.full()) as played:
        api = credentials(played, url=played.url + suffix)
        using.set_up(web, "stays", SECRET, api, listings=[LISTING])
        tell(web, stays.event())
        using.fetch(web)
    assert using.outcomes(web) == ["fetched"]


@pytest.mark.parametrize(
    ("fault", "raised"),
    [
        (JSONResponse({}, 429, headers={"Retry-After": "7"}), SourceBusy),
        (JSONResponse({}, 429), SourceBusy),
        (Response(status_code=500), SourceUnreachable),
        (Response(status_code=302, headers={"Location": "/login"}), SourceUnreachable),
        (JSONResponse({}, 401), SourceRefused),
        (JSONResponse({}, 403), SourceRefused),
        (HTMLResponse("<html>login</html>"), SourceUnreachable),
        (Response(b"", 200), SourceUnreachable),
        (JSONResponse([]), SourceUnreachable),
        (JSONResponse({}), SourceUnreachable),
        (JSONResponse({"id": None}), SourceUnreachable),
    ],
)
def test_an_answer_that_tells_nothing_changes_nothing_and_is_asked_again(
    reading: Reading, fault: Response, raised: type[SourceError]
) -> None:
    web, played = reading
    assert tell(web, stays.event()) == "fetching"
    using.fetch_past(web, played, fault, raised)


def test_the_wrong_password_is_told_apart(web: Web) -> None:
    with stays.api() as played:
        using.set_up(web, "stays", SECRET, credentials(played, token="old"), listings=[LISTING])
        tell(web, stays.event())
        with pytest.raises(SourceRefused):
            using.fetch(web)


def test_a_booking_that_the_api_does_not_have_stays_and_is_looked_for_in_the_list(
    reading: Reading,
) -> None:
    web, played = reading
    tell(web, stays.event())
    using.fetch(web)
    using.reconcile(web)
    played.bookings.clear()
    tell(web, stays.event("reservation.modified"))
    using.fetch(web)
    assert [s["status"] for s in using.stays(web)] == ["confirmed"]
    assert len(web.audited("source:booking_missing")) == 1
    assert web.value(
        "SELECT reconciled_at < now() - interval '29 min' FROM sources WHERE id='stays'"
    )


# Comparing


def test_a_comparison_finds_what_no_webhook_told(reading: Reading) -> None:
    web, played = reading
    before = web.counts()
    using.reconcile(web)
    added = web.added(before)
    assert (added["reservations"], added["access_codes"]) == (1, 1)
    assert web.value("SELECT other_id FROM reservations") == f"stays:{LONG}"
    assert set(played.queries("dateType")) == {"included"}


def test_a_comparison_applies_a_change_and_a_second_one_finds_nothing(reading: Reading) -> None:
    web, played = reading
    using.reconcile(web)
    played.bookings[0]["type"] = "canceled"
    using.reconcile(web)
    assert [s["status"] for s in using.stays(web)] == ["cancelled"]
    using.reconcile(web)
    assert len(web.audited("source:booking_read")) == 2


def test_a_comparison_asks_for_canceled_and_blocked_ones_too(reading: Reading) -> None:
    web, played = reading
    kinds = ("canceled", "blocked", "maintenance", "contract", "reserved")
    played.bookings += [
        stays.full(id=f"X{n}", _id=f"x{n}") | {"type": kind} for n, kind in enumerate(kinds)
    ]
    using.reconcile(web)
    statuses = [s["status"] for s in using.stays(web)]
    assert statuses == ["confirmed", "cancelled", "blocked", "blocked", "confirmed", "pending"]


def test_a_comparison_reads_every_page(reading: Reading) -> None:
    web, played = reading
    played.bookings[:] = [
        stays.full(id=f"R{n:02}", _id=f"r{n:02}", **stays.days(3 * n, 2)) for n in range(45)
    ]
    using.reconcile(web)
    assert len(using.stays(web)) == 45
    assert played.queries("skip") == ["0", "20", "40", "45"]


def test_a_list_that_never_ends_is_given_up(reading: Reading) -> None:
    web, played = reading
    played.faults.extend(JSONResponse([stays.full()]) for _ in range(3))
    using.reconcile(web)
    assert len(played.asked) == 2
    assert web.value("SELECT bookings_listed FROM sources WHERE id = 'stays'") is None


@pytest.mark.parametrize("left", [0, 1])
def test_f1_a_list_that_is_empty_or_shrunken_removes_nothing_and_is_an_alarm(
    reading: Reading, left: int
) -> None:
    web, played = reading
    played.bookings[:] = [
        stays.full(id=f"R{n}", _id=f"r{n}", **stays.days(5 * n + 1)) for n in range(4)
    ]
    using.compare_without(web, played, slice(left, None))
    assert web.audited("source:list_shrunken") == [{"before": 4, "listed": left}]


@pytest.mark.parametrize("fault", [Response(status_code=500), JSONResponse({"error": "x"})])
def test_a_list_that_breaks_off_removes_nothing(reading: Reading, fault: Response) -> None:
    web, played = reading
    using.compare_past(web, played, fault)
    assert web.audited("source:list_shrunken") == []


def test_the_hour_that_only_the_api_tells_is_found_again_after_a_webhook(reading: Reading) -> None:
    web, played = reading
    using.reconcile(web)
    played.bookings[0]["checkInTime"] = "12:00"
    using.reconcile(web)
    (stay,) = using.stays(web)
    local = stay["check_in_at"].astimezone(ZoneInfo(stays.ZONE))
    assert (local.hour, local.utcoffset()) == (12, timedelta(hours=-3))
