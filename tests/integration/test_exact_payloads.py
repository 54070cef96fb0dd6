"""Every payload that is known of a sender: byte for byte over HTTP into rows and jobs and, with the
clock moved to the days that it tells of, onto a door. The door opens from check-in until the end.
"""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest

from pinqueue.config import Settings, read_settings
from pinqueue.db import Database
from pinqueue.fetchers import Api
from pinqueue.operations import Workbench
from pinqueue.reservations import Planner
from pinqueue.sealing import sealer
from pinqueue.simulator import Control
from pinqueue.simulator import running as simulator_running
from tests import factories
from tests.clocks import Clock
from tests.conftest import Server, settings_values
from tests.operating import a_workbench, code_of, digits, held, ring
from tests.senders import guesty, hospitable, lodgify, pinqueue, stays, using
from tests.senders.cloudbeds import EXAMPLE
from tests.senders.each import SENDERS, Json, Sender
from tests.senders.hostaway import ENVELOPE, RESERVATION
from tests.senders.smoobu import SAMPLE
from tests.serving import Web, serving

STAMPED = {"pinqueue", "guesty"}
"""Who signs the time, too; the database's clock says whether that is now."""
ZONE, LEAD, MOMENT = ZoneInfo("America/Sao_Paulo"), timedelta(hours=1), timedelta(seconds=1)


def raw(body: Json) -> bytes:
    return json.dumps(body).encode()


@dataclass(frozen=True)
class Journey:
    """A stay, from what its sender posts to the end of its PIN."""

    sender: Sender
    stay: str
    """Its id, as the sender has it."""
    told: tuple[bytes, ...]
    """One after the other."""
    check_in: str
    check_out: str
    """By the listing's clock, unless there is an offset."""
    booking: Json = field(default_factory=dict)
    """What the sender's API tells of it; without it, there is no API."""
    listed: bool = False
    """Whether only the API's list of all bookings tells of it."""
    meanwhile: tuple[bytes, Json] | None = None
    """Posted while the guest is in, and the API tells this then: nothing must change."""
    cancel: tuple[bytes, Json] | None = None
    """The same, and it ends the stay."""

    def window(self) -> tuple[datetime, datetime]:
        return moment(self.check_in), moment(self.check_out)


def moment(text: str) -> datetime:
    found = datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=ZONE)


