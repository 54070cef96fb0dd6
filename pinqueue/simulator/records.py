"""What the cloud writes down about a temporary password, and the phase it reports for it."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

from pinqueue.simulator.terms import Terms


class Operation(enum.Enum):
    CREATE = "create"
    MODIFY = "modify"
    FREEZE = "freeze"
    UNFREEZE = "unfreeze"
    DELETE = "delete"


class Status(enum.Enum):
    """How far the latest operation has come on its way to the lock."""

    ONGOING = 0
    SUCCESS = 1
    FAILED = 2


@dataclass
class Record:
    id: int
    terms: Terms
    phone: str = ""
    operation: Operation = Operation.CREATE
    status: Status = Status.ONGOING
    started: float = 0.0
    attempts: int = 0
    frozen: bool = False
    failure: int = 3
    """The Zigbee delivery_status of a failure: 3 failed, 4 duplicate, 5 full, 6 overlapping."""

    def begin(self, operation: Operation, now: float, terms: Terms | None = None) -> None:
        self.operation, self.status, self.started, self.attempts = operation, Status.ONGOING, now, 0
        if terms is not None:
            self.terms = terms

    def finish(self, status: Status) -> None:
        self.status = status
        if status is Status.SUCCESS and self.operation in (Operation.FREEZE, Operation.UNFREEZE):
            self.frozen = self.operation is Operation.FREEZE

    @property
    def ongoing(self) -> bool:
        return self.status is Status.ONGOING

    @property
    def gone(self) -> bool:
        """History: the lock has dropped it, as far as the cloud knows."""
        return self.operation is Operation.DELETE and self.status is Status.SUCCESS

    @property
    def being_deleted(self) -> bool:
        return self.operation is Operation.DELETE and self.ongoing

    @property
    def never_delivered(self) -> bool:
        return self.operation is Operation.CREATE and self.status is Status.FAILED

    def live(self, now: float) -> bool:
        return not self.gone and not self.never_delivered and self.terms.invalid_time > now


_O, _S, _F = Status.ONGOING, Status.SUCCESS, Status.FAILED
_CREATE, _MODIFY, _DELETE = Operation.CREATE, Operation.MODIFY, Operation.DELETE
_FREEZE, _UNFREEZE = Operation.FREEZE, Operation.UNFREEZE

PHASES: Final[dict[str, dict[tuple[Operation, Status], int]]] = {
    "wifi": {
        (_CREATE, _O): 1,
        (_CREATE, _S): 2,
        (_MODIFY, _O): 1,
        (_MODIFY, _S): 2,
        (_DELETE, _O): 3,
        (_DELETE, _S): 0,
    },
    "bluetooth": {
        (_CREATE, _O): 1,
        (_CREATE, _S): 2,
        (_CREATE, _F): 7,
        (_MODIFY, _O): 1,
        (_MODIFY, _S): 2,
        (_MODIFY, _F): 7,
        (_DELETE, _O): 3,
        (_DELETE, _S): 0,
    },
    # Zigbee has no phases for a change under way: delivery_status tells how far it has come.
    "zigbee": {
        (_CREATE, _O): 1,
        (_CREATE, _S): 2,
        (_CREATE, _F): 5,
        (_MODIFY, _O): 2,
        (_MODIFY, _S): 2,
        (_MODIFY, _F): 2,
        (_FREEZE, _O): 3,
        (_FREEZE, _S): 3,
        (_FREEZE, _F): 2,
        (_UNFREEZE, _O): 2,
        (_UNFREEZE, _S): 2,
        (_UNFREEZE, _F): 3,
        (_DELETE, _O): 4,
        (_DELETE, _S): 4,
        (_DELETE, _F): 2,
    },
}

NEW_PHASES: Final = {_CREATE: 11, _MODIFY: 14, _FREEZE: 14, _UNFREEZE: 14, _DELETE: 17}
"""The other set: ongoing is this figure, success one more, failure two more."""


def as_item(record: Record, protocol: str, *, new_phases: bool) -> dict[str, object]:
    """The record as a list shows it. The PIN is never in it."""
    if new_phases:
        phase = NEW_PHASES[record.operation] + record.status.value
    else:
        phase = PHASES[protocol][record.operation, record.status]
    item: dict[str, object] = {
        "id": record.id,
        "name": record.terms.name,
        "phase": phase,
        "effective_time": record.terms.effective_time,
        "invalid_time": record.terms.invalid_time,
        "phone": record.phone,
        "time_zone": record.terms.time_zone,
        "schedule_list": [
            {
                "effective_time": hours.from_minute,
                "invalid_time": hours.until_minute,
                "working_day": hours.weekdays,
            }
            for hours in record.terms.schedule
        ],
    }
    if protocol == "zigbee":
        item["delivery_status"] = {_O: 1, _S: 2, _F: record.failure}[record.status]
    return item
