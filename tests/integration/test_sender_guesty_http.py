"""Guesty from end to end: its events over HTTP, and its API read over HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from starlette.responses import HTMLResponse, JSONResponse, Response

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
from pinqueue.models import Source
from pinqueue.reservations import Planner
from pinqueue.store import sources
from tests.senders import guesty, using
from tests.senders.guesty import (
    CLIENT_ID,
    CLIENT_SECRET,
    LEAN,
    LEGACY,
    LISTING,
    NESTED,
    SECRET,
    STAY,
    Guesty,
    day,
    lean,
    legacy,
    raw,
    reservation,
    sign,
    third,
)
from tests.serving import EVENT, PLANNED, Answer, Web
from tests.serving import STAY as STAY_ROWS

PATH, STAY_ID, OTHER = "/webhooks/guesty", f"guesty:{STAY}", "another-unit"
ZONE = ZoneInfo("America/Sao_Paulo")
FETCH = {**EVENT, "procrastinate_jobs": 1}
Reading = tuple[Web, Guesty]


def post(web: Web, sent: bytes, headers: dict[str, str] | None = None, path: str = PATH) -> Answer:
    return web.post(sent, sign(sent) if headers is None else headers, path)


def tell(web: Web, body: dict[str, Any]) -> str:
    answer = post(web, raw(body))
    assert answer.status == 200, answer.body
    return answer.outcome


def credentials(played: Guesty, **changes: str) -> Api:
    return Api(**{"url": played.url, "token": CLIENT_SECRET, "user": CLIENT_ID, **changes})


def at(text: str) -> datetime:
    """A moment by the listing's clock."""
    return datetime.fromisoformat(text).replace(tzinfo=ZONE)


@pytest.fixture
def alone(web: Web) -> Web:
    """A source whose API PinQueue may not read."""
    using.set_up(web, "guesty", SECRET, listings=[LISTING, OTHER])
    return web


@pytest.fixture
def reading(web: Web) -> Iterator[Reading]:
    """A source whose API is played here."""
    with guesty.api(reservation()) as played:
        using.set_up(web, "guesty", SECRET, credentials(played), listings=[LISTING, OTHER])
        yield web, played


# What comes over HTTP, exactly as it was published


def test_f26_the_published_inquiry_gets_no_pin(alone: Web) -> None:
    before = alone.counts()
    assert tell(alone, LEGACY) == "accepted"
    assert alone.added(before) == STAY_ROWS
    (stay,) = using.stays(alone)
    assert (stay["id"], stay["status"], stay["listing_id"]) == (STAY_ID, "pending", LISTING)
    assert stay["check_in_at"] == datetime(2017, 10, 4, 12, tzinfo=UTC)
    assert stay["check_out_at"] == datetime(2017, 10, 8, 7, tzinfo=UTC)


def test_the_published_lean_cancel_works_from_the_id_alone_and_leaves_a_tombstone(
    alone: Web,
) -> None:
    before = alone.counts()
    assert tell(alone, LEAN) == "accepted"
    assert alone.added(before) == STAY_ROWS
    assert [(s["id"], s["status"]) for s in using.stays(alone)] == [("guesty:r9", "cancelled")]


def test_the_published_nested_event_is_a_task_for_a_person_where_nothing_can_be_read(
    alone: Web,
) -> None:
    before = alone.counts()
    assert tell(alone, NESTED) == "incomplete"
    assert alone.added(before) == EVENT
    assert len(alone.audited("webhook:incomplete")) == 1


@pytest.mark.parametrize("event", [LEGACY, LEAN, NESTED], ids=["legacy", "lean", "nested"])
def test_each_published_event_has_its_reservation_read_where_it_can_be(
    reading: Reading, event: dict[str, Any]
) -> None:
    web, played = reading
    told = event.get("reservation") or event["data"]
    stay = told.get("_id") or told.get("reservationId") or told["reservation"]["id"]
    played.bookings[:] = [reservation(stay)]
    before = web.counts()
    assert tell(web, event) == "fetching"
    assert web.added(before) == FETCH
    using.fetch(web)
    assert [(s["id"], s["status"]) for s in using.stays(web)] == [(f"guesty:{stay}", "confirmed")]


def test_a_whole_event_plans_the_stay_with_both_jobs(alone: Web) -> None:
    before = alone.counts()
    assert tell(alone, legacy("reservation.new")) == "accepted"
    assert alone.added(before) == PLANNED
    (stay,) = using.stays(alone)
    assert stay["check_in_at"] == at(f"{day(10)}T15:00")
    assert (stay["guest_name"], stay["guest_phone"]) == ("Ana Rojas", "+50688880000")


