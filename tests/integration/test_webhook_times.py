"""Row 43 of the bad-input catalogue: what a time in an event means, read in the listing's zone."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from tests import factories
from tests.serving import Web

BERLIN, SAO_PAULO, LORD_HOWE = "Europe/Berlin", "America/Sao_Paulo", "Australia/Lord_Howe"


def stay(web: Web, zone: str, check_in: str, check_out: str) -> tuple[Any, ...]:
    """The instants that one telling of a stay at a listing in that zone is stored with."""
    listing, reservation = zone, f"res-{uuid4().hex}"
    if not web.ask("SELECT 1 FROM listings WHERE id = %s", listing):
        web.execute("INSERT INTO listings (id, time_zone) VALUES (%s, %s)", listing, zone)
        web.execute("INSERT INTO listing_locks VALUES (%s, 'sim-zigbee-1')", listing)
    told = factories.event(reservation, listing_id=listing, check_in=check_in, check_out=check_out)
    answer = web.tell(told)
    assert answer.outcome == "accepted", answer.body
    query = "SELECT check_in_at, check_out_at FROM reservations WHERE id = %s"
    (row,) = web.ask(query, reservation)
    return tuple(row.values())


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("zone", "told", "start", "end"),
    [
        pytest.param(BERLIN, "2027-01-10T15:00:00", "2027-01-10T14:00", None, id="winter"),
        pytest.param(BERLIN, "2027-07-10T15:00:00", "2027-07-10T13:00", None, id="summer"),
        pytest.param(SAO_PAULO, "2027-07-10 15:00", "2027-07-10T18:00", None, id="with-space"),
        pytest.param(BERLIN, "2027-01-10T15:00:00-03:00", "2027-01-10T18:00", None, id="offset"),
        pytest.param(BERLIN, "2027-01-10T15:00:00Z", "2027-01-10T15:00", None, id="utc"),
        # The clock goes from 02:00 to 03:00 on 28 March 2027.
        pytest.param(BERLIN, "2027-03-28T02:30:00", "2027-03-28T01:00", None, id="gap"),
        pytest.param(BERLIN, "2027-03-28T01:59:59", "2027-03-28T00:59:59", None, id="before-gap"),
        # It goes from 03:00 back to 02:00 on 31 October 2027: the earlier to come, the later to go.
        pytest.param(BERLIN, "2027-10-31T02:30", "2027-10-31T00:30", "2027-10-31T01:30", id="fold"),
        pytest.param(
            BERLIN, "2027-10-31T02:30+01:00", "2027-10-31T01:30", None, id="fold-with-offset"
        ),
        # Half an hour on 3 October 2027, from 02:00 to 02:30, and back on 4 April.
        pytest.param(LORD_HOWE, "2027-10-03T02:15", "2027-10-02T15:30", None, id="short-gap"),
        pytest.param(
            LORD_HOWE,
            "2027-04-04T01:45",
            "2027-04-03T14:45",
            "2027-04-03T15:15",
            id="short-fold",
        ),
    ],
)
def test_43_a_local_time_is_read_in_the_zone_of_the_listing(
    shared_web: Web, zone: str, told: str, start: str, end: str | None
) -> None:
    """F11 too: stored as an instant once, it never drifts with the zone of a machine."""
    check_in, _ = stay(shared_web, zone, told, "2027-12-01T10:00:00Z")
    _, check_out = stay(shared_web, zone, "2026-12-31T10:00:00Z", told)
    assert check_in == utc(start)
    assert check_out == utc(end or start)


def test_43_the_jobs_ring_by_the_zone_of_the_listing_too(shared_web: Web) -> None:
    stay(shared_web, "Asia/Kolkata", "2027-06-01T15:00:00", "2027-06-03T10:00:00")
    query = (
        "SELECT scheduled_at FROM procrastinate_jobs JOIN operations ON job_id ="
        " procrastinate_jobs.id JOIN access_codes ON access_codes.id = access_code_id"
        " JOIN reservations ON reservations.id = reservation_id"
        " WHERE listing_id = 'Asia/Kolkata' ORDER BY scheduled_at"
    )
    rings = [row["scheduled_at"] for row in shared_web.ask(query)]
    assert rings == [utc("2027-06-01T08:30"), utc("2027-06-03T04:30")]
