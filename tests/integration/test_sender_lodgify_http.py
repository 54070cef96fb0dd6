"""Lodgify from end to end: its very bodies over HTTP, and its API read over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from pinqueue import inventory
from pinqueue.db import Database
from pinqueue.errors import (
    InputInvalid,
    SourceBusy,
    SourceError,
    SourceRefused,
    SourceUnreachable,
)
from pinqueue.fetchers import FETCHERS, Api, checked_api
from pinqueue.reservations import Planner
from tests.senders import lodgify, using
from tests.senders.api import Played
from tests.senders.lodgify import (
    EXAMPLE,
    KEY,
    OTHER_SECRET,
    PROPERTY,
    SECRET,
    day,
    event,
    listed,
    raw,
    sign,
)
from tests.serving import EVENT, PLANNED, Answer, Web
from tests.serving import STAY as STAY_ROWS

PATH, STAY_ID, OTHER = "/webhooks/lodgify", "lodgify:123456", "10001"
ZONE = ZoneInfo("America/Sao_Paulo")
FETCH = {**EVENT, "procrastinate_jobs": 1}
Reading = tuple[Web, Played]


def post(web: Web, sent: bytes, headers: dict[str, str] | None = None, path: str = PATH) -> Answer:
    return web.post(sent, sign(sent) if headers is None else headers, path)


def tell(web: Web, body: dict[str, Any]) -> str:
    answer = post(web, raw(body))
    assert answer.status == 200, answer.body
    return answer.outcome


def credentials(played: Played, **changes: str) -> Api:
    return Api(**{"url": played.url, "token": KEY, **changes})


def at(text: str) -> datetime:
    """A moment by the listing's clock."""
    return datetime.fromisoformat(text).replace(tzinfo=ZONE)


@pytest.fixture
def alone(web: Web) -> Web:
    """A source whose API PinQueue may not read."""
    using.set_up(web, "lodgify", f"{SECRET} {OTHER_SECRET}", listings=[PROPERTY, OTHER])
    return web


@pytest.fixture
def reading(web: Web) -> Iterator[Reading]:
    """A source whose API is played here."""
    with lodgify.api(listed()) as played:
        using.set_up(web, "lodgify", SECRET, credentials(played), listings=[PROPERTY, OTHER])
        yield web, played


# What comes over HTTP, exactly as it was published


def test_the_published_event_is_a_stay_without_a_pin_since_it_is_over(alone: Web) -> None:
    before = alone.counts()
    assert tell(alone, EXAMPLE) == "accepted"
    assert alone.added(before) == STAY_ROWS
    assert using.stays(alone) == [
        {
            "id": STAY_ID,
            "status": "confirmed",
            "listing_id": PROPERTY,
            "check_in_at": at("2022-05-21T15:00"),
            "check_out_at": at("2022-05-24T11:00"),
            "guest_name": "John Doe",
            "guest_phone": "667675867768",
        }
    ]


def test_the_same_event_of_a_stay_ahead_plans_both_jobs_at_the_listings_own_times(
    alone: Web,
) -> None:
    before = alone.counts()
    assert tell(alone, event("booking_new_status_booked")) == "accepted"
    assert alone.added(before) == PLANNED
    (stay,) = using.stays(alone)
    assert stay["check_in_at"] == at(f"{day(10)}T15:00")
    assert stay["check_out_at"] == at(f"{day(13)}T11:00")


def test_a_change_of_dates_moves_the_stay_and_its_pin(alone: Web) -> None:
    tell(alone, event("booking_new_status_booked"))
    moved = event(date_departure=f"{day(15)}T00:00:00")
    assert tell(alone, moved) == "accepted"
    ends_at = alone.value("SELECT ends_at FROM access_codes WHERE state = 'scheduled'")
    assert ends_at == at(f"{day(15)}T11:00")


def test_a_change_of_property_moves_the_stay(alone: Web) -> None:
    tell(alone, event())
    assert tell(alone, event(property_id=int(OTHER))) == "accepted"
    assert alone.value("SELECT listing_id FROM reservations") == OTHER


