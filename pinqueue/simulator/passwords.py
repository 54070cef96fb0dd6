"""The signed calls about one lock's temporary passwords."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

from pinqueue.simulator.doors import Door
from pinqueue.simulator.offline import issue_offline
from pinqueue.simulator.reading import read_terms
from pinqueue.simulator.records import Operation, Record
from pinqueue.simulator.replies import Refusal
from pinqueue.simulator.settings import Settings
from pinqueue.simulator.tickets import TicketOffice

Body = Mapping[str, object]


class Passwords:
    """Each call takes a door that is settled up to `now`."""

    def __init__(self, access_secret: str, settings: Settings) -> None:
        self._settings = settings
        self._tickets = TicketOffice(access_secret)
        # Above 2**31, so that an INT column breaks at the first password.
        self._ids = itertools.count(2**31 + 1001)

    def expire_tickets(self) -> None:
        self._tickets.expire()

    def ticket(self, door: Door, now: float) -> dict[str, object]:
        return self._tickets.issue(door.id, now)

    def create(self, door: Door, body: Body, now: float) -> dict[str, object]:
        terms = read_terms(body, door, self._tickets, self._settings, now)
        record = door.create(next(self._ids), terms, str(body.get("phone") or ""), now)
        return {"id": record.id}

    def list(self, door: Door, valid: str | None, now: float) -> list[dict[str, object]]:
        """`valid=true` lists the live ones; `false` and nothing list history too."""
        if valid not in (None, "true", "false"):
            raise Refusal(1109)
        return door.items(now, live_only=valid == "true")

    def get(self, door: Door, password_id: str) -> dict[str, object]:
        return door.item(_find(door, password_id))

    def modify(self, door: Door, password_id: str, body: Body, now: float) -> bool:
        record = _find(door, password_id)
        if record.frozen or not _changeable(record):
            raise Refusal(2324)
        terms = read_terms(body, door, self._tickets, self._settings, now, changing=record)
        # A change before the lock ever heard of the password is still its creation.
        first = record.operation is Operation.CREATE and record.ongoing
        door.begin(record, Operation.CREATE if first else Operation.MODIFY, now, terms)
        return True

    def freeze(self, door: Door, password_id: str, now: float, *, frozen: bool) -> bool:
        if not door.can_freeze:
            raise Refusal(2004)
        record = _find(door, password_id)
        if record.frozen == frozen or not _changeable(record):
            raise Refusal(2324)
        door.refuse_if_busy()
        operation = Operation.FREEZE if frozen else Operation.UNFREEZE
        door.refuse_if_unreachable(operation)
        door.begin(record, operation, now)
        return True

    def delete(self, door: Door, password_id: str, body: Body, now: float) -> bool:
        record = _find(door, password_id)
        if record.gone or record.being_deleted:
            if self._settings.delete_twice == 2324:
                raise Refusal(2324)
            return True
        record_only = door.protocol == "bluetooth" and body.get("bluetooth_symbolic") is False
        if not record_only:
            door.refuse_if_busy()
            door.refuse_if_unreachable(Operation.DELETE)
        door.delete(record, now, record_only=record_only)
        return True

    def delete_record(self, door: Door, password_id: str, now: float) -> bool:
        """Forget the history of a password that is no longer on the lock."""
        record = _find(door, password_id)
        if record.live(now) or (not record.gone and record.id in door.lock.held_ids()):
            raise Refusal(2324)
        del door.records[record.id]
        return True

    def clear(self, door: Door, now: float) -> bool:
        door.refuse_if_busy()
        door.refuse_if_unreachable(Operation.DELETE)
        for record in list(door.records.values()):
            if not record.gone and not record.being_deleted:
                door.delete(record, now)
        return True

    def synchronise(self, door: Door, now: float) -> bool:
        door.refuse_if_unreachable(Operation.MODIFY)
        door.synchronise(now)
        return True

    def issue_offline(self, door: Door, body: Body, now: float) -> dict[str, object]:
        return issue_offline(door, body, now)


def _find(door: Door, password_id: str) -> Record:
    """2321 on Wi-Fi, 2310 on Zigbee; for Bluetooth the neutral 2323 is our guess."""
    record = door.records.get(int(password_id))
    if record is None:
        raise Refusal(door.not_found_code)
    return record


def _changeable(record: Record) -> bool:
    return record.operation is not Operation.DELETE and not record.never_delivered
