"""Faults on order: which calls they strike, how often, and what they do to them."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

KINDS: Final = {
    "http_429": "429 with `seconds` as Retry-After; nothing is done",
    "http_500": "500 with a plain text; nothing is done",
    "http_502_html": "502 with a gateway's HTML page; nothing is done",
    "empty": "200 with no body; nothing is done",
    "truncated": "done, and half of the JSON comes back",
    "hang": "nothing is done and nothing comes for `seconds`, then the connection drops",
    "slow": "done and answered, `seconds` late",
    "reset_before": "the connection is reset; nothing is done",
    "reset_after": "done, then the connection is reset without an answer",
    "lost_answer": "done, and no answer comes for `seconds`, then the connection drops",
    "late_apply": "the connection is reset at once, and it is done `seconds` later",
    "code": "the error reply `code` with `msg`; nothing is done",
    "result_false": "success true with result false; nothing is done",
    "redirect": "302 to `location`; nothing is done",
}


@dataclass
class Fault:
    kind: str
    method: str | None = None
    path: str | None = None
    device: str | None = None
    times: int | None = None
    after: int = 0
    probability: float = 1.0
    code: int = 500
    msg: str | None = None
    seconds: float = 60.0
    location: str = "http://127.0.0.1:9/"
    seed: int = 0
    struck: int = 0
    random: random.Random = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)  # noqa: S311  # each run strikes the same calls

    def matches(self, method: str, path: str, device: str | None) -> bool:
        return (
            self.method in (None, method)
            and (self.path is None or self.path in path)
            and self.device in (None, device)
        )

    def strikes(self) -> bool:
        """Whether a call that matches is struck; counts down."""
        if self.times is not None and self.struck >= self.times:
            return False
        if self.after > 0:
            self.after -= 1
            return False
        if self.random.random() >= self.probability:
            return False
        self.struck += 1
        return True

    def as_json(self) -> dict[str, object]:
        return {
            "fault": self.kind,
            "match": {"method": self.method, "path": self.path, "device": self.device},
            "times": self.times,
            "after": self.after,
            "probability": self.probability,
            "seconds": self.seconds,
            "struck": self.struck,
        }


class Faults:
    """In the order they were ordered; a call is struck by the first that wants it."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []

    def add(self, wanted: Mapping[str, object]) -> Fault:
        fault = read_fault(wanted)
        self._faults.append(fault)
        return fault

    def clear(self) -> None:
        self._faults.clear()

    def as_json(self) -> list[dict[str, object]]:
        return [fault.as_json() for fault in self._faults]

    def draw(self, method: str, path: str, device: str | None) -> Fault | None:
        for fault in self._faults:
            if fault.matches(method, path, device) and fault.strikes():
                return fault
        return None


_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "times": (int, type(None)),
    "after": (int,),
    "probability": (int, float),
    "code": (int,),
    "msg": (str, type(None)),
    "seconds": (int, float),
    "location": (str,),
    "seed": (int,),
}


def read_fault(wanted: Mapping[str, object]) -> Fault:
    """One fault from its JSON; ValueError says what is wrong with it.

    Without `times` it strikes once, or, where a `probability` is given, for as long as it is there.
    """
    kind = wanted.get("fault")
    if kind not in KINDS:
        raise ValueError(f"fault {kind!r} is none of: {', '.join(KINDS)}")
    match = wanted.get("match") or {}
    if not isinstance(match, dict) or set(match) - {"method", "path", "device"}:
        raise ValueError("match holds any of: method, path, device")
    if not all(isinstance(value, str) for value in match.values()):
        raise ValueError("match holds texts")
    fault = Fault(str(kind), match.get("method"), match.get("path"), match.get("device"))
    fault.times = None if "probability" in wanted else 1
    for name, value in wanted.items():
        if name in ("fault", "match"):
            continue
        if name not in _TYPES or isinstance(value, bool) or not isinstance(value, _TYPES[name]):
            raise ValueError(f"fault: {name!r} cannot be {value!r}")
        setattr(fault, name, value)
    fault.__post_init__()
    return fault
