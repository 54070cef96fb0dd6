"""Reservations and their codes over HTTP, from booking to a PIN in somebody's hand."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from urllib.parse import quote

import pytest

from pinqueue.operations import Workbench
from pinqueue.reservations import Planner
from pinqueue.simulator import Control
from tests import factories
from tests.calling import Client, client, instant, soon, stay
from tests.operating import ZIGBEE, held, ring
from tests.serving import Web

NEITHER = {"generate_pin_cancelled": False, "revoke_pin_cancelled": False}


@pytest.fixture
def desk(web: Web) -> Client:
    return client(web, "operate", "reveal")


@pytest.fixture
def booked(desk: Client) -> Client:
    desk.told(201, "PUT", "/api/reservations/res-1", stay())
    return desk


def jobs(who: Client, reservation_id: str = "res-1") -> dict[str, dict[str, Any]]:
    return {kind: who.get(f"/api/jobs/{reservation_id}/{kind}") for kind in ("generate", "revoke")}


def the_code(who: Client, reservation_id: str = "res-1") -> dict[str, Any]:
    """The stay's newest code."""
    code: dict[str, Any] = who.get(f"/api/reservations/{reservation_id}/codes")["codes"][-1]
    return code


# Create and change


def test_a_put_creates_a_stay_and_schedules_its_pin(desk: Client) -> None:
    sent = stay(guest={"name": "Ana", "phone": "+55 11 5550 0100"})
    told = desk.told(201, "PUT", "/api/reservations/res-1", sent)
    assert told == desk.get("/api/reservations/res-1")
    assert (told["id"], told["status"], told["source_id"]) == ("res-1", "confirmed", None)
    assert told["guest"] == sent["guest"]
    for end in ("check_in", "check_out"):
        assert told[end].endswith("Z")
        assert instant(told[end]) == instant(sent[end])
    scheduled = jobs(desk)["generate"]["data"]["scheduled_at"]
    assert instant(scheduled) == instant(sent["check_in"]) - timedelta(hours=1)


def test_a_second_put_moves_it_and_doubles_nothing(booked: Client) -> None:
    sent = stay(check_in=soon(days=2))
    told = booked.told(200, "PUT", "/api/reservations/res-1", sent)
    assert instant(told["check_in"]) == instant(sent["check_in"])
    assert len(booked.get("/api/jobs?reservation=res-1&state=delayed")["jobs"]) == 2
    assert instant(the_code(booked)["starts_at"]) == instant(sent["check_in"])


def test_what_is_told_can_be_put_back(booked: Client) -> None:
    told = booked.get("/api/reservations/res-1")
    fields = ("listing_id", "check_in", "check_out", "status", "lead", "guest")
    again = booked.told(
        200, "PUT", "/api/reservations/res-1", {field: told[field] for field in fields}
    )
    assert {f: again[f] for f in fields} == {f: told[f] for f in fields}


def test_a_lead_of_its_own_is_kept_until_another_is_put(desk: Client) -> None:
    sent = stay()
    told = desk.told(201, "PUT", "/api/reservations/res-1", sent | {"lead": "2h"})
    assert told["lead"] == "2h"
    due = instant(sent["check_in"]) - timedelta(hours=2)
    assert instant(jobs(desk)["generate"]["data"]["scheduled_at"]) == due
    assert desk.told(200, "PUT", "/api/reservations/res-1", sent)["lead"] == "2h"
    desk.told(200, "PUT", "/api/reservations/res-1", sent | {"lead": "1h30m"})
    due = instant(sent["check_in"]) - timedelta(minutes=90)
    assert instant(jobs(desk)["generate"]["data"]["scheduled_at"]) == due


def test_a_check_in_in_the_past_with_a_check_out_ahead_rings_at_once(desk: Client) -> None:
    desk.told(201, "PUT", "/api/reservations/res-1", stay(check_in=soon(hours=-3)))
    status = jobs(desk)["generate"]
    assert (status["state"], status["delay"]) == ("waiting", 0)


def test_a_stay_that_is_over_gets_no_job(desk: Client) -> None:
    over = stay(check_in=soon(days=-2), check_out=soon(days=-1))
    desk.told(201, "PUT", "/api/reservations/res-1", over)
    assert desk.refused(404, "GET", "/api/jobs/res-1/generate")["code"] == "not_found"


def test_two_locks_of_one_listing_do_not_collide(web: Web, desk: Client) -> None:
    web.set_up_listing("both", {"sim-zigbee-1": "zigbee", "sim-wifi-1": "wifi"})
    desk.told(201, "PUT", "/api/reservations/res-1", stay(listing_id="both"))
    told = jobs(desk)["generate"]
    assert {one["lock_id"] for one in told["data"]["locks"]} == {"sim-zigbee-1", "sim-wifi-1"}


