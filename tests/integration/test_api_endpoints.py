"""Endpoints and their deliveries over HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from tests import factories
from tests.calling import Client, client, stay
from tests.serving import Web

URL = "https://desk.example.com/pins"


@pytest.fixture
def who(web: Web) -> Client:
    """Somebody who operates, where `desk` is told of three stays."""

    async def add(db: Any, planner: Any) -> None:
        events = ("code.scheduled",)
        await factories.add_endpoint(db, planner.sealer, URL, events=events, with_pin=True)

    web.do(add)
    who = client(web, "operate")
    for number in (1, 2, 3):
        who.told(201, "PUT", f"/api/reservations/res-{number}", stay())
    return who


def deliveries(who: Client, query: str = "") -> Any:
    return who.get(f"/api/endpoints/desk/deliveries{query}")


def test_endpoints_are_listed_without_their_secrets(who: Client) -> None:
    assert who.get("/api/endpoints") == {
        "endpoints": [
            {
                "id": "desk",
                "url": URL,
                "events": ["code.scheduled"],
                "private": False,
                "with_pin": True,
                "enabled": True,
                "disabled_reason": None,
                "waiting": 3,
                "last_status": None,
                "last_error": None,
            }
        ]
    }


def test_deliveries_are_listed_the_newest_first_a_page_at_a_time(who: Client) -> None:
    page = deliveries(who, "?limit=2")
    rest = deliveries(who, f"?limit=2&cursor={page['next_cursor']}")
    found = [*page["deliveries"], *rest["deliveries"]]
    assert [one["reservation_id"] for one in found] == ["res-3", "res-2", "res-1"]
    assert {(one["type"], one["state"]) for one in found} == {("code.scheduled", "waiting")}
    assert rest["next_cursor"] is None
    assert deliveries(who, "?state=failed") == {"deliveries": [], "next_cursor": None}


@pytest.mark.parametrize("query", ["?cursor=cmVzLTE", "?cursor=wrong!", "?state=lost"])
def test_what_is_asked_wrongly_is_refused(who: Client, query: str) -> None:
    error = who.refused(422, "GET", f"/api/endpoints/desk/deliveries{query}")
    assert [fault["field"] for fault in error["details"]] == [query[1:].partition("=")[0]]


def test_a_delivery_is_repeated_in_the_name_of_the_key(who: Client) -> None:
    who.web.execute("UPDATE deliveries SET state = 'delivered', finished_at = now(), attempts = 1")
    number = deliveries(who)["deliveries"][0]["id"]
    told = who.told(200, "POST", f"/api/deliveries/{number}/redeliver")
    assert (told["id"], told["state"], told["attempts"]) == (number, "waiting", 0)
    assert told == deliveries(who)["deliveries"][0]
    audited = "SELECT actor FROM audit_events WHERE event = 'delivery:repeated'"
    assert who.web.value(audited).startswith("key:")


def test_what_is_not_there_or_disabled_is_not_repeated(who: Client) -> None:
    who.refused(404, "POST", "/api/deliveries/999/redeliver")
    who.refused(404, "GET", "/api/endpoints/nobody/deliveries")
    who.web.execute(
        "UPDATE endpoints SET enabled = false, disabled_at = now(), disabled_reason = 'HTTP 410'"
    )
    number = deliveries(who)["deliveries"][0]["id"]
    error = who.refused(409, "POST", f"/api/deliveries/{number}/redeliver")
    assert "endpoints enable desk" in error["message"]


def test_who_may_only_read_repeats_nothing(who: Client) -> None:
    number = deliveries(who)["deliveries"][0]["id"]
    reader = client(who.web, "read")
    assert deliveries(reader) == deliveries(who)
    assert reader.call("POST", f"/api/deliveries/{number}/redeliver").status == 403
