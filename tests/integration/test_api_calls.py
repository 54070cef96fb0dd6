"""What every call has in common: one shape of errors, strict input, no caching."""

from __future__ import annotations

import json

import psycopg
import pytest

from pinqueue.web import TABLE
from tests.calling import Client, client, stay
from tests.serving import Web


@pytest.fixture(scope="module")
def admin(shared_web: Web) -> Client:
    return client(shared_web)


@pytest.mark.parametrize(
    ("raw", "status", "code"),
    [
        (b"", 415, "unsupported_media_type"),
        (b"{", 400, "invalid_json"),
        (b'{"id": "a", "id": "b"}', 400, "invalid_json"),
        (b'{"id": NaN}', 400, "invalid_json"),
        (b'{"id": "\xff"}', 400, "invalid_json"),
        (b"[" * 50_000, 400, "invalid_json"),
        (b"[]", 422, "invalid_body"),
        (b'{"id": "a\\u0000"}', 422, "invalid_text"),
        (b'{"id": "\\ud800"}', 422, "invalid_text"),
        (b" " * (256 * 1024 + 1), 413, "body_too_large"),
    ],
)
def test_a_body_that_is_not_strict_json_of_a_bearable_size_is_refused(
    admin: Client, raw: bytes, status: int, code: str
) -> None:
    assert admin.refused(status, "POST", "/api/locks", raw or None)["code"] == code


def test_a_body_of_another_type_is_refused(admin: Client) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = admin.call("POST", "/api/locks", b"id=a", headers=headers)
    assert (answer.status, answer.outcome) == (415, "unsupported_media_type")


def test_each_wrong_field_is_named(admin: Client) -> None:
    body = {"id": " a", "device_id": 7, "protocol": "fax", "colour": "red"}
    error = admin.refused(422, "POST", "/api/locks", body)
    assert error["code"] == "invalid_input"
    assert {fault["field"] for fault in error["details"]} == set(body)


def test_a_wrong_field_inside_another_is_named_with_its_way(admin: Client) -> None:
    error = admin.refused(422, "PUT", "/api/reservations/r", stay(guest={"name": 7}))
    assert [fault["field"] for fault in error["details"]] == ["guest.name"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"checkin": "2098-12-24"}, "checkin: is not known here; there are listing_id, check_in,"),
        ({"guest": "Ana"}, "guest: must be an object"),
        ({"guest": {"nam": "Ana"}}, "guest.nam: is not known here"),
        ({"check_in": "2098-02-30"}, "check_in: must be a date, or a date and time, in ISO 8601:"),
    ],
)
def test_a_wrong_field_is_told_what_would_be_right(
    admin: Client, body: dict[str, object], said: str
) -> None:
    error = admin.refused(422, "PUT", "/api/reservations/r", stay(**body))
    assert error["message"].startswith(said)


def test_a_field_that_is_left_out_is_told_to_be_required(admin: Client) -> None:
    error = admin.refused(422, "POST", "/api/locks", {"id": "l", "protocol": "wifi"})
    assert error["details"] == [{"field": "device_id", "message": "is required"}]


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/api/jobs?sate=failed", "sate"),
        ("/api/jobs?state=", "state"),
        ("/api/jobs?state=broken", "state"),
        ("/api/jobs?queue=a&queue=b", "queue"),
        ("/api/jobs?limit=0", "limit"),
        ("/api/jobs?limit=1001", "limit"),
        ("/api/jobs?limit=1_0", "limit"),
        ("/api/jobs?limit=%20" + "1", "limit"),
        ("/api/jobs?due_from=2026-11-01", "due_from"),
        ("/api/jobs?due_from=1700000000", "due_from"),
        ("/api/jobs?due_before=2026-11-01T10:00:00", "due_before"),
        ("/api/jobs?due_before=9999-12-31T23:59:59Z", "due_before"),
        ("/api/jobs?cursor=junk", "cursor"),
        ("/api/jobs?lock=%00", "lock"),
        ("/api/reservations?cursor=%21", "cursor"),
        ("/api/reservations?cursor=AAAA", "cursor"),
        ("/api/reservations?status=active", "status"),
        ("/api/reservations?id=x", "id"),
        ("/api/reservations/%00", "id"),
        ("/api/reservations/%FF", "id"),
        ("/api/jobs/%ED%A0%80/generate", "reservation_id"),
        ("/api/reservations/" + "x" * 129, "id"),
        ("/api/reservations/r?id=x", "id"),
        ("/api/locks?all=1", "all"),
    ],
)
def test_a_parameter_that_cannot_be_is_refused_by_name(
    admin: Client, path: str, field: str
) -> None:
    error = admin.refused(422, "GET", path)
    assert {fault["field"] for fault in error["details"]} == {field}