def test_a_local_time_is_read_where_the_listing_is(desk: Client) -> None:
    sent = stay(check_in="2026-12-24T15:00:00", check_out="2026-12-26T10:00:00")
    told = desk.told(201, "PUT", "/api/reservations/res-1", sent)
    assert told["check_in"] == "2026-12-24T18:00:00Z"


def test_a_grant_moves_the_window_and_neither_the_stay_nor_its_pin(booked: Client) -> None:
    """A time without offset is read where the listing is, three hours behind UTC."""
    before = booked.get("/api/reservations/res-1")
    pin = booked.told(200, "POST", f"/api/codes/{the_code(booked)['id']}/reveal")["pin"]
    early = instant(before["check_in"]) - timedelta(hours=4)
    local = (early - timedelta(hours=3)).replace(tzinfo=None).isoformat()
    path = "/api/reservations/res-1/grant"
    told = booked.told(200, "POST", path, {"early_check_in": local})
    assert (instant(told["early_check_in_at"]), told["check_in"]) == (early, before["check_in"])
    code = the_code(booked)
    assert instant(code["starts_at"]) == early
    assert booked.told(200, "POST", f"/api/codes/{code['id']}/reveal")["pin"] == pin
    booked.told(200, "POST", path, {"early_check_in": ""})
    assert the_code(booked)["starts_at"] == before["check_in"]


@pytest.mark.parametrize(
    "body", [{"early_check_in": "2100-01-01"}, {"late_check_out": "2010-01-01"}]
)
def test_a_grant_that_would_shorten_the_stay_names_its_field(
    booked: Client, body: dict[str, str]
) -> None:
    error = booked.refused(422, "POST", "/api/reservations/res-1/grant", body)
    assert [fault["field"] for fault in error["details"]] == list(body)


def test_a_pending_stay_gets_no_pin_until_it_is_confirmed(desk: Client) -> None:
    desk.told(201, "PUT", "/api/reservations/res-1", stay(status="pending"))
    assert desk.get("/api/reservations/res-1/codes") == {"codes": []}
    told = desk.told(200, "POST", "/api/reservations/res-1/confirm")
    assert {job["queue"] for job in told["jobs"]} == {"generate_pin", "revoke_pin"}


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"check_in": "tomorrow"}, "check_in"),
        ({"check_in": "2026-13-01T10:00:00"}, "check_in"),
        ({"check_in": "24/12/2026"}, "check_in"),
        ({"check_in": "1999-12-24T15:00:00Z"}, "check_in"),
        ({"check_in": 1_700_000_000}, "check_in"),
        ({"check_out": "2020-01-01T10:00:00Z"}, "check_out"),
        ({"lead": "soon"}, "lead"),
        ({"lead": "366d"}, "lead"),
        ({"lead": 3600}, "lead"),
        ({"status": "cancelled"}, "status"),
        ({"listing_id": ""}, "listing_id"),
        ({"guest": {"name": "x" * 201}}, "guest.name"),
        ({"arrival": "2026-12-24T15:00:00"}, "arrival"),
    ],
)
def test_a_bad_date_or_any_other_field_is_named_and_changes_nothing(
    booked: Client, changes: dict[str, Any], field: str
) -> None:
    before = booked.web.counts()
    error = booked.refused(422, "PUT", "/api/reservations/res-1", stay(**changes))
    assert [fault["field"] for fault in error["details"]] == [field]
    assert booked.web.counts() == before


def test_a_stay_of_a_webhook_sender_is_changed_there(web: Web, desk: Client) -> None:
    assert web.tell(factories.event("res-1")).status == 200
    assert desk.get("/api/reservations/res-1")["source_id"] == "main"
    error = desk.refused(409, "PUT", "/api/reservations/res-1", stay())
    assert error["message"] == "reservation res-1 belongs to source main: change it there"


def test_an_unknown_listing_is_not_found(desk: Client) -> None:
    error = desk.refused(404, "PUT", "/api/reservations/res-1", stay(listing_id="nowhere"))
    assert error["message"] == ("there is no listing nowhere: `pinqueue listings add` makes one")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/reservations/none"),
        ("GET", "/api/reservations/none/codes"),
        ("POST", "/api/reservations/none/confirm"),
        ("DELETE", "/api/reservations/none/cancel"),
        ("GET", "/api/jobs/none/generate"),
        ("POST", "/api/codes/999/reveal"),
        ("POST", "/api/codes/999/reissue"),
        ("POST", "/api/reservations/nobodys/reissue"),
        ("POST", "/api/jobs/999/retry"),
    ],
)
def test_a_missing_reservation_code_or_job_is_not_found(
    desk: Client, method: str, path: str
) -> None:
    assert desk.refused(404, method, path)["code"] == "not_found"


