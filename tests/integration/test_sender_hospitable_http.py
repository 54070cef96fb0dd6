"""Hospitable from end to end: its very bodies over HTTP, and its API read over HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from starlette.responses import HTMLResponse, JSONResponse, Response

from pinqueue.errors import SourceBusy, SourceError, SourceRefused, SourceUnreachable
from pinqueue.fetchers import FETCHERS, Api, checked_api
from tests.senders import hospitable, using
from tests.senders.api import Played
from tests.senders.hospitable import PROPERTY, SECRET, STAY, TOKEN, changed, event, raw, sign
from tests.senders.hospitable import status as status_of
from tests.serving import EVENT, PLANNED, Answer, Web
from tests.serving import STAY as STAY_ROWS

PATH, STAY_ID = "/webhooks/hospitable", f"hospitable:{STAY}"
OTHER = "660f9511-f3ac-52e5-b827-557b267aa8cc"
Reading = tuple[Web, Played]


def post(web: Web, sent: bytes, headers: dict[str, str] | None = None, path: str = PATH) -> Answer:
    return web.post(sent, sign(sent) if headers is None else headers, path)


def tell(web: Web, body: dict[str, Any] | bytes) -> str:
    answer = post(web, body if isinstance(body, bytes) else raw(body))
    assert answer.status == 200, answer.body
    return answer.outcome


def credentials(played: Played, **changes: str) -> Api:
    return Api(**{"url": f"{played.url}/v2", "token": TOKEN, **changes})


@pytest.fixture
def alone(web: Web) -> Web:
    """A source whose API PinQueue may not read."""
    using.set_up(web, "hospitable", SECRET, listings=[PROPERTY, OTHER])
    return web


@pytest.fixture
def reading(web: Web) -> Iterator[Reading]:
    """A source whose API is played here."""
    with hospitable.api(hospitable.reservation()) as played:
        using.set_up(web, "hospitable", SECRET, credentials(played), listings=[PROPERTY, OTHER])
        yield web, played


# What comes over HTTP, exactly as it was published


def test_a_whole_event_becomes_a_stay_with_its_own_times_and_both_jobs(alone: Web) -> None:
    before = alone.counts()
    assert tell(alone, event()) == "accepted"
    assert alone.added(before) == PLANNED
    (stay,) = using.stays(alone)
    days = hospitable.days()
    assert (stay["id"], stay["listing_id"], stay["guest_name"]) == (STAY_ID, PROPERTY, "Jane Doe")
    assert stay["check_in_at"] == datetime.fromisoformat(days["check_in"])
    assert stay["check_out_at"] == datetime.fromisoformat(days["check_out"])


def test_the_published_compact_event_is_a_task_for_a_person_where_nothing_can_be_read(
    alone: Web,
) -> None:
    before = alone.counts()
    assert tell(alone, hospitable.COMPACT) == "incomplete"
    assert alone.added(before) == EVENT
    assert len(alone.audited("webhook:incomplete")) == 1


def test_the_documented_partial_change_moves_the_check_in_alone(alone: Web) -> None:
    tell(alone, event())
    (before,) = using.stays(alone)
    moved = before["check_in_at"] + timedelta(minutes=30)
    data = json.loads(
        hospitable.PARTIAL.replace(b"2019-01-03T16:30:00-05:00", moved.isoformat().encode())
    )
    assert tell(alone, changed({"id": STAY, **data}, "checkin_changed")) == "accepted"
    assert using.stays(alone) == [{**before, "check_in_at": moved}]
    assert alone.value("SELECT starts_at FROM access_codes") == moved


def test_the_documented_partial_change_of_an_unknown_stay_is_a_task_for_a_person(
    alone: Web,
) -> None:
    assert tell(alone, changed({"id": STAY, **json.loads(hospitable.PARTIAL)})) == "incomplete"
    (stay,) = using.stays(alone)
    assert (stay["status"], stay["check_in_at"], stay["check_out_at"]) == ("pending", None, None)
    assert alone.counts()["access_codes"] == 0


def test_a_cancel_is_a_change_and_takes_the_pin_back(alone: Web) -> None:
    tell(alone, event())
    cancel = {"id": STAY, "reservation_status": status_of("cancelled")}
    assert tell(alone, changed(cancel, "status_changed")) == "accepted"
    assert alone.value(using.STATUS) == "cancelled"
    assert alone.value("SELECT state FROM access_codes") == "cancelled"


def test_a_cancel_that_is_not_told_is_a_task_for_a_person(alone: Web) -> None:
    tell(alone, event())
    assert tell(alone, changed({"id": STAY}, "status_changed")) == "incomplete"
    assert len(alone.audited("webhook:incomplete")) == 1


def test_a_cancel_before_its_create_leaves_a_tombstone(alone: Web) -> None:
    cancel = {"id": STAY, "reservation_status": status_of("cancelled")}
    assert tell(alone, changed(cancel)) == "accepted"
    assert tell(alone, event(created="2023-10-01T09:35:24Z")) == "stale"
    assert [s["status"] for s in using.stays(alone)] == ["cancelled"]


@pytest.mark.parametrize(
    ("category", "status", "codes"),
    [
        ("request", "pending", 0),
        ("checkpoint", "pending", 0),
        ("accepted", "confirmed", 1),
        ("not accepted", "cancelled", 0),
        ("no such thing", "pending", 0),
    ],
)
def test_a_pin_is_for_an_accepted_stay_alone(
    alone: Web, category: str, status: str, codes: int
) -> None:
    data = hospitable.reservation(reservation_status=status_of(category))
    assert tell(alone, event(data=data)) == "accepted"
    assert (alone.value(using.STATUS), alone.counts()["access_codes"]) == (status, codes)


def test_f26_an_owners_stay_gets_no_pin(alone: Web) -> None:
    before = alone.counts()
    data = hospitable.reservation(stay_type="owner_stay")
    assert tell(alone, event(data=data)) == "accepted"
    assert (alone.added(before), alone.value(using.STATUS)) == (STAY_ROWS, "blocked")


def test_a_change_of_property_moves_the_stay(alone: Web) -> None:
    tell(alone, event())
    data = {"id": STAY, "properties": [{"id": OTHER}]}
    assert tell(alone, changed(data, "listing_changed")) == "accepted"
    assert alone.value("SELECT listing_id FROM reservations") == OTHER


@pytest.mark.parametrize("action", ["property.changed", "message.created", "review.created"])
def test_what_concerns_no_stay_is_kept_and_ignored(alone: Web, action: str) -> None:
    before = alone.counts()
    assert tell(alone, event(action)) == "ignored"
    assert alone.added(before) == EVENT


def test_two_changes_under_one_id_both_count_and_a_retry_does_not(alone: Web) -> None:
    first, second = event(), changed({"id": STAY, "guest": {"first_name": "Ada"}})
    assert [tell(alone, first), tell(alone, second)] == ["accepted", "accepted"]
    before = alone.counts()
    assert [tell(alone, first), tell(alone, second)] == ["duplicate", "duplicate"]
    assert alone.counts() == before
    assert alone.value("SELECT guest_name FROM reservations") == "Ada"


# What is not believed, or cannot be

BODY = raw(event())


@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "application/json"},
        sign(BODY, "another secret"),
        sign(BODY + b"\n"),
        sign(BODY.replace(b", ", b",")),
        {**sign(BODY), "signature": "sha256=" + sign(BODY)["signature"]},
        {**sign(BODY), "signature": sign(BODY)["signature"][:-1]},
    ],
    ids=["unsigned", "secret", "newline", "re-serialised", "prefixed", "cut"],
)
def test_f22_what_is_not_signed_over_its_very_bytes_is_not_stored(
    alone: Web, headers: dict[str, str]
) -> None:
    before = alone.counts()
    answer = post(alone, BODY, headers)
    assert (answer.status, answer.json()) == (401, {"error": "unauthorized"})
    assert alone.counts() == before


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        (raw(event(id=None, data={})), 422, "invalid_body"),
        (raw(changed({"id": STAY, "check_in": "soon"})), 200, "incomplete"),
        (raw(event(data=hospitable.reservation(check_in="soon"))), 422, "invalid_booking"),
        (
            raw(event(data=hospitable.reservation(check_out="2019-01-05T11:00:00-05:00"))),
            422,
            "invalid_booking",
        ),
    ],
)
def test_what_cannot_be_makes_no_stay(alone: Web, sent: bytes, status: int, code: str) -> None:
    answer = post(alone, sent)
    assert (answer.status, answer.outcome) == (status, code)
    assert alone.counts()["webhook_events"] == (1 if status == 200 else 0)
    assert using.stays(alone) == []


# What is read from its API


def test_its_address_is_known() -> None:
    assert checked_api("hospitable", "", TOKEN, "").url == FETCHERS["hospitable"].URL


def test_a_whole_event_asks_the_api_nothing(reading: Reading) -> None:
    web, played = reading
    assert tell(web, event()) == "accepted"
    assert played.asked == []


def test_a_partial_change_is_read_whole_from_the_api(reading: Reading) -> None:
    web, played = reading
    data = {"id": STAY, **json.loads(hospitable.PARTIAL)}
    assert tell(web, changed(data, "checkin_changed")) == "fetching"
    using.fetch(web)
    (stay,) = using.stays(web)
    assert (stay["id"], stay["status"], stay["guest_name"]) == (STAY_ID, "confirmed", "Jane Doe")
    assert stay["check_in_at"] == datetime.fromisoformat(hospitable.days()["check_in"])
    assert using.outcomes(web) == ["fetched"]
    assert played.asked == [(f"/v2/reservations/{STAY}", [("include", "guest,properties")])]


def test_a_cancel_that_its_event_leaves_out_is_read_from_the_api(reading: Reading) -> None:
    web, played = reading
    tell(web, event())
    played.bookings[0]["reservation_status"] = status_of("cancelled")
    assert tell(web, changed({"id": STAY}, "status_changed")) == "fetching"
    using.fetch(web)
    assert [s["status"] for s in using.stays(web)] == ["cancelled"]


def test_an_id_that_names_a_delivery_is_not_found_and_the_list_is_compared_soon(
    reading: Reading,
) -> None:
    web, _ = reading
    using.reconcile(web)
    assert tell(web, hospitable.COMPACT) == "fetching"
    using.fetch(web)
    assert [s["status"] for s in using.stays(web)] == ["confirmed"]
    assert len(web.audited("source:booking_missing")) == 1
    asked = "SELECT reconciled_at < now() - interval '29 min' FROM sources WHERE id = 'hospitable'"
    assert web.value(asked) is True


@pytest.mark.parametrize(
    ("fault", "raised"),
    [
        (JSONResponse({}, 429, headers={"Retry-After": "7"}), SourceBusy),
        (JSONResponse({}, 429), SourceBusy),
        (Response(status_code=500), SourceUnreachable),
        (JSONResponse({}, 401), SourceRefused),
        (JSONResponse({"message": "Invalid scope(s)"}, 403), SourceRefused),
        (HTMLResponse("<html>login</html>"), SourceUnreachable),
        (Response(b"", 200), SourceUnreachable),
        (JSONResponse({}), SourceUnreachable),
        (JSONResponse({"data": None}), SourceUnreachable),
        (JSONResponse({"data": []}), SourceUnreachable),
    ],
)
def test_an_answer_that_tells_nothing_changes_nothing_and_is_asked_again(
    reading: Reading, fault: Response, raised: type[SourceError]
) -> None:
    web, played = reading
    assert tell(web, changed({"id": STAY})) == "fetching"
    using.fetch_past(web, played, fault, raised)


def test_the_wrong_token_is_told_apart(web: Web) -> None:
    with hospitable.api() as played:
        api = credentials(played, token="old")
        using.set_up(web, "hospitable", SECRET, api, listings=[PROPERTY])
        tell(web, changed({"id": STAY}))
        with pytest.raises(SourceRefused):
            using.fetch(web)


# Comparing


def test_a_comparison_finds_what_no_webhook_told(reading: Reading) -> None:
    web, played = reading
    before = web.counts()
    using.reconcile(web)
    added = web.added(before)
    assert (added["reservations"], added["access_codes"]) == (1, 1)
    assert played.queries("date_query") == ["checkout"]
    assert played.queries("include") == ["guest,properties"]


def test_a_comparison_applies_a_change_and_a_second_one_finds_nothing(reading: Reading) -> None:
    web, played = reading
    using.reconcile(web)
    played.bookings[0]["reservation_status"] = status_of("not accepted", "expired")
    using.reconcile(web)
    assert [s["status"] for s in using.stays(web)] == ["cancelled"]
    using.reconcile(web)
    assert len(web.audited("source:booking_read")) == 2


def test_f15_a_stay_that_began_long_ago_and_one_that_ends_far_ahead_are_found(
    reading: Reading,
) -> None:
    web, played = reading
    played.bookings[:] = [
        hospitable.reservation(id="long", **hospitable.days(-100, 101)),
        hospitable.reservation(id="far", **hospitable.days(390, 60)),
        hospitable.reservation(id="over", **hospitable.days(-9, 2)),
    ]
    using.reconcile(web)
    assert [s["id"] for s in using.stays(web)] == ["hospitable:far", "hospitable:long"]


def test_a_comparison_reads_every_page_of_every_property(web: Web) -> None:
    found = [hospitable.reservation(id=f"r{n:03}", **hospitable.days(2 + n, 1)) for n in range(101)]
    with hospitable.api(*found, properties=101) as played:
        using.set_up(web, "hospitable", SECRET, credentials(played), listings=[PROPERTY])
        using.reconcile(web)
    assert web.value("SELECT bookings_listed FROM sources WHERE id = 'hospitable'") == 101
    pages = [(path, dict(query)["page"]) for path, query in played.asked]
    bookings = "/v2/reservations"
    assert pages == [
        ("/v2/properties", "1"),
        ("/v2/properties", "2"),
        (bookings, "1"),
        (bookings, "2"),
        (bookings, "1"),
        (bookings, "1"),
    ]
    assert len(played.queries("properties[]")) == 50 + 50 + 50 + 1


@pytest.mark.parametrize("left", [0, 1])
def test_f1_a_list_that_is_empty_or_shrunken_removes_nothing_and_is_an_alarm(
    reading: Reading, left: int
) -> None:
    web, played = reading
    played.bookings[:] = [
        hospitable.reservation(id=f"r{n}", **hospitable.days(5 * n + 1)) for n in range(4)
    ]
    using.compare_without(web, played, slice(left, None))
    assert web.audited("source:list_shrunken") == [{"before": 4, "listed": left}]


@pytest.mark.parametrize(
    "fault",
    [
        Response(status_code=500),
        JSONResponse({"data": {}, "meta": {"last_page": 1}}),
        JSONResponse({"data": []}),
        JSONResponse({}, 404),
    ],
)
def test_a_list_that_breaks_off_removes_nothing(reading: Reading, fault: Response) -> None:
    web, played = reading
    using.compare_past(web, played, fault)
    assert web.audited("source:list_shrunken") == []
    assert web.value("SELECT bookings_listed FROM sources WHERE id = 'hospitable'") == 1