def test_a_cancelled_booking_is_declined_and_loses_its_pin(alone: Web) -> None:
    tell(alone, event("booking_new_status_booked"))
    assert tell(alone, event("booking_status_change_declined", status="Declined")) == "accepted"
    assert alone.value(using.STATUS) == "cancelled"
    assert alone.value("SELECT state FROM access_codes") == "cancelled"


def test_a_booking_that_is_booked_again_gets_a_pin_again(alone: Web) -> None:
    for due, status in enumerate(["Booked", "Declined", "Booked"]):
        assert tell(alone, {**event(status=status), "balance_due": str(due)}) == "accepted"
    assert alone.value(using.STATUS) == "confirmed"
    assert alone.value("SELECT count(*) FROM access_codes WHERE state = 'scheduled'") == 1


def test_a_cancel_before_its_create_leaves_a_tombstone(alone: Web) -> None:
    cancel = {"action": "booking_status_change_declined", "booking": {"id": 123456}}
    assert tell(alone, cancel) == "accepted"
    assert [s["status"] for s in using.stays(alone)] == ["cancelled"]


@pytest.mark.parametrize(
    ("status", "kept", "codes"),
    [
        ("Booked", "confirmed", 1),
        ("Tentative", "pending", 0),
        ("Open", "pending", 0),
        ("Unavailable", "blocked", 0),
        ("Declined", "cancelled", 0),
        ("NoSuchThing", "pending", 0),
    ],
)
def test_a_pin_is_for_a_booked_stay_alone(alone: Web, status: str, kept: str, codes: int) -> None:
    assert tell(alone, event(status=status)) == "accepted"
    assert (alone.value(using.STATUS), alone.counts()["access_codes"]) == (kept, codes)


def test_a_part_changes_what_it_tells_and_leaves_the_rest(alone: Web) -> None:
    tell(alone, event())
    (before,) = using.stays(alone)
    part = {"action": "booking_change", "booking": {"id": 123456}, "guest": {"name": "Ada"}}
    assert tell(alone, part) == "accepted"
    assert using.stays(alone) == [{**before, "guest_name": "Ada"}]


def test_a_part_of_a_booking_nobody_told_before_is_a_task_for_a_person(alone: Web) -> None:
    assert tell(alone, {"action": "booking_change", "booking": {"id": 123456}}) == "incomplete"
    assert len(alone.audited("webhook:incomplete")) == 1
    assert using.stays(alone) == []


@pytest.mark.parametrize(
    "action", ["rate_change", "availability_change", "guest_message_received", "booking_archived"]
)
def test_what_concerns_no_stay_is_kept_and_ignored(alone: Web, action: str) -> None:
    before = alone.counts()
    assert tell(alone, {**EXAMPLE, "action": action, "booking": ["?"]}) == "ignored"
    assert alone.added(before) == EVENT


# What is not believed, or comes twice, or cannot be

BODY = raw(event())


def test_each_subscription_signs_with_its_own_secret(alone: Web) -> None:
    assert post(alone, BODY, sign(BODY, SECRET)).outcome == "accepted"
    other = raw(event(status="Declined"))
    assert post(alone, other, sign(other, OTHER_SECRET)).outcome == "accepted"


def test_a_query_that_makes_an_address_unique_is_no_part_of_it(alone: Web) -> None:
    assert post(alone, BODY, path=f"{PATH}?event=booking_change").outcome == "accepted"


@pytest.mark.parametrize("secret", [None, "", "  "])
def test_a_source_needs_the_secret_that_lodgify_shows(web: Web, secret: str | None) -> None:
    async def add(db: Database, planner: Planner) -> None:
        async with db.transaction() as session:
            await inventory.add_source(session, planner.sealer, "test", "pms", "lodgify", secret)

    with pytest.raises(InputInvalid, match="secret"):
        web.do(add)


