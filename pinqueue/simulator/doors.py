"""A door: one lock, the cloud's records about it, and how news travels between the two.

Time does its work when somebody looks: every look first settles what has fallen due by `now`,
stamped with the instant it fell due. So advancing the clock is enough, and nothing runs in the
background.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Final

from pinqueue.simulator.lock import Lock
from pinqueue.simulator.records import Operation, Record, Status, as_item
from pinqueue.simulator.replies import Refusal
from pinqueue.simulator.settings import Settings
from pinqueue.simulator.terms import Terms

ZIGBEE_ATTEMPTS: Final = 3


class Door(ABC):
    protocol: ClassVar[str]
    pin_length: ClassVar[int]
    not_found_code: ClassVar[int]
    category: ClassVar[str]
    can_freeze: ClassVar[bool] = False

    def __init__(self, device_id: str, name: str, settings: Settings) -> None:
        self.id = device_id
        self.name = name
        self.online = True
        self.asleep = False
        self.lock = Lock()
        self.records: dict[int, Record] = {}
        self.settings = settings

    @abstractmethod
    def settle(self, now: float) -> None:
        """Let everything happen that has fallen due by `now`."""

    def refuse_if_unreachable(self, operation: Operation) -> None:
        """2312, where this protocol needs the lock within reach to accept the operation."""
        if not self.online:
            raise Refusal(2312)

    def refuse_if_busy(self) -> None:
        if self.settings.one_at_a_time and any(r.ongoing for r in self.records.values()):
            raise Refusal(2328)

    def set_state(self, now: float, *, online: bool | None, asleep: bool | None) -> None:
        """What was due until now happens in the old state, the rest in the new one."""
        self.settle(now)
        self.online = self.online if online is None else online
        self.asleep = self.asleep if asleep is None else asleep
        self.settle(now)

    def create(self, password_id: int, terms: Terms, phone: str, now: float) -> Record:
        record = Record(password_id, terms, phone, started=now)
        self.records[password_id] = record
        self.settle(now)
        return record

    def begin(
        self, record: Record, operation: Operation, now: float, terms: Terms | None = None
    ) -> None:
        record.begin(operation, now, terms)
        self.settle(now)

    def delete(self, record: Record, now: float, *, record_only: bool = False) -> None:
        if record_only or record.never_delivered:
            record.begin(Operation.DELETE, now)
            record.finish(Status.SUCCESS)
        else:
            self.begin(record, Operation.DELETE, now)

    def synchronise(self, now: float) -> None:
        """Send again what the lock did not take."""
        for record in self.records.values():
            if record.status is Status.FAILED:
                record.begin(record.operation, now)
        self.settle(now)

    def items(self, now: float, *, live_only: bool) -> list[dict[str, object]]:
        return [self.item(r) for r in self.records.values() if not live_only or r.live(now)]

    def item(self, record: Record) -> dict[str, object]:
        return as_item(record, self.protocol, new_phases=self.settings.new_phases)

    def as_json(self) -> dict[str, object]:
        return {
            "id": self.id,
            "name": self.name,
            "protocol": self.protocol,
            "online": self.online,
            "asleep": self.asleep,
        }

    def _deliver(self, record: Record, at: float) -> None:
        """The lock takes the record's latest operation."""
        record.finish(Status.SUCCESS)
        if record.operation in (Operation.CREATE, Operation.MODIFY):
            self.lock.put(record.id, record.terms, at)
        elif record.operation is Operation.DELETE:
            self.lock.remove(record.id, at)
        else:
            self.lock.set_frozen(record.id, record.frozen)