ours = Journey(
    SENDERS["pinqueue"],
    stay="res-123",
    told=(raw(pinqueue.EXAMPLE),),
    check_in="2026-12-24T15:00-03:00",
    check_out="2026-12-26T10:00-03:00",
)
at_stays = Journey(
    SENDERS["stays"],
    stay=stays.SHORT,
    told=(stays.CREATED,),
    check_in="2024-07-26T16:30",
    check_out="2024-07-30T11:00",
    booking={
        **json.loads(stays.CREATED)["payload"],
        "type": "booked",  # it is paid by the time it is read
        "checkInTime": "16:30",
    },
)
booked = stays.CREATED.replace(b'"reserved"', b'"booked"')
at_hospitable = Journey(
    SENDERS["hospitable"],
    stay=hospitable.STAY,
    told=(hospitable.COMPACT,),
    check_in="2019-01-03T16:00-05:00",
    check_out="2019-01-05T11:00-05:00",
    booking=hospitable.reservation(
        arrival_date="2019-01-03T00:00:00-05:00",
        departure_date="2019-01-05T00:00:00-05:00",
        check_in="2019-01-03T16:00:00-05:00",
        check_out="2019-01-05T11:00:00-05:00",
    ),
)
compact_filled = hospitable.COMPACT.replace(b'"data": {}', b'"data": ' + raw(at_hospitable.booking))
changed = hospitable.COMPACT.replace(b"reservation.created", b"reservation.changed")
partial = b'"data": { "id": "%b",' % hospitable.STAY.encode() + hospitable.PARTIAL[1:]
moved_check_in = changed.replace(b'"data": {}', partial)
status = {"id": hospitable.STAY, "reservation_status": hospitable.status("cancelled")}
cancelled = changed.replace(
    b'"data": {}', b'"triggers": ["status_changed"], "data": ' + raw(status)
).replace(b"2023-10-01", b"2023-10-02")
at_lodgify = Journey(
    SENDERS["lodgify"],
    stay=lodgify.BOOKING,
    told=(raw(lodgify.EXAMPLE),),
    check_in="2022-05-21T15:00",
    check_out="2022-05-24T11:00",
)
declined = {
    **lodgify.EXAMPLE,
    "action": "booking_status_change_declined",
    "booking": {**lodgify.EXAMPLE["booking"], "status": "Declined"},
}
at_hostaway = Journey(
    SENDERS["hostaway"],
    stay="1",
    told=(raw(ENVELOPE),),
    check_in="2017-07-15T15:00",
    check_out="2017-07-16T11:00",
    booking={**RESERVATION, "id": 1},
)
yesterdays = {
    **at_hostaway.booking,
    "arrivalDate": "2017-07-14",
    "departureDate": "2017-07-14",
    "isDatesUnspecified": 1,
}
at_guesty = Journey(
    SENDERS["guesty"],
    stay=guesty.STAY,
    told=(raw(guesty.LEGACY),),
    check_in="2017-10-04T12:00Z",
    check_out="2017-10-08T07:00Z",
    booking={**guesty.LEGACY["reservation"], "status": "confirmed"},  # an inquiry when it was told
)
at_cloudbeds = Journey(
    SENDERS["cloudbeds"],
    stay="31415926",
    told=(EXAMPLE,),
    check_in="2020-05-19T15:00",
    check_out="2020-05-21T11:00",
    booking={
        "propertyID": "12345",
        "reservationID": "31415926",
        "status": "confirmed",
        "startDate": "2020-05-19",
        "endDate": "2020-05-21",
        "rooms": [
            {
                "subReservationID": "31415926",
                "roomID": "601917-0",
                "roomCheckIn": "2020-05-19",
                "roomCheckOut": "2020-05-21",
            }
        ],
    },
)
at_smoobu = Journey(
    SENDERS["smoobu"],
    stay="292",
    told=(raw(SAMPLE),),
    check_in="2024-07-15T15:00",
    check_out="2024-07-18T11:00",
    booking={**SAMPLE["data"], "type": "reservation", "departure": "2024-07-18"},
)
guest_of_smoobu = {
    "departure": "2024-07-18",
    "guest-name": "Erika Muster",
    "email": "erika@example.com",
}

