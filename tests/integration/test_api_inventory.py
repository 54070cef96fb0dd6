"""Setting up over HTTP."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests import factories
from tests.calling import Client, client, instant, stay
from tests.serving import Web

LOCK = {"id": "front-door", "device_id": "bf2c1e00ab0f12face", "protocol": "wifi"}


@pytest.fixture
def admin(web: Web) -> Client:
    return client(web)


def test_a_lock_is_added_and_listed_with_its_listings(admin: Client) -> None:
    told = admin.told(201, "POST", "/api/locks", LOCK)
    assert told | LOCK == told
    assert told["listings"] == []
    found = {lock["id"]: lock for lock in admin.get("/api/locks")["locks"]}
    assert found["front-door"] == told
    assert found["sim-zigbee-1"]["listings"] == ["apt-7"]


@pytest.mark.parametrize("changes", [{"id": "other"}, {"device_id": "other"}])
def test_what_is_there_already_is_a_conflict(admin: Client, changes: dict[str, Any]) -> None:
    admin.told(201, "POST", "/api/locks", LOCK)
    assert admin.refused(409, "POST", "/api/locks", LOCK | changes)["code"] == "conflict"


def test_a_listing_is_added_with_its_locks_and_lead(admin: Client) -> None:
    body = {"id": "apt-8", "time_zone": "Europe/Lisbon", "locks": ["sim-zigbee-1"], "lead": "1d"}
    told = admin.told(201, "POST", "/api/listings", body)
    assert (told | body, told.pop("events_taken_up")) == (told | {"events_taken_up": 0} | body, 0)
    assert told in admin.get("/api/listings")["listings"]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"time_zone": "Mars/Base"}, "time_zone"),
        ({"time_zone": "America"}, "time_zone"),
        ({"lead": "-1h"}, "lead"),
        ({"locks": "front-door"}, "locks"),
    ],
)
def test_a_listing_that_cannot_be_is_refused_by_field(
    admin: Client, changes: dict[str, Any], field: str
) -> None:
    body = {"id": "apt-8", "time_zone": "UTC"} | changes
    error = admin.refused(422, "POST", "/api/listings", body)
    assert [fault["field"] for fault in error["details"]] == [field]


def test_adding_a_listing_takes_up_the_events_that_waited_for_it(web: Web, admin: Client) -> None:
    assert web.tell(factories.event("res-1", listing_id="apt-8")).outcome == "unmapped"
    body = {"id": "apt-8", "time_zone": "UTC", "locks": ["sim-zigbee-1"]}
    assert admin.told(201, "POST", "/api/listings", body)["events_taken_up"] == 1
    assert len(admin.get("/api/jobs?reservation=res-1")["jobs"]) == 2


def test_linking_a_lock_gives_stays_ahead_a_pin_on_it_too(admin: Client) -> None:
    admin.told(201, "POST", "/api/locks", LOCK)
    admin.told(201, "PUT", "/api/reservations/res-1", stay())
    told = admin.told(201, "POST", "/api/listings/apt-7/locks", {"lock": "front-door"})
    assert (told["locks"], told["stays_planned"]) == (["front-door", "sim-zigbee-1"], 1)
    codes = admin.get("/api/reservations/res-1/codes")["codes"]
    assert {code["lock_id"] for code in codes} == {"front-door", "sim-zigbee-1"}
    again = admin.refused(409, "POST", "/api/listings/apt-7/locks", {"lock": "front-door"})
    assert again["message"] == "lock front-door belongs to listing apt-7 already"


def test_unlinking_a_lock_takes_its_pins_from_stays_ahead(admin: Client) -> None:
    admin.told(201, "PUT", "/api/reservations/res-1", stay())
    told = admin.told(200, "DELETE", "/api/listings/apt-7/locks/sim-zigbee-1")
    assert (told["locks"], told["stays_planned"]) == ([], 1)
    (code,) = admin.get("/api/reservations/res-1/codes")["codes"]
    assert code["state"] == "cancelled"
    admin.refused(404, "DELETE", "/api/listings/apt-7/locks/sim-zigbee-1")
    admin.refused(404, "DELETE", "/api/listings/none/locks/sim-zigbee-1")


def test_linking_what_is_not_there_is_not_found(admin: Client) -> None:
    admin.refused(404, "POST", "/api/listings/apt-7/locks", {"lock": "none"})
    admin.refused(404, "POST", "/api/listings/none/locks", {"lock": "sim-zigbee-1"})


def test_a_source_tells_its_secret_once_and_takes_what_is_signed_with_it(
    web: Web, admin: Client
) -> None:
    answer = admin.call("POST", "/api/sources", {"id": "my-site"})
    assert (answer.status, answer.headers["cache-control"]) == (201, "no-store")
    told = answer.json()
    secret = told.pop("secret")
    assert told in admin.get("/api/sources")["sources"]
    assert secret not in admin.call("GET", "/api/sources").body.decode()
    raw, headers = factories.signed(factories.event(), secret=secret)
    assert web.post(raw, headers, "/webhooks/my-site").outcome == "accepted"


def test_rotating_gives_another_secret_and_keeps_the_old_one_for_a_while(
    web: Web, admin: Client
) -> None:
    told = admin.told(200, "POST", "/api/sources/main/rotate", {"keep_old": "2h"})
    until = instant(told["previous_secret_until"]) - datetime.now(UTC)
    assert timedelta(minutes=119) < until <= timedelta(hours=2)
    assert told["secret"] != factories.SECRET
    assert web.tell(factories.event(), secret=told["secret"]).outcome == "accepted"
    assert web.tell(factories.event()).outcome == "accepted"


def test_rotating_needs_no_body(admin: Client) -> None:
    told = admin.told(200, "POST", "/api/sources/main/rotate")
    until = instant(told["previous_secret_until"]) - datetime.now(UTC)
    assert timedelta(hours=23) < until <= timedelta(hours=24)
    admin.refused(404, "POST", "/api/sources/none/rotate")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"kind": "fax"}, "kind"),
        ({"secret": "whsec_1"}, "secret"),
        ({"id": "my site"}, "id"),
    ],
)
def test_a_source_that_cannot_be_is_refused_by_field(
    admin: Client, changes: dict[str, Any], field: str
) -> None:
    error = admin.refused(422, "POST", "/api/sources", {"id": "x", **changes})
    assert [fault["field"] for fault in error["details"]] == [field]