class WifiDoor(Door):
    """Battery Wi-Fi: asleep, and pulls its list when it wakes. Until then a deleted PIN opens."""

    protocol = "wifi"
    pin_length = 7
    not_found_code = 2321
    category = "ms"

    def __init__(self, device_id: str, name: str, settings: Settings) -> None:
        super().__init__(device_id, name, settings)
        self.asleep = True

    def refuse_if_unreachable(self, operation: Operation) -> None:
        refuses = self.settings.wifi_refuses_offline and operation is Operation.CREATE
        if refuses and not self.online:
            raise Refusal(2312)

    def refuse_if_busy(self) -> None:
        """Never: operations queue up in the cloud until the lock asks."""

    def settle(self, now: float) -> None:
        if self.online and not self.asleep:
            self._pull(now)

    def _pull(self, now: float) -> None:
        for record in self.records.values():
            if record.ongoing and (
                record.operation is Operation.DELETE or record.terms.invalid_time > now
            ):
                self._deliver(record, now)
        listed = {record.id for record in self.records.values() if record.live(now)}
        for password_id in self.lock.held_ids():
            if password_id not in listed:
                self.lock.remove(password_id, now, ended_by="expired")


class ZigbeeDoor(Door):
    """Pushed through a gateway: offline means the gateway, asleep means that the lock is silent."""

    protocol = "zigbee"
    pin_length = 6
    not_found_code = 2310
    category = "jtmspro"
    can_freeze = True

    def __init__(self, device_id: str, name: str, settings: Settings) -> None:
        super().__init__(device_id, name, settings)
        self.refuses_with: int | None = None
        """The delivery_status the lock answers to the next create, in place of taking it."""

    def settle(self, now: float) -> None:
        for record in self.records.values():
            while record.ongoing and self._next_attempt(record) <= now:
                self._attempt(record, self._next_attempt(record))

    def _next_attempt(self, record: Record) -> float:
        return record.started + (record.attempts + 1) * self.settings.zigbee_seconds

    def _attempt(self, record: Record, at: float) -> None:
        record.attempts += 1
        reached = self.online and not self.asleep
        if reached and record.operation is Operation.CREATE and self.refuses_with is not None:
            record.failure, self.refuses_with = self.refuses_with, None
            record.finish(Status.FAILED)
        elif reached and self._overlaps(record):
            record.failure = 6
            record.finish(Status.FAILED)
        elif reached:
            self._deliver(record, at)
        elif record.attempts == ZIGBEE_ATTEMPTS:
            record.failure = 3
            record.finish(Status.FAILED)

    def _overlaps(self, record: Record) -> bool:
        news = record.operation in (Operation.CREATE, Operation.MODIFY)
        return (
            news
            and not self.settings.zigbee_overlaps
            and self.lock.holds_beside(record.id, record.terms)
        )


class BluetoothDoor(Door):
    """Behind a gateway, in windows of minutes. Online means that the window is open."""

    protocol = "bluetooth"
    pin_length = 6
    not_found_code = 2323
    category = "jtmsbh"

    def __init__(self, device_id: str, name: str, settings: Settings) -> None:
        super().__init__(device_id, name, settings)
        self._opened = 0.0

    def refuse_if_unreachable(self, operation: Operation) -> None:
        if not self.settings.bluetooth_accepts_closed:
            super().refuse_if_unreachable(operation)

    def set_state(self, now: float, *, online: bool | None, asleep: bool | None) -> None:
        self.settle(now)
        if online and not self.online:
            self._opened = now
        super().set_state(now, online=online, asleep=asleep)

    def settle(self, now: float) -> None:
        for record in self.records.values():
            if not record.ongoing:
                continue
            deadline = record.started + self.settings.bluetooth_gives_up_seconds
            due = max(record.started, self._opened) + self.settings.bluetooth_seconds
            # A removal is never given up: the guest would keep a PIN nobody remembers.
            gives_up = record.operation is not Operation.DELETE
            if self.online and due <= now and not (gives_up and due > deadline):
                self._deliver(record, due)
            elif gives_up and deadline <= now:
                record.finish(Status.FAILED)


MODELS: Final[dict[str, type[Door]]] = {
    model.protocol: model for model in (WifiDoor, ZigbeeDoor, BluetoothDoor)
}


def make_door(device_id: str, protocol: str, settings: Settings, name: str = "") -> Door:
    """ValueError for a protocol no lock speaks."""
    if protocol not in MODELS:
        raise ValueError(f"protocol {protocol!r} is none of: {', '.join(sorted(MODELS))}")
    return MODELS[protocol](device_id, name or device_id, settings)