JOURNEYS = {
    "pinqueue": ours,
    "pinqueue-cancelled": replace(
        ours,
        stay="res-124",
        told=(raw(pinqueue.EXAMPLE).replace(b"res-123", b"res-124"),),
        cancel=(raw(pinqueue.CANCELLED).replace(b"res-123", b"res-124"), {}),
    ),
    "stays-created": at_stays,
    "stays-canceled-by-its-short-id-alone": replace(
        at_stays,
        stay="JM98I",
        told=(booked.replace(b"KR97I", b"JM98I"),),
        check_in="2024-07-26T15:00",
        booking={},
        cancel=(stays.CANCELED, {}),
    ),
    "stays-deleted-by-its-long-id-alone": replace(
        at_stays,
        told=(booked.replace(stays.LONG.encode(), b"696d19c9a90f0282b07c8f46"),),
        check_in="2024-07-26T15:00",
        booking={},
        cancel=(stays.DELETED, {}),
    ),
    "hospitable-compact-whose-id-names-the-delivery": replace(at_hospitable, listed=True),
    "hospitable-compact-filled": replace(at_hospitable, told=(compact_filled,), booking={}),
    "hospitable-partial-change": replace(
        at_hospitable,
        told=(compact_filled, moved_check_in),
        check_in="2019-01-03T16:30-05:00",
        booking={},
    ),
    "hospitable-cancelled-by-a-change": replace(
        at_hospitable,
        told=(compact_filled,),
        booking={},
        cancel=(cancelled, {}),
    ),
    "lodgify": at_lodgify,
    "lodgify-changed-and-declined": replace(
        at_lodgify,
        told=(*at_lodgify.told, raw({**lodgify.EXAMPLE, "action": "booking_change"})),
        cancel=(raw(declined), {}),
    ),
    "hostaway-dates-of-yesterday": replace(
        at_hostaway,
        meanwhile=(raw({**ENVELOPE, "data": yesterdays}), yesterdays),
    ),
    "hostaway-cancelled": replace(
        at_hostaway,
        cancel=(
            raw({**ENVELOPE, "data": {**at_hostaway.booking, "status": "cancelled"}}),
            {"status": "cancelled"},
        ),
    ),
    "guesty-first-generation": at_guesty,
    "guesty-nested": replace(
        at_guesty,
        stay=guesty.NESTED["data"]["reservation"]["id"],
        told=(raw(guesty.NESTED),),
        booking={**at_guesty.booking, "_id": guesty.NESTED["data"]["reservation"]["id"]},
    ),
    "guesty-lean-cancel": replace(
        at_guesty,
        stay="r9",
        told=(raw({**guesty.LEGACY, "reservation": {**at_guesty.booking, "_id": "r9"}}),),
        booking={},
        cancel=(raw(guesty.LEAN), {}),
    ),
    "cloudbeds": at_cloudbeds,
    "cloudbeds-canceled-and-spelt-the-other-way": replace(
        at_cloudbeds,
        cancel=(
            EXAMPLE.replace(b"dates_changed", b"status_changed").replace(b'Id"', b'ID"'),
            {"status": "canceled"},
        ),
    ),
    "smoobu": at_smoobu,
    "smoobu-with-its-guest": replace(
        at_smoobu,
        told=(raw({**SAMPLE, "user": 7, "data": {**SAMPLE["data"], **guest_of_smoobu}}),),
        booking={},
    ),
    "smoobu-cancelled": replace(
        at_smoobu,
        cancel=(raw({**SAMPLE, "action": "cancelReservation"}), {"type": "cancellation"}),
    ),
}
"""What follows a payload that is known is made like it, as far as its sender describes it."""


@dataclass(frozen=True)
class Stage:
    """All that a stay goes through: web application, worker, lock cloud, doors."""

    web: Web
    doors: Control
    clock: Clock
    bench: Workbench
    work: Callable[[Coroutine[Any, Any, Any]], Any]
    """What a worker does, done to its end."""


@pytest.fixture(scope="module")
def stage(server: Server, template: str) -> Iterator[Stage]:
    with (
        server.database(template) as url,
        simulator_running() as tuya,
        Control(tuya) as doors,
    ):
        clock = Clock(url, doors)
        doors.settings(zigbee_seconds=0)
        settings = read_settings(**settings_values(url, tuya), _env_file=None)
        worker = AsyncExitStack()
        with serving(url) as web, asyncio.Runner() as runner:
            bench = runner.run(worker.enter_async_context(a_worker_at_its_bench(settings)))
            yield Stage(web, doors, clock, bench, runner.run)
            runner.run(worker.aclose())


@asynccontextmanager
async def a_worker_at_its_bench(settings: Settings) -> AsyncIterator[Workbench]:
    db = Database(settings.database_url, pool_size=3, name="pinqueue-tests")
    planner = Planner(sealer(settings), settings.lead)
    async with a_workbench(settings, db, planner) as bench:
        yield bench
    await db.close()


