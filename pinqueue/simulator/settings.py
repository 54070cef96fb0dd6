"""The switches: what the real cloud or lock is known, or suspected, to do in more than one way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import ClassVar


@dataclass
class Settings:
    latency_ms: float = 0
    """Added to every signed call, before it is looked at."""

    token_code: int = 1010
    """Answered for a token that is not, or no longer, alive."""
    token_text: str | None = None
    """Its message; None says `token is expired` or `token invalid` by what happened."""
    single_use_tickets: bool = False
    rate_per_second: int | None = None
    """Calls of one API in one second, for the whole project; None is without limit."""
    rate_code: int = 1199
    monthly_quota: int | None = None
    """Calls in a calendar month (UTC, simulated clock), token calls not counted; then 28841004."""
    subscription_code: int | None = None
    """Answered to every call but token calls while the operator has not renewed."""

    new_phases: bool = False
    """Report 11..19 instead of the phases each protocol has of its own."""
    delete_twice: bool | int = True
    """What deleting a deleted password answers: `true`, or the code 2324."""
    deleted_names_taken: bool = False
    """Whether the name of a deleted password stays taken (2316)."""
    max_live: int = 10
    one_at_a_time: bool = True
    """2328 while a Zigbee or Bluetooth lock is still being told of the operation before."""
    wifi_refuses_offline: bool = False
    """As camera locks do: 2312 for a create while the lock has no network."""
    past_starts: bool = True
    """Whether a window may begin in the past, as is seen; where not, 2318, as is documented."""
    zigbee_seconds: float = 1.0
    """One attempt of the gateway to reach a Zigbee lock; it makes three."""
    zigbee_overlaps: bool = True
    """Whether a Zigbee lock takes PINs whose windows overlap; where not, delivery_status 6."""
    bluetooth_seconds: float = 1.0
    bluetooth_accepts_closed: bool = False
    """Accept while the window is closed, deliver when it opens, instead of 2312."""
    bluetooth_gives_up_seconds: float = 3600.0
    """How long an undelivered create or modify waits for a window before phase 7."""

    CHOICES: ClassVar[dict[str, tuple[object, ...]]] = {
        "token_code": (1010, 1011, 1012, 1400),
        "token_text": (None, "token invalid", "token is expired"),
        "rate_code": (1199, 1110, 1111, 1113),
        "subscription_code": (None, 28841001, 28841002, 28841004, 28841101, 28841105, 28841106),
        "delete_twice": (True, 2324),
    }
    NULLABLE: ClassVar[frozenset[str]] = frozenset({"rate_per_second", "monthly_quota"})

    def update(self, changes: Mapping[str, object]) -> None:
        """All of the changes or none: ValueError names what is wrong."""
        known = {field.name for field in fields(self)}
        for name, value in changes.items():
            if name not in known:
                raise ValueError(f"no setting {name!r}; there are: {', '.join(sorted(known))}")
            if not self._allows(name, value):
                raise ValueError(f"setting {name!r} cannot be {value!r}")
        for name, value in changes.items():
            setattr(self, name, value)

    def as_json(self) -> dict[str, object]:
        return asdict(self)

    def _allows(self, name: str, value: object) -> bool:
        if name in self.CHOICES:
            return value in self.CHOICES[name]
        if value is None:
            return name in self.NULLABLE
        if isinstance(getattr(self, name), bool):
            return isinstance(value, bool)
        return isinstance(value, int | float) and not isinstance(value, bool) and value >= 0