def test_a_day_that_is_none_is_refused_and_not_stored(alone: Web) -> None:
    answer = post(alone, raw(event(date_arrival="soon")))
    assert (answer.status, answer.outcome) == (422, "invalid_booking")
    assert alone.counts()["webhook_events"] == 0
    assert using.stays(alone) == []


# What is read from its API


def test_its_address_is_known() -> None:
    assert checked_api("lodgify", "", KEY, "").url == FETCHERS["lodgify"].URL


def test_an_event_has_its_booking_read(reading: Reading) -> None:
    web, played = reading
    before = web.counts()
    assert tell(web, event()) == "fetching"
    assert web.added(before) == FETCH
    using.fetch(web)
    (stay,) = using.stays(web)
    assert (stay["id"], stay["status"], stay["listing_id"]) == (STAY_ID, "confirmed", PROPERTY)
    assert stay["check_in_at"] == at(f"{day(10)}T15:00")
    assert (stay["guest_name"], stay["guest_phone"]) == ("John Doe", "667675867768")
    assert using.outcomes(web) == ["fetched"]
    assert played.asked == [("/v2/reservations/bookings/123456", [])]


def test_an_old_event_that_is_sent_late_undoes_nothing(reading: Reading) -> None:
    web, played = reading
    played.bookings[0]["status"] = "Declined"
    tell(web, event("booking_status_change_declined", status="Declined"))
    tell(web, event("booking_new_status_booked", status="Booked"))
    using.fetch(web)
    assert [s["status"] for s in using.stays(web)] == ["cancelled"]
    assert web.counts()["access_codes"] == 0


def test_an_event_with_junk_beside_its_id_has_its_booking_read(reading: Reading) -> None:
    web, _ = reading
    junk = event(status=[], property_id={}, date_arrival="soon", date_departure=7)
    assert tell(web, {**junk, "guest": "?"}) == "fetching"
    using.fetch(web)
    assert [s["status"] for s in using.stays(web)] == ["confirmed"]


def test_a_booking_that_the_api_has_not_stays_as_it_is(reading: Reading) -> None:
    web, played = reading
    tell(web, event())
    using.fetch(web)
    played.bookings.clear()
    tell(web, event(status="Open"))
    using.fetch(web)
    assert [s["status"] for s in using.stays(web)] == ["confirmed"]
    assert len(web.audited("source:booking_missing")) == 1


@pytest.mark.parametrize(
    ("fault", "raised"),
    [
        (JSONResponse({}, 429, headers={"Retry-After": "7"}), SourceBusy),
        (JSONResponse({}, 429), SourceBusy),
        (JSONResponse({"message": "error", "code": 999}, 500), SourceUnreachable),
        (RedirectResponse("https://example.com"), SourceUnreachable),
        (JSONResponse({}, 401), SourceRefused),
        (JSONResponse({}, 403), SourceRefused),
        (HTMLResponse("<html>maintenance</html>"), SourceUnreachable),
        (Response(b"", 200), SourceUnreachable),
        (JSONResponse(None), SourceUnreachable),
        (JSONResponse({}), SourceUnreachable),
        (JSONResponse([]), SourceUnreachable),
    ],
)
def test_an_answer_that_tells_nothing_changes_nothing_and_is_asked_again(
    reading: Reading, fault: Response, raised: type[SourceError]
) -> None:
    web, played = reading
    tell(web, event())
    using.fetch_past(web, played, fault, raised)


def test_the_wrong_key_is_told_apart_and_stays_in(web: Web) -> None:
    with lodgify.api(listed()) as played:
        api = credentials(played, token="an-old-key")
        using.set_up(web, "lodgify", SECRET, api, listings=[PROPERTY])
        tell(web, event())
        with pytest.raises(SourceRefused) as caught:
            using.fetch(web)
    assert "an-old-key" not in str(caught.value)


def test_an_api_that_is_away_is_asked_again(web: Web) -> None:
    using.set_up(web, "lodgify", SECRET, Api("http://127.0.0.1:9", KEY), listings=[PROPERTY])
    tell(web, event())
    with pytest.raises(SourceUnreachable):
        using.fetch(web)
    assert using.outcomes(web) == ["fetching"]