@pytest.mark.parametrize("name", ["HM/12", "a b", "ünï", "x?y", "50%", "..", "confirm", "A+B#1"])
def test_an_id_may_hold_what_senders_put_there(web: Web, desk: Client, name: str) -> None:
    assert web.tell(factories.event(name)).status == 200
    path = f"/api/reservations/{quote(name, safe='')}"
    assert desk.get(path)["id"] == name
    assert len(desk.get(f"{path}/codes")["codes"]) == 1
    assert desk.told(200, "DELETE", f"{path}/cancel")["status"] == "cancelled"


# Confirm and cancel


def test_confirm_returns_the_stay_with_its_scheduled_jobs_and_twice_is_as_once(
    booked: Client,
) -> None:
    first = booked.told(200, "POST", "/api/reservations/res-1/confirm")
    assert [job["queue"] for job in first["jobs"]] == ["generate_pin", "revoke_pin"]
    again = booked.told(200, "POST", "/api/reservations/res-1/confirm")
    assert again["jobs"] == first["jobs"]


def test_cancel_both_and_twice_is_as_once(booked: Client) -> None:
    told = booked.told(200, "DELETE", "/api/reservations/res-1/cancel")
    assert told == {
        "status": "cancelled",
        "generate_pin_cancelled": True,
        "revoke_pin_cancelled": True,
    }
    assert {one["state"] for one in jobs(booked).values()} == {"cancelled"}
    again = booked.told(200, "DELETE", "/api/reservations/res-1/cancel")
    assert again == {"status": "cancelled", **NEITHER}


def test_cancel_where_nothing_is_scheduled(desk: Client) -> None:
    desk.told(201, "PUT", "/api/reservations/res-1", stay(status="pending"))
    told = desk.told(200, "DELETE", "/api/reservations/res-1/cancel")
    assert told == {"status": "cancelled", **NEITHER}


def test_a_cancelled_stay_is_confirmed_again_with_another_pin(booked: Client) -> None:
    old = the_code(booked)
    booked.told(200, "DELETE", "/api/reservations/res-1/cancel")
    told = booked.told(200, "POST", "/api/reservations/res-1/confirm")
    assert (told["status"], told["cancelled_at"]) == ("confirmed", None)
    assert len(told["jobs"]) == 2
    assert the_code(booked)["id"] > old["id"]


def test_a_stay_cancelled_before_its_dates_were_told_cannot_be_confirmed(
    web: Web, desk: Client
) -> None:
    assert (
        web.tell(factories.event("res-1", "reservation.cancelled", listing_id=None)).status == 200
    )
    assert desk.refused(409, "POST", "/api/reservations/res-1/confirm")["code"] == "conflict"


# Lists


def test_a_same_day_turnover_is_told_with_the_next_stay(booked: Client) -> None:
    out = booked.get("/api/reservations/res-1")["check_out"]
    assert booked.get("/api/reservations/res-1")["same_day_turnover"] is None
    until = (instant(out) + timedelta(days=2)).isoformat()
    told = booked.told(201, "PUT", "/api/reservations/res-2", stay(check_in=out, check_out=until))
    assert told["same_day_turnover"] is None
    assert booked.get("/api/reservations/res-1")["same_day_turnover"] == "res-2"
    listed = booked.get("/api/reservations")["reservations"]
    assert [one["same_day_turnover"] for one in listed] == ["res-2", None]


def test_the_list_pages_through_every_stay_once(desk: Client) -> None:
    names = [f"res-{number}" for number in range(5)]
    for name in names:
        desk.told(201, "PUT", f"/api/reservations/{name}", stay())
    seen, cursor = [], ""
    while cursor is not None:
        page = desk.get(f"/api/reservations?limit=2{'&cursor=' + cursor if cursor else ''}")
        assert len(page["reservations"]) <= 2
        seen += [one["id"] for one in page["reservations"]]
        cursor = page["next_cursor"]
    assert seen == names


def test_the_list_filters_by_listing_and_status(web: Web, desk: Client) -> None:
    web.set_up_listing("apt-8", {})
    desk.told(201, "PUT", "/api/reservations/res-1", stay())
    desk.told(201, "PUT", "/api/reservations/res-2", stay(listing_id="apt-8"))
    desk.told(201, "PUT", "/api/reservations/res-3", stay(status="pending"))

    def ids(query: str) -> list[str]:
        return [one["id"] for one in desk.get(f"/api/reservations?{query}")["reservations"]]

    assert ids("listing=apt-8") == ["res-2"]
    assert ids("status=confirmed") == ["res-1", "res-2"]
    assert ids("status=pending&listing=apt-7") == ["res-3"]
    assert ids("listing=nowhere") == []