@pytest.mark.parametrize("wrong", ["soon", "2026-11-01", "2026-11-01T10:00", "2026-11-01T10:00+01"])
def test_a_time_in_a_query_is_told_how_it_is_written(admin: Client, wrong: str) -> None:
    message = admin.refused(422, "GET", f"/api/jobs?due_from={wrong}")["message"]
    assert "with an offset: 2026-11-01T10:00:00Z (in a URL, write + as %2B)" in message


@pytest.mark.parametrize("number", ["0", "-1", "x", "1.0", str(2**63), "9" * 40])
def test_what_cannot_be_the_number_of_a_code_is_refused(admin: Client, number: str) -> None:
    assert admin.refused(422, "POST", f"/api/codes/{number}/reveal")["details"]


def test_an_unknown_route_is_answered_in_the_same_shape(admin: Client) -> None:
    error = admin.refused(404, "GET", "/api/nothing")
    assert (error["code"], "/docs" in error["message"]) == ("not_found", True)


@pytest.mark.parametrize("path", sorted({one.path for one in TABLE}))
def test_a_wrong_method_is_told_all_right_ones(admin: Client, path: str) -> None:
    answer = admin.call("PATCH", path)
    assert (answer.status, answer.outcome) == (405, "method_not_allowed")
    declared = {one.method for one in TABLE if one.path == path}
    allowed = set(answer.headers["allow"].split(", "))
    assert allowed - {"HEAD"} == declared
    assert f"takes {answer.headers['allow']} only" in answer.body.decode()


def test_no_answer_is_for_a_cache(admin: Client) -> None:
    for path in ("/api/locks", "/api/reservations/none", "/api/locks?x=1", "/api/health"):
        assert admin.call("GET", path).headers["cache-control"] == "no-store", path


def test_a_head_is_a_get_without_its_body(admin: Client) -> None:
    answer = admin.call("HEAD", "/api/locks")
    assert (answer.status, answer.body) == (200, b"")


def test_what_is_answered_is_committed(shared_web: Web, admin: Client) -> None:
    admin.told(201, "POST", "/api/locks", {"id": "l", "device_id": "d-l", "protocol": "wifi"})
    assert shared_web.value("SELECT count(*) FROM locks WHERE id = 'l'") == 1


def test_what_is_refused_leaves_nothing(shared_web: Web, admin: Client) -> None:
    before = shared_web.counts()
    body = {"id": "new", "time_zone": "UTC", "locks": ["sim-zigbee-1", "missing"]}
    admin.refused(404, "POST", "/api/listings", body)
    assert shared_web.counts() == before
    assert shared_web.value("SELECT count(*) FROM listings WHERE id = 'new'") == 0


def test_a_row_that_somebody_holds_is_waited_for_and_then_refused(web: Web) -> None:
    who = client(web)
    who.told(201, "PUT", "/api/reservations/r", stay())
    with psycopg.connect(web.database_url) as holder:
        holder.execute("SELECT FROM reservations FOR UPDATE")
        answer = who.call("POST", "/api/reservations/r/confirm")
    assert (answer.status, answer.outcome) == (503, "unavailable")
    assert json.loads(answer.body)["error"]["message"] == "try again later"
