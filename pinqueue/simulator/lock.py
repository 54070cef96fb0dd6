"""The lock on the door: the PINs *it* holds, which are not what the cloud says it holds."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import Final

from pinqueue.simulator.terms import Terms, iso

OFFLINE_UNUSED_SECONDS: Final = 24 * 3600
"""A time-limited offline password that was not used this long after its start is dead."""


@dataclass
class LedgerEntry:
    """One PIN, with one window, over the time the lock held it."""

    password_id: int | str
    terms: Terms
    held_from: float
    held_until: float | None = None
    ended_by: str | None = None
    """`changed`, `deleted`, `expired`, `used` or `cleared`; None while it is held."""

    def as_json(self) -> dict[str, object]:
        return {
            "id": self.password_id,
            "name": self.terms.name,
            "pin": self.terms.digits,
            "starts_at": iso(self.terms.effective_time),
            "ends_at": iso(self.terms.invalid_time),
            "held_from": iso(self.held_from),
            "held_until": None if self.held_until is None else iso(self.held_until),
            "ended_by": self.ended_by,
        }


@dataclass
class HeldPin:
    terms: Terms
    entry: LedgerEntry
    frozen: bool = False
    used_at: float | None = None


@dataclass(frozen=True)
class ClearingCode:
    """Digits that open nothing and, typed at the lock, make it forget offline passwords."""

    digits: str = field(repr=False)
    effective_time: int
    invalid_time: int
    password_id: str | None
    """The one it clears; None clears all."""


class Lock:
    """Opens by its own copy alone: it never asks the cloud at the moment somebody types."""

    def __init__(self) -> None:
        self.ledger: list[LedgerEntry] = []
        self._held: dict[int, HeldPin] = {}
        self._offline: dict[str, HeldPin] = {}
        self._clearing: list[ClearingCode] = []
        self._used_up: set[int] = set()

    def put(self, password_id: int, terms: Terms, at: float) -> None:
        """Take this PIN, or its new terms. A one-time PIN that was used does not come back."""
        held = self._held.get(password_id)
        if password_id in self._used_up or (held and held.terms == terms):
            return
        if held:
            self.remove(password_id, at, ended_by="changed")
        self._held[password_id] = HeldPin(terms, self._enter(password_id, terms, at))
        if held:
            self._held[password_id].frozen = held.frozen

    def remove(self, password_id: int, at: float, *, ended_by: str = "deleted") -> None:
        if held := self._held.pop(password_id, None):
            _close(held.entry, at, ended_by)

    def set_frozen(self, password_id: int, frozen: bool) -> None:
        if held := self._held.get(password_id):
            held.frozen = frozen

    def holds_beside(self, password_id: int, terms: Terms) -> bool:
        """Whether another PIN opens at some time at which these terms would."""
        return any(
            held.terms.effective_time < terms.invalid_time
            and terms.effective_time < held.terms.invalid_time
            for other, held in self._held.items()
            if other != password_id
        )

    def held_ids(self) -> list[int]:
        return list(self._held)

    def add_offline(self, password_id: str, terms: Terms, at: float) -> None:
        """An offline password: the lock computes it too, so it knows it without being told."""
        self._offline[password_id] = HeldPin(terms, self._enter(password_id, terms, at))

    def add_clearing_code(self, code: ClearingCode) -> None:
        self._clearing.append(code)

    def open(self, digits: str, now: float) -> bool:
        """Somebody types these digits."""
        for password_id, held in list(self._held.items()):
            if _same(held, digits) and not held.frozen and held.terms.grant(now):
                if held.terms.one_time:
                    self._used_up.add(password_id)
                    self.remove(password_id, now, ended_by="used")
                return True
        return self._open_offline(digits, now)

    def pins(self) -> list[dict[str, object]]:
        held = [(pin, False) for pin in self._held.values()]
        held += [(pin, True) for pin in self._offline.values()]
        return [
            pin.entry.as_json()
            | {"one_time": pin.terms.one_time, "frozen": pin.frozen, "offline": offline}
            for pin, offline in held
        ]

    def _open_offline(self, digits: str, now: float) -> bool:
        for code in self._clearing:
            if code.digits == digits and code.effective_time <= now < code.invalid_time:
                self._clear_offline(code.password_id, now)
                return False
        for password_id, held in list(self._offline.items()):
            if not (_same(held, digits) and held.terms.grant(now)):
                continue
            if held.used_at is None and now >= held.terms.effective_time + OFFLINE_UNUSED_SECONDS:
                continue
            held.used_at = now
            if held.terms.one_time:
                _close(self._offline.pop(password_id).entry, now, "used")
            return True
        return False

    def _clear_offline(self, password_id: str | None, now: float) -> None:
        for known in list(self._offline):
            if password_id in (None, known):
                _close(self._offline.pop(known).entry, now, "cleared")

    def _enter(self, password_id: int | str, terms: Terms, at: float) -> LedgerEntry:
        entry = LedgerEntry(password_id, terms, at)
        self.ledger.append(entry)
        return entry


def _same(held: HeldPin, digits: str) -> bool:
    return secrets.compare_digest(held.terms.digits.encode(), digits.encode())


def _close(entry: LedgerEntry, at: float, ended_by: str) -> None:
    entry.held_until, entry.ended_by = at, ended_by