def test_f14_a_planned_arrival_counts_though_the_old_instant_is_left_in_place(alone: Web) -> None:
    tell(alone, legacy("reservation.new"))
    assert tell(alone, legacy(plannedArrival="17:30", plannedDeparture="09:00")) == "accepted"
    (stay,) = using.stays(alone)
    assert stay["check_in_at"] == at(f"{day(10)}T17:30")
    assert stay["check_out_at"] == at(f"{day(13)}T09:00")
    assert alone.value("SELECT starts_at FROM access_codes") == stay["check_in_at"]


def test_a_lean_change_of_dates_moves_the_stay_and_leaves_the_rest(alone: Web) -> None:
    tell(alone, legacy("reservation.new"))
    assert tell(alone, lean(checkOutDateLocalized=day(15))) == "accepted"
    (stay,) = using.stays(alone)
    assert (stay["listing_id"], stay["guest_name"]) == (LISTING, "Ana Rojas")
    assert stay["check_out_at"] == at(f"{day(15)}T11:00")


def test_a_lean_change_of_unit_moves_the_stay(alone: Web) -> None:
    tell(alone, legacy("reservation.new"))
    assert tell(alone, lean(unitId=OTHER)) == "accepted"
    assert alone.value("SELECT listing_id FROM reservations") == OTHER


def test_events_out_of_order_end_in_the_newest(alone: Web) -> None:
    now = datetime.now(UTC)
    cancel = {**lean(status="canceled"), "publishedAt": now.isoformat()}
    earlier = (now - timedelta(minutes=5)).isoformat()
    assert tell(alone, cancel) == "accepted"
    assert tell(alone, {**lean(status="confirmed"), "publishedAt": earlier}) == "stale"
    assert tell(alone, legacy(lastUpdatedAt=earlier)) == "stale"
    assert [s["status"] for s in using.stays(alone)] == ["cancelled"]


@pytest.mark.parametrize(
    ("status", "kept", "codes"),
    [
        ("confirmed", "confirmed", 1),
        ("checked_in", "confirmed", 1),
        ("inquiry", "pending", 0),
        ("reserved", "pending", 0),
        ("awaiting_payment", "pending", 0),
        ("canceled", "cancelled", 0),
        ("closed", "cancelled", 0),
        ("declined", "cancelled", 0),
        ("expired", "cancelled", 0),
        ("no such thing", "pending", 0),
    ],
)
def test_a_pin_is_for_a_confirmed_stay_alone(
    alone: Web, status: str, kept: str, codes: int
) -> None:
    assert tell(alone, legacy(status=status)) == "accepted"
    assert (alone.value(using.STATUS), alone.counts()["access_codes"]) == (kept, codes)


@pytest.mark.parametrize(
    "event", ["reservation.messageReceived", "listing.updated", "task.created"]
)
def test_what_concerns_no_stay_is_kept_and_ignored(alone: Web, event: str) -> None:
    before = alone.counts()
    assert tell(alone, {"event": event, "data": ["?"]}) == "ignored"
    assert alone.added(before) == EVENT


# What is not believed, or comes twice, or cannot be

BODY = raw(legacy())


@pytest.mark.parametrize("secret", [None, "", "hello", "whsec_short"])
def test_a_source_needs_the_secret_that_guesty_gives(web: Web, secret: str | None) -> None:
    async def add(db: Database, planner: Planner) -> None:
        async with db.transaction() as session:
            await inventory.add_source(session, planner.sealer, "test", "pms", "guesty", secret)

    with pytest.raises(InputInvalid, match="secret"):
        web.do(add)


# What is read from its API


def test_its_address_is_known() -> None:
    assert checked_api("guesty", "", CLIENT_SECRET, CLIENT_ID).url == FETCHERS["guesty"].URL


def test_a_reservation_is_read_whole(reading: Reading) -> None:
    web, played = reading
    played.bookings[0]["plannedArrival"] = "17:30"
    tell(web, lean())
    using.fetch(web)
    assert using.stays(web) == [
        {
            "id": STAY_ID,
            "status": "confirmed",
            "listing_id": LISTING,
            "check_in_at": at(f"{day(10)}T17:30"),
            "check_out_at": at(f"{day(13)}T11:00"),
            "guest_name": "Ana Rojas",
            "guest_phone": "+50688880000",
        }
    ]
    assert using.outcomes(web) == ["fetched"]


def test_an_event_that_comes_too_late_undoes_nothing(reading: Reading) -> None:
    web, played = reading
    played.bookings[0]["status"] = "canceled"
    tell(web, lean(status="canceled"))
    tell(web, legacy("reservation.new"))
    using.fetch(web)
    assert [s["status"] for s in using.stays(web)] == ["cancelled"]