class Play:
    """One journey on the stage, with a source, a listing, a lock and a door of its own."""

    def __init__(self, stage: Stage, journey: Journey, api: Api | None) -> None:
        self._stage, self._sender, self._booking = stage, journey.sender, journey.booking
        self._listed, self.name = journey.listed, f"{self._sender.kind}-{uuid4().hex[:6]}"
        ours = self._sender.kind == "pinqueue"
        self.stay = journey.stay if ours else f"{self.name}:{journey.stay}"
        stage.doors.add_door(self.name, "zigbee")
        stage.work(self._set_up(stage.bench, api))

    async def _set_up(self, bench: Workbench, api: Api | None) -> None:
        sender, listing = self._sender, f"{self.name}:{self._sender.listing}"
        await using.add_source(bench.db, bench.planner, sender.kind, sender.secret, api, self.name)
        await factories.add_listing(bench.db, listing, {self.name: "zigbee"})

    def post(self, payload: bytes, then_tells: Json | None = None) -> None:
        """And have the worker read what the payload does not tell."""
        self._booking.update(then_tells or {})
        stamped = self._sender.kind in STAMPED
        signing: dict[str, Any] = {"at": self._stage.clock.moved_to} if stamped else {}
        answer = self._sender.post(self._stage.web, payload, self.name, **signing)
        assert answer.status == 200, answer.body
        if answer.outcome == "fetching":
            using.fetch(self._stage.web)
        if self._listed:
            using.reconcile(self._stage.web)

    def row(self) -> tuple[str, datetime, datetime]:
        query = "SELECT status, check_in_at, check_out_at FROM reservations WHERE id = %s"
        (row,) = self._stage.web.ask(query, self.stay)
        return row["status"], row["check_in_at"], row["check_out_at"]

    def jobs(self) -> dict[str, datetime]:
        query = (
            "SELECT task_name, job.scheduled_at FROM access_codes code"
            " JOIN operations operation ON access_code_id = code.id"
            " JOIN procrastinate_jobs job ON job.id = job_id"
            " WHERE reservation_id = %s AND status = 'todo'"
        )
        rows = self._stage.web.ask(query, self.stay)
        return {row["task_name"]: row["scheduled_at"] for row in rows}

    def ring(self, kind: str) -> None:
        """It does nothing before it is due."""
        rung = ring(self._stage.bench, kind, self.stay, as_if_due=False)
        assert self._stage.work(rung) is None

    def pin(self) -> str:
        bench = self._stage.bench
        return digits(bench, self._stage.work(code_of(bench, self.stay)))

    def held(self) -> list[tuple[str, datetime, datetime]]:
        return held(self._stage.doors, self.name)

    def opens(self, pin: str) -> bool:
        return self._stage.doors.open(self.name, pin)


@pytest.mark.parametrize("name", JOURNEYS)
def test_the_door_opens_in_the_days_that_a_payload_tells_of_and_not_outside(
    stage: Stage, name: str
) -> None:
    journey = copy.deepcopy(JOURNEYS[name])
    clock, (check_in, check_out) = stage.clock, journey.window()
    with journey.sender.api(*filter(None, [journey.booking])) as api:
        clock.move_to(check_in - timedelta(days=3))
        play = Play(stage, journey, api if journey.booking else None)
        for payload in journey.told:
            play.post(payload)
        assert play.row() == ("confirmed", check_in, check_out)
        assert play.jobs() == {"generate_pin": check_in - LEAD, "revoke_pin": check_out}

        clock.move_to(check_in - LEAD - MOMENT)
        play.ring("generate")
        assert play.held() == []
        clock.move_to(check_in - LEAD)
        play.ring("generate")
        pin = play.pin()
        assert play.held() == [(pin, check_in, check_out)]
        assert not play.opens(pin)
        clock.move_to(check_in)
        assert play.opens(pin)
        if journey.meanwhile:
            play.post(*journey.meanwhile)
            play.ring("revoke")
            assert play.opens(pin)
        clock.move_to(check_out - MOMENT)
        assert play.opens(pin)

        if journey.cancel:
            play.post(*journey.cancel)
        else:
            clock.move_to(check_out)
            assert not play.opens(pin), "the lock itself knows the end"
        play.ring("revoke")
        assert play.held() == []
        assert not play.opens(pin)
