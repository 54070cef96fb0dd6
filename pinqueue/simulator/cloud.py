"""The signed API: which calls there are, and everything checked before one is carried out."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl

from pinqueue.simulator.accounts import Allowance, Tokens
from pinqueue.simulator.doors import Door, make_door
from pinqueue.simulator.passwords import Passwords
from pinqueue.simulator.replies import Refusal
from pinqueue.simulator.settings import Settings
from pinqueue.simulator.signing import is_token_path, verify

DEVICE: Final = "/v1.0/devices/{device}"
DOOR_LOCK: Final = DEVICE + "/door-lock"
ONE: Final = DOOR_LOCK + "/temp-passwords/{password}"

ROUTES: Final = (
    ("GET", "/v1.0/token", "token"),
    ("GET", "/v1.0/token/{refresh}", "refresh"),
    ("GET", DEVICE, "device"),
    ("POST", DOOR_LOCK + "/password-ticket", "ticket"),
    ("POST", "/v1.0/smart-lock/devices/{device}/password-ticket", "ticket"),
    ("POST", DOOR_LOCK + "/temp-password", "create"),
    # Singular, as documented; the plural path of one password is for changing it.
    ("GET", DOOR_LOCK + "/temp-password/{password}", "get"),
    ("GET", DOOR_LOCK + "/temp-passwords", "list"),
    ("PUT", ONE + "/modify-password", "modify"),
    ("PUT", ONE + "/freeze-password", "freeze"),
    ("PUT", ONE + "/unfreeze-password", "unfreeze"),
    ("DELETE", ONE, "delete"),
    ("DELETE", ONE + "/record", "delete_record"),
    # The documentation writes `rest` in the path and `reset` in the sample: both are known in use.
    ("POST", DOOR_LOCK + "/temp-passwords/rest-password", "clear"),
    ("POST", DOOR_LOCK + "/temp-passwords/reset-password", "clear"),
    ("POST", DOOR_LOCK + "/issue-password", "synchronise"),
    ("POST", "/v1.1/devices/{device}/door-lock/offline-temp-password", "issue_offline"),
)

_GROUPS: Final = {
    "{device}": r"(?P<device>[^/]+)",
    "{password}": r"(?P<password>\d+)",
    "{refresh}": r"(?P<refresh>[^/]+)",
}
_PATTERNS: Final = [
    (
        method,
        re.compile(re.sub(r"\{\w+\}", lambda m: _GROUPS[m[0]], path)),
        f"{method} {path}",
        name,
    )
    for method, path, name in ROUTES
]
_DEVICE_PATH: Final = re.compile(r"/v\d\.\d/(?:smart-lock/)?devices/([^/]+)")


@dataclass(frozen=True)
class Call:
    """One HTTP request as it came. Header names are lower case."""

    method: str
    raw_path: str
    body: bytes
    headers: Mapping[str, str] = field(repr=False)

    @property
    def path(self) -> str:
        return self.raw_path.partition("?")[0]

    @property
    def device_id(self) -> str | None:
        found = _DEVICE_PATH.match(self.path)
        return found[1] if found else None


@dataclass(frozen=True)
class Work:
    """A call that has passed every check but its own: what it would do, not done yet."""

    api: str
    password_id: int | None
    name: str | None
    run: Callable[[float], object]


class Cloud:
    def __init__(self, access_id: str, access_secret: str) -> None:
        if len(access_secret) != 32 or not access_secret.isascii():
            raise ValueError("the access secret is 32 ASCII characters: it is an AES-256 key")
        self.settings = Settings()
        self.tokens = Tokens(self.settings)
        self._access_id = access_id
        self._secret = access_secret
        self._allowance = Allowance(self.settings)
        self._passwords = Passwords(access_secret, self.settings)
        self._doors: dict[str, Door] = {}
        self._postponed: list[tuple[float, Callable[[float], object]]] = []

    def expire_tickets(self) -> None:
        self._passwords.expire_tickets()

    def add_door(self, device_id: str, protocol: str, name: str = "") -> Door:
        """ValueError where the id is taken or the protocol unknown."""
        if device_id in self._doors:
            raise ValueError(f"there is a device {device_id!r} already")
        door = make_door(device_id, protocol, self.settings, name)
        self._doors[device_id] = door
        return door

    def door(self, device_id: str, now: float) -> Door:
        """The door as it stands at `now`. KeyError where there is none."""
        self.run_postponed(now)
        door = self._doors[device_id]
        door.settle(now)
        return door

    def doors(self, now: float) -> list[Door]:
        self.settle(now)
        return list(self._doors.values())

    def settle(self, now: float) -> None:
        """Let everything happen, at every door, that has fallen due by `now`."""
        self.run_postponed(now)
        for door in self._doors.values():
            door.settle(now)

    def run_postponed(self, now: float) -> None:
        if not self._postponed:
            return
        due = sorted((p for p in self._postponed if p[0] <= now), key=lambda p: p[0])
        self._postponed = [p for p in self._postponed if p[0] > now]
        for at, perform in due:
            try:
                perform(at)
            except Refusal:
                continue  # nobody is left to be told

    def postpone(self, perform: Callable[[float], object], until: float) -> None:
        """Carry out a call later, after its caller was told nothing."""
        self._postponed.append((until, perform))

    def admit(self, call: Call, now: float, real_ms: int) -> Work:
        """Every check in the documented order, up to the path and a readable body.

        `real_ms` is the true time: the product under test keeps its own clock, so only doors,
        tickets, tokens and quotas follow the simulated one.
        """
        verify(
            self._access_id,
            self._secret,
            call.method,
            call.raw_path,
            call.body,
            call.headers,
            now_ms=real_ms,
        )
        free = is_token_path(call.path)
        if not free:
            self.tokens.check(call.headers.get("access_token"), now)
        api, name, groups = _route(call)
        self._allowance.spend(api, now, metered=not free)
        if not free and call.device_id not in self._doors:
            raise Refusal(1106)
        if not name:
            raise Refusal(1108)
        query = dict(parse_qsl(call.raw_path.partition("?")[2], keep_blank_values=True))
        body = _json_object(call.body)
        password, password_name = groups.get("password"), body.get("name")
        return Work(
            api,
            None if password is None else int(password),
            password_name if isinstance(password_name, str) else None,
            lambda at: self._perform(name, groups, query, body, at),
        )

    def _perform(
        self,
        name: str,
        groups: dict[str, str],
        query: dict[str, str],
        body: dict[str, object],
        now: float,
    ) -> object:
        if name == "token":
            if query.get("grant_type") != "1":
                raise Refusal(1003)
            return self.tokens.issue(now)
        if name == "refresh":
            return self.tokens.refresh(groups["refresh"], now)
        door = self._doors[groups["device"]]
        door.settle(now)
        passwords, password = self._passwords, groups.get("password", "")
        calls: dict[str, Callable[[], object]] = {
            "device": lambda: _device(door),
            "ticket": lambda: passwords.ticket(door, now),
            "create": lambda: passwords.create(door, body, now),
            "get": lambda: passwords.get(door, password),
            "list": lambda: passwords.list(door, query.get("valid"), now),
            "modify": lambda: passwords.modify(door, password, body, now),
            "freeze": lambda: passwords.freeze(door, password, now, frozen=True),
            "unfreeze": lambda: passwords.freeze(door, password, now, frozen=False),
            "delete": lambda: passwords.delete(door, password, body, now),
            "delete_record": lambda: passwords.delete_record(door, password, now),
            "clear": lambda: passwords.clear(door, now),
            "synchronise": lambda: passwords.synchronise(door, now),
            "issue_offline": lambda: passwords.issue_offline(door, body, now),
        }
        return calls[name]()


def _route(call: Call) -> tuple[str, str, dict[str, str]]:
    """The API, the name of its handler (empty where there is none), and what its path says."""
    for method, pattern, api, name in _PATTERNS:
        if call.method == method and (found := pattern.fullmatch(call.path)):
            return api, name, found.groupdict()
    return "unknown", "", {}


def _json_object(body: bytes) -> dict[str, object]:
    if not body:
        return {}
    try:
        decoded = json.loads(body)
    except ValueError:
        raise Refusal(1109) from None
    if not isinstance(decoded, dict):
        raise Refusal(1109)
    return decoded


def _device(door: Door) -> dict[str, object]:
    return {
        "id": door.id,
        "uuid": door.id,
        "uid": "bay0000000000000sim",
        "name": door.name,
        "online": door.online,
        "category": door.category,
        "sub": door.protocol != "wifi",
        "time_zone": "+00:00",
        "product_id": f"sim-{door.protocol}",
        "product_name": f"Simulated {door.protocol} lock",
    }