def test_a_change_counts_though_the_time_of_the_last_update_stays(reading: Reading) -> None:
    web, played = reading
    tell(web, lean())
    using.fetch(web)
    played.bookings[0]["plannedDeparture"] = "09:00"
    tell(web, lean())
    using.fetch(web)
    assert [s["check_out_at"] for s in using.stays(web)] == [at(f"{day(13)}T09:00")]


def test_a_reservation_that_the_api_has_not_stays_as_it_is(reading: Reading) -> None:
    web, played = reading
    tell(web, lean())
    using.fetch(web)
    played.bookings.clear()
    tell(web, lean())
    using.fetch(web)
    assert [s["status"] for s in using.stays(web)] == ["confirmed"]
    assert len(web.audited("source:booking_missing")) == 1


def test_one_token_does_for_all_runs_of_a_day(reading: Reading) -> None:
    web, played = reading
    for _ in range(7):
        tell(web, lean())
        using.fetch(web)
    using.reconcile(web)
    assert played.calls("/oauth2/token") == 1


def test_the_token_is_kept_sealed(reading: Reading) -> None:
    web, played = reading
    tell(web, lean())
    using.fetch(web)
    (row,) = web.ask("SELECT sources::text AS everything FROM sources WHERE id = 'guesty'")
    stored = row["everything"].encode()
    assert played.tokens[0].encode() not in stored
    assert played.tokens[0].encode().hex().encode() not in stored
    assert CLIENT_SECRET.encode() not in stored


def age_token(web: Web, played: Guesty, hours: float) -> None:
    """As though the token had been got so long ago."""
    made_at = (datetime.now(UTC) - timedelta(hours=hours)).isoformat()
    kept = {"token": played.tokens[-1], "token_made_at": made_at}

    async def change(db: Database, planner: Planner) -> None:
        async with db.transaction() as session:
            source = await session.get_one(Source, "guesty")
            stored = json.loads(planner.sealer.open("api:guesty", source.api or b""))
            source.api = planner.sealer.seal("api:guesty", json.dumps({**stored, "kept": kept}))

    web.do(change)


@pytest.mark.parametrize(("hours", "tokens"), [(23, 1), (23.6, 2), (48, 2)])
def test_a_token_is_replaced_before_its_day_is_over(
    reading: Reading, hours: float, tokens: int
) -> None:
    web, played = reading
    using.reconcile(web)
    age_token(web, played, hours)
    tell(web, lean())
    using.fetch(web)
    assert played.calls("/oauth2/token") == tokens


def test_a_token_that_is_refused_is_replaced_but_not_more_than_five_times_a_day(
    reading: Reading,
) -> None:
    web, played = reading
    tell(web, lean())
    using.fetch(web)
    played.authorization = "Bearer revoked"
    tell(web, lean())
    with pytest.raises(SourceRefused):
        using.fetch(web)
    assert played.calls("/oauth2/token") == 1
    age_token(web, played, 5.1)
    using.fetch(web)
    assert played.calls("/oauth2/token") == 2


def test_credentials_that_a_person_changes_meanwhile_are_not_changed_back(
    reading: Reading,
) -> None:
    web, _ = reading
    before = web.value("SELECT api FROM sources WHERE id = 'guesty'")
    web.execute("UPDATE sources SET api = 'the new ones' WHERE id = 'guesty'")

    async def keep(db: Database, planner: Planner) -> bool:
        async with db.transaction() as session:
            return await sources.replace_api(
                session, "guesty", before, b"the old ones, and a token"
            )

    assert web.do(keep) is False
    assert web.value("SELECT api FROM sources WHERE id = 'guesty'") == b"the new ones"


FAULTS: list[tuple[Response, type[SourceError]]] = [
    (JSONResponse({}, 429, headers={"Retry-After": "7"}), SourceBusy),
    (JSONResponse({}, 500), SourceUnreachable),
    (JSONResponse({}, 401), SourceRefused),
    (JSONResponse({}, 403), SourceRefused),
    (HTMLResponse("<html>maintenance</html>"), SourceUnreachable),
    (Response(b"", 200), SourceUnreachable),
    (JSONResponse(None), SourceUnreachable),
    (JSONResponse({}), SourceUnreachable),
    (JSONResponse([]), SourceUnreachable),
]


@pytest.mark.parametrize("signed_in", [False, True], ids=["token", "reservation"])
@pytest.mark.parametrize(("fault", "raised"), FAULTS)
def test_an_answer_that_tells_nothing_changes_nothing_and_is_asked_again(
    reading: Reading, fault: Response, raised: type[SourceError], signed_in: bool
) -> None:
    web, played = reading
    if signed_in:
        tell(web, {**lean(), "data": {"reservationId": "nobody"}})
        using.fetch(web)
    tell(web, lean())
    using.fetch_past(web, played, fault, raised)