# PINs


def reveal(who: Client, code: dict[str, Any]) -> str:
    return str(who.told(200, "POST", f"/api/codes/{code['id']}/reveal")["pin"])


def test_a_pin_is_revealed_to_who_may_see_it_and_that_is_audited(
    booked: Client, planner: Planner
) -> None:
    code = the_code(booked)
    answer = booked.call("POST", f"/api/codes/{code['id']}/reveal")
    assert answer.headers["cache-control"] == "no-store"
    (row,) = booked.web.ask("SELECT pin_sealed FROM access_codes")
    pin = planner.sealer.open_pin(code["id"], row["pin_sealed"]).digits()
    assert answer.json() == {"pin": pin}
    (event,) = booked.web.ask("SELECT actor FROM audit_events WHERE event = 'code:revealed'")
    assert event["actor"].startswith("key:")


def test_a_pin_that_is_wiped_cannot_be_revealed(booked: Client) -> None:
    code = the_code(booked)
    booked.told(200, "DELETE", "/api/reservations/res-1/cancel")
    error = booked.refused(404, "POST", f"/api/codes/{code['id']}/reveal")
    assert error["message"] == f"access code {code['id']} is cancelled: its PIN is wiped"


def test_no_answer_but_reveal_holds_a_pin(booked: Client) -> None:
    pin = reveal(booked, the_code(booked))
    for path in ("/api/reservations", "/api/reservations/res-1/codes", "/api/jobs"):
        told = booked.call("GET", path).body.decode()
        assert f'"{pin}"' not in told


def test_reissue_gives_a_scheduled_code_other_digits_at_once(booked: Client) -> None:
    code = the_code(booked)
    before = reveal(booked, code)
    told = booked.told(200, "POST", f"/api/codes/{code['id']}/reissue")
    assert told == {**code, "comes_off_first": False, "dry_run": False}
    assert reveal(booked, code) != before


@pytest.mark.parametrize("path", ["/api/codes/{}/reissue", "/api/reservations/res-1/reissue"])
def test_a_dry_run_of_a_reissue_says_what_would_be_done_and_does_nothing(
    booked: Client, path: str
) -> None:
    code = the_code(booked)
    before = reveal(booked, code)
    answer = booked.told(200, "POST", path.format(code["id"]), {"dry_run": True})
    (told,) = answer.get("codes", [answer])
    assert told == {**code, "comes_off_first": False, "dry_run": True}
    assert reveal(booked, code) == before


def test_reissue_by_reservation_gives_every_door_other_digits(booked: Client) -> None:
    before = reveal(booked, the_code(booked))
    (told,) = booked.told(200, "POST", "/api/reservations/res-1/reissue")["codes"]
    assert (told["state"], told["dry_run"]) == ("scheduled", False)
    assert reveal(booked, told) != before


def test_reissue_is_refused_where_no_pin_is_wanted(booked: Client) -> None:
    code = the_code(booked)
    booked.told(200, "DELETE", "/api/reservations/res-1/cancel")
    assert booked.refused(409, "POST", f"/api/codes/{code['id']}/reissue")["code"] == "conflict"


@pytest.mark.anyio
async def test_the_whole_cycle(desk: Client, bench: Workbench, prompt: Control) -> None:
    """Put, programmed, revealed, opened, reissued, cancelled, off the door."""
    desk.told(201, "PUT", "/api/reservations/res-1", stay(check_in=soon(minutes=-5)))
    assert await ring(bench, "generate") is None
    code = the_code(desk)
    assert (code["state"], code["revoked_at"]) == ("active", None)
    assert prompt.open(ZIGBEE, reveal(desk, code))
    assert desk.told(200, "POST", f"/api/codes/{code['id']}/reissue")["state"] == "revoking"
    assert await ring(bench, "revoke") is None
    assert await ring(bench, "generate") is None
    assert [pin for pin, _, _ in held(prompt)] == [reveal(desk, the_code(desk))]
    told = desk.told(200, "DELETE", "/api/reservations/res-1/cancel")
    assert told == {"status": "cancelled", **NEITHER, "revoke_pin_cancelled": True}
    assert await ring(bench, "revoke") is None
    assert held(prompt) == []
    assert jobs(desk)["revoke"]["state"] == "completed"