# Comparing


def test_a_comparison_finds_what_no_webhook_told(reading: Reading) -> None:
    web, played = reading
    before = web.counts()
    using.reconcile(web)
    added = web.added(before)
    assert (added["reservations"], added["access_codes"]) == (1, 1)
    assert set(played.queries("trash")) == {"All"}


def test_a_comparison_applies_a_change_and_a_second_one_finds_nothing(reading: Reading) -> None:
    web, played = reading
    using.reconcile(web)
    played.bookings[0]["departure"] = day(15)
    using.reconcile(web)
    assert [s["check_out_at"] for s in using.stays(web)] == [at(f"{day(15)}T11:00")]
    using.reconcile(web)
    assert len(web.audited("source:booking_read")) == 2


@pytest.mark.parametrize("change", [{"status": "Declined"}, {"is_deleted": True}])
def test_a_comparison_finds_what_was_cancelled_or_thrown_away(
    reading: Reading, change: dict[str, Any]
) -> None:
    web, played = reading
    using.reconcile(web)
    played.bookings[0] |= change
    using.reconcile(web)
    assert [s["status"] for s in using.stays(web)] == ["cancelled"]
    assert web.value("SELECT state FROM access_codes") == "cancelled"


def test_a_comparison_reads_every_page_of_stays_ahead_and_under_way_once(
    reading: Reading,
) -> None:
    web, played = reading
    ahead = [listed(str(n), ahead=10 + 4 * n) for n in range(1, 6)]
    under_way = [listed("7", ahead=-1), listed("8", ahead=-2), listed("9", ahead=0)]
    played.bookings[:] = [*ahead, *under_way, listed("10", ahead=-9)]
    using.reconcile(web)
    assert len(using.stays(web)) == 8
    assert web.value("SELECT bookings_listed FROM sources WHERE id = 'lodgify'") == 8
    pages = list(zip(played.queries("stayFilter"), played.queries("page"), strict=True))
    upcoming = [("Upcoming", str(number)) for number in range(1, 5)]
    assert pages == [*upcoming, ("Current", "1"), ("Current", "2"), ("Current", "3")]
    assert set(played.queries("size")) == {"50"}


@pytest.mark.parametrize("left", [0, 1])
def test_f1_a_list_that_is_empty_or_shrunken_removes_nothing_and_is_an_alarm(
    reading: Reading, left: int
) -> None:
    web, played = reading
    played.bookings[:] = [listed(str(n), ahead=10 + 4 * n) for n in range(4)]
    using.compare_without(web, played, slice(left, None))
    assert web.audited("source:list_shrunken") == [{"before": 4, "listed": left}]


def test_f1_an_absent_booking_is_never_removed(reading: Reading) -> None:
    web, played = reading
    played.bookings[:] = [listed(str(n), ahead=10 + 4 * n) for n in range(4)]
    using.compare_without(web, played, slice(1))
    assert web.audited("source:list_shrunken") == []


PAGE = JSONResponse({"items": [listed()]})


@pytest.mark.parametrize(
    "faults",
    [
        [JSONResponse({}, 500)],
        [JSONResponse({}, 404)],
        [JSONResponse({}, 429)],
        [JSONResponse({}, 401)],
        [HTMLResponse("<html>maintenance</html>")],
        [JSONResponse({"items": None})],
        [JSONResponse({"items": [{"status": "Declined"}]})],
        [JSONResponse([])],
        [PAGE, JSONResponse({}, 429)],
        [PAGE] * 9,
    ],
)
def test_a_list_that_cannot_be_read_removes_nothing_and_is_read_again_soon(
    reading: Reading, faults: list[Response]
) -> None:
    web, played = reading
    using.compare_past(web, played, *faults)
    assert web.value("SELECT bookings_listed FROM sources WHERE id = 'lodgify'") == 1
    soon = "SELECT reconciled_at < now() - interval '20 min' FROM sources WHERE id = 'lodgify'"
    assert web.value(soon) is True