def test_wrong_credentials_are_told_apart_and_stay_in(web: Web) -> None:
    with guesty.api(reservation()) as played:
        api = credentials(played, token="an-old-secret")
        using.set_up(web, "guesty", SECRET, api, listings=[LISTING])
        tell(web, lean())
        with pytest.raises(SourceRefused) as caught:
            using.fetch(web)
    assert "an-old-secret" not in str(caught.value)


def test_when_no_token_is_left_for_the_day_the_event_waits(reading: Reading) -> None:
    web, played = reading
    played.tokens += ["gone"] * guesty.TOKENS_A_DAY
    tell(web, lean())
    with pytest.raises(SourceBusy) as caught:
        using.fetch(web)
    assert caught.value.retry_after == 3600
    assert using.outcomes(web) == ["fetching"]


@pytest.mark.parametrize("status", [404, 410])
def test_once_its_first_api_is_gone_the_third_is_read(reading: Reading, status: int) -> None:
    web, played = reading
    played.retired = status
    played.bookings[:] = [third("other"), third()]
    tell(web, lean())
    using.fetch(web)
    (stay,) = using.stays(web)
    assert (stay["id"], stay["status"], stay["listing_id"]) == (STAY_ID, "confirmed", LISTING)
    assert stay["check_in_at"] == at(f"{day(10)}T15:00")


# Comparing


def test_a_comparison_finds_what_no_webhook_told(reading: Reading) -> None:
    web, _ = reading
    before = web.counts()
    using.reconcile(web)
    added = web.added(before)
    assert (added["reservations"], added["access_codes"]) == (1, 1)


def test_a_comparison_applies_a_change_and_a_cancel_and_another_finds_nothing(
    reading: Reading,
) -> None:
    web, played = reading
    played.bookings.append(reservation("r2", ahead=20))
    using.reconcile(web)
    played.bookings[0]["plannedDeparture"] = "09:00"
    played.bookings[1]["status"] = "canceled"
    using.reconcile(web)
    first, second = using.stays(web)
    assert first["check_out_at"] == at(f"{day(13)}T09:00")
    assert second["status"] == "cancelled"
    using.reconcile(web)
    assert len(web.audited("source:booking_read")) == 4


@pytest.mark.parametrize("generation", [reservation, third])
def test_a_comparison_reads_every_page_once(reading: Reading, generation: Any) -> None:
    web, played = reading
    played.retired = 410 if generation is third else None
    played.bookings[:] = [generation(f"r{n}", ahead=10 + 4 * n) for n in range(5)]
    played.bookings += [generation("over", ahead=-9), generation("far", ahead=450)]
    using.reconcile(web)
    assert [s["id"] for s in using.stays(web)] == [f"guesty:r{n}" for n in range(5)]
    assert web.value("SELECT bookings_listed FROM sources WHERE id = 'guesty'") == 5
    assert played.queries("skip")[-4:] == ["0", "2", "4", "5"]


@pytest.mark.parametrize("left", [0, 1])
def test_f1_a_list_that_is_empty_or_shrunken_removes_nothing_and_is_an_alarm(
    reading: Reading, left: int
) -> None:
    web, played = reading
    played.bookings[:] = [reservation(f"r{n}", ahead=10 + 4 * n) for n in range(4)]
    using.compare_without(web, played, slice(left, None))
    assert web.audited("source:list_shrunken") == [{"before": 4, "listed": left}]


def test_f1_an_absent_reservation_is_never_removed(reading: Reading) -> None:
    web, played = reading
    played.bookings[:] = [reservation(f"r{n}", ahead=10 + 4 * n) for n in range(4)]
    using.compare_without(web, played, slice(1))
    assert web.audited("source:list_shrunken") == []


PAGE = JSONResponse({"results": [reservation()]})


@pytest.mark.parametrize(
    "faults",
    [
        [JSONResponse({}, 500)],
        [JSONResponse({}, 429)],
        [JSONResponse({}, 401)],
        [HTMLResponse("<html>maintenance</html>")],
        [JSONResponse({"results": None})],
        [JSONResponse({"results": [{"status": "canceled"}]})],
        [JSONResponse({}, 404), JSONResponse({}, 404)],
        [PAGE, JSONResponse({}, 404)],
        [PAGE, JSONResponse({}, 429)],
        [PAGE] * 9,
    ],
)
def test_a_list_that_cannot_be_read_removes_nothing_and_is_read_again_soon(
    reading: Reading, faults: list[Response]
) -> None:
    web, played = reading
    using.compare_past(web, played, *faults)
    assert web.value("SELECT bookings_listed FROM sources WHERE id = 'guesty'") == 1
    soon = "SELECT reconciled_at < now() - interval '20 min' FROM sources WHERE id = 'guesty'"
    assert web.value(soon) is True
