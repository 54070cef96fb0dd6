"""Both clock changes of a year, zone by zone: from a sender's local text to the door that opens."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import pytest

from pinqueue.operations import Workbench
from pinqueue.simulator import Control
from tests import factories
from tests.operating import ZIGBEE, code_of, digits, held, ring

pytestmark = pytest.mark.anyio

SECOND = timedelta(seconds=1)


class Change(NamedTuple):
    """One night on which clocks change, and what it makes of local times."""

    eve: str
    check_in: str
    """15:00 on the eve, as UTC: the listing's default time."""
    after: str
    check_out: str
    """11:00 on the day after the change, as UTC."""
    odd: str
    """A local time that is skipped, or that comes twice."""
    as_start: str
    as_end: str


GAPS = {
    "Europe/Lisbon": Change(
        *("2030-03-30", "2030-03-30T15:00", "2030-04-01", "2030-04-01T10:00"),
        *("2030-03-31T01:30", "2030-03-31T01:00", "2030-03-31T01:00"),
    ),
    "America/New_York": Change(
        *("2030-03-09", "2030-03-09T20:00", "2030-03-11", "2030-03-11T15:00"),
        *("2030-03-10T02:30", "2030-03-10T07:00", "2030-03-10T07:00"),
    ),
    "America/Santiago": Change(
        *("2030-09-07", "2030-09-07T19:00", "2030-09-09", "2030-09-09T14:00"),
        *("2030-09-08T00:00", "2030-09-08T04:00", "2030-09-08T04:00"),
    ),
    "Australia/Lord_Howe": Change(  # by half an hour
        *("2030-10-05", "2030-10-05T04:30", "2030-10-07", "2030-10-07T00:00"),
        *("2030-10-06T02:15", "2030-10-05T15:30", "2030-10-05T15:30"),
    ),
    "Pacific/Auckland": Change(
        *("2030-09-28", "2030-09-28T03:00", "2030-09-30", "2030-09-29T22:00"),
        *("2030-09-29T02:30", "2030-09-28T14:00", "2030-09-28T14:00"),
    ),
    "Africa/Casablanca": Change(  # when Ramadan ends
        *("2030-02-09", "2030-02-09T15:00", "2030-02-11", "2030-02-11T10:00"),
        *("2030-02-10T02:30", "2030-02-10T02:00", "2030-02-10T02:00"),
    ),
    "Asia/Beirut": Change(  # at midnight
        *("2030-03-30", "2030-03-30T13:00", "2030-04-01", "2030-04-01T08:00"),
        *("2030-03-31T00:30", "2030-03-30T22:00", "2030-03-30T22:00"),
    ),
}
FOLDS = {
    "Europe/Lisbon": Change(
        *("2030-10-26", "2030-10-26T14:00", "2030-10-28", "2030-10-28T11:00"),
        *("2030-10-27T01:30", "2030-10-27T00:30", "2030-10-27T01:30"),
    ),
    "America/New_York": Change(
        *("2030-11-02", "2030-11-02T19:00", "2030-11-04", "2030-11-04T16:00"),
        *("2030-11-03T01:30", "2030-11-03T05:30", "2030-11-03T06:30"),
    ),
    "America/Santiago": Change(
        *("2030-04-06", "2030-04-06T18:00", "2030-04-08", "2030-04-08T15:00"),
        *("2030-04-06T23:30", "2030-04-07T02:30", "2030-04-07T03:30"),
    ),
    "Australia/Lord_Howe": Change(
        *("2030-04-06", "2030-04-06T04:00", "2030-04-08", "2030-04-08T00:30"),
        *("2030-04-07T01:45", "2030-04-06T14:45", "2030-04-06T15:15"),
    ),
    "Pacific/Auckland": Change(
        *("2030-04-06", "2030-04-06T02:00", "2030-04-08", "2030-04-07T23:00"),
        *("2030-04-07T02:30", "2030-04-06T13:30", "2030-04-06T14:30"),
    ),
    "Africa/Casablanca": Change(  # when Ramadan begins
        *("2030-12-21", "2030-12-21T14:00", "2030-12-23", "2030-12-23T11:00"),
        *("2030-12-22T02:30", "2030-12-22T01:30", "2030-12-22T02:30"),
    ),
    "Asia/Beirut": Change(
        *("2030-10-26", "2030-10-26T12:00", "2030-10-28", "2030-10-28T09:00"),
        *("2030-10-26T23:30", "2030-10-26T20:30", "2030-10-26T21:30"),
    ),
}


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize("zone", GAPS)
async def test_f11_the_door_opens_by_the_clock_on_the_wall_through_both_changes_of_the_year(
    bench: Workbench, prompt: Control, zone: str
) -> None:
    """Row 43 of the bad-input catalogue."""
    await factories.add_listing(bench.db, "apt-7", {ZIGBEE: "zigbee"}, time_zone=zone)
    for kind, change in {"gap": GAPS[zone], "fold": FOLDS[zone]}.items():
        came, went = utc(change.check_in), utc(change.check_out)
        stays = {
            f"{kind}, across": (change.eve, change.after, came, went),
            f"{kind}, from": (change.odd, change.after, utc(change.as_start), went),
            f"{kind}, until": (change.eve, change.odd, came, utc(change.as_end)),
        }
        for stay, (check_in, check_out, starts_at, ends_at) in stays.items():
            told = factories.booking(stay, check_in=check_in, check_out=check_out)
            assert await factories.receive(bench.db, bench.planner, told) == "accepted"
            assert await ring(bench, "generate", stay) is None
            pin = digits(bench, await code_of(bench, stay))
            assert (pin, starts_at, ends_at) in held(prompt), stay
            opened = [opens(prompt, pin, at) for at in (starts_at, ends_at)]
            assert opened == [[False, True], [True, False]], stay


def opens(doors: Control, pin: str, at: datetime) -> list[bool]:
    """Whether the PIN opens a second before that moment, and at it."""
    opened = []
    for moment in (at - SECOND, at):
        doors.set_clock(moment)
        opened.append(doors.open(ZIGBEE, pin))
    doors.set_clock(datetime.now(UTC))
    return opened
