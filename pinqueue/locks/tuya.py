"""ADAPTER: the lock port in Tuya's words - temporary passwords, tickets, phases."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from pinqueue.errors import LockBusy, LockError, LockFaulted, LockRefused
from pinqueue.locks import Door, RemotePin, Window
from pinqueue.locks.tuya_cloud import TuyaCloud
from pinqueue.locks.tuya_errors import GONE
from pinqueue.locks.tuya_phases import read_delivery
from pinqueue.locks.tuya_signing import open_ticket, seal_pin
from pinqueue.metrics import Metrics
from pinqueue.pins import Pin

LONGEST_NAME: Final = 20
"""Characters, ASCII: Tuya's app refuses longer names, and its cloud is said to refuse others."""
_TICKET_MARGIN = 10
"""Seconds. Tuya hands out a living ticket again with what is left of it (47 of 360 were seen). One
that dies on the way looks like a PIN that cannot be decrypted, which is a refusal for good."""
_MILLISECONDS_FROM = 10**11
"""As seconds this lies in the year 5138: a larger figure is milliseconds, as some calls give it."""


class TuyaGateway:
    """`LockGateway` for the locks of one Tuya project. One event loop, any number of calls."""

    def __init__(
        self,
        *,
        region: str,
        access_id: str,
        access_secret: str,
        url: str | None = None,
        ca: str | None = None,
        concurrency: int = 5,
        timeout: float = 10.0,
        metrics: Metrics | None = None,
    ) -> None:
        """`timeout` in seconds bounds each method as a whole. No network yet."""
        self._secret = access_secret
        self._cloud = TuyaCloud(
            region=region,
            access_id=access_id,
            access_secret=access_secret,
            url=url,
            ca=ca,
            concurrency=concurrency,
            timeout=timeout,
            metrics=metrics,
        )

    async def list_pins(self, door: Door) -> Sequence[RemotePin]:
        # Without `valid`, which would hide the PINs that are being removed and may still open.
        with self._cloud.metered("list"):
            result = await self._cloud.call("GET", _path(door, "temp-passwords"))
            return [_remote_pin(item, door.protocol) for item in _items(result)]

    async def create_pin(self, door: Door, name: str, pin: Pin, window: Window) -> int:
        deadline = self._cloud.deadline()
        grant = await self._grant(door, name, pin, window, deadline)
        path = _path(door, "temp-password")
        with self._cloud.metered("create"):
            result = await self._cloud.call("POST", path, grant, writes=True, deadline=deadline)
            remote_id = _whole(result.get("id")) if isinstance(result, dict) else None
            if remote_id is None:
                raise LockFaulted("Tuya accepted a PIN without giving its id", in_doubt=True)
            return remote_id

    async def change_pin(
        self, door: Door, remote_id: int, name: str, pin: Pin, window: Window
    ) -> None:
        deadline = self._cloud.deadline()
        grant = await self._grant(door, name, pin, window, deadline)
        path = _path(door, f"temp-passwords/{remote_id}/modify-password")
        with self._cloud.metered("change"):
            result = await self._cloud.call("PUT", path, grant, writes=True, deadline=deadline)
            _must_be_true(result, "change")

    async def delete_pin(self, door: Door, remote_id: int) -> None:
        # For Bluetooth Tuya distinguishes the lock from the record of it: false would delete only
        # the record, and the PIN would go on opening.
        body = {"bluetooth_symbolic": True} if door.protocol == "bluetooth" else None
        path = _path(door, f"temp-passwords/{remote_id}")
        with self._cloud.metered("delete"):
            try:
                result = await self._cloud.call("DELETE", path, body, writes=True)
            except LockError as error:
                if error.code not in GONE:
                    raise
            else:
                _must_be_true(result, "remove")

    async def close(self) -> None:
        await self._cloud.close()

    async def _grant(
        self, door: Door, name: str, pin: Pin, window: Window, deadline: float
    ) -> dict[str, object]:
        """The body of a create or change, under a ticket of its own: one is said to work once."""
        _check_name(name)
        ticket = await self._ticket(door, deadline)
        return {
            "name": name,
            "password": seal_pin(pin.digits(), self._session_key(ticket)),
            "password_type": "ticket",
            "ticket_id": ticket.id,
            "effective_time": _epoch(window.starts_at),
            "invalid_time": _epoch(window.ends_at),
        }

    async def _ticket(self, door: Door, deadline: float) -> _Ticket:
        with self._cloud.metered("ticket"):
            result = await self._cloud.call(
                "POST", _path(door, "password-ticket"), deadline=deadline
            )
            ticket = _Ticket.read(result)
            if ticket.seconds_left < _TICKET_MARGIN:
                raise LockBusy(
                    "Tuya's ticket is about to expire, and the next one comes only after it",
                    retry_after=ticket.seconds_left + 1,
                )
            return ticket

    def _session_key(self, ticket: _Ticket) -> bytes:
        try:
            return open_ticket(ticket.key, self._secret)
        except ValueError:
            raise LockRefused(
                "Tuya's ticket does not open with this access secret:"
                " check PINQUEUE_TUYA_ACCESS_SECRET against the project at Tuya"
            ) from None


@dataclass(frozen=True)
class _Ticket:
    id: str
    key: str = field(repr=False)
    seconds_left: int

    @classmethod
    def read(cls, result: object) -> _Ticket:
        answer = result if isinstance(result, dict) else {}
        id_, key, seconds = (answer.get(k) for k in ("ticket_id", "ticket_key", "expire_time"))
        if not (isinstance(id_, str) and isinstance(key, str) and _HEX_64.fullmatch(key)):
            raise LockFaulted("Tuya's answer to the request for a ticket holds none")
        seconds_left = _whole(seconds)
        return cls(id_, key, _TICKET_MARGIN if seconds_left is None else seconds_left)


_HEX_64 = re.compile(r"[0-9A-Fa-f]{64}")
_DEVICE_ID = re.compile(r"[0-9A-Za-z_-]{1,64}")


def _path(door: Door, rest: str) -> str:
    # A slip of the keyboard in a device id must not become another call.
    if not _DEVICE_ID.fullmatch(door.device_id):
        raise LockRefused(f"{door.device_id!r} is not a Tuya device id: letters and digits only")
    return f"/v1.0/devices/{door.device_id}/door-lock/{rest}"


def _check_name(name: str) -> None:
    if not (0 < len(name) <= LONGEST_NAME and name.isascii() and name.isprintable()):
        raise LockRefused(f"a PIN's name must be 1 to {LONGEST_NAME} printable ASCII characters")


def _epoch(at: datetime) -> int:
    if at.tzinfo is None:
        raise ValueError(
            "a window is given in aware UTC: a naive time would shift with the machine"
        )
    return int(at.timestamp())


def _must_be_true(result: object, verb: str) -> None:
    # `success: true, result: false` occurs: the cloud took the request and the lock did not.
    if result is not True:
        raise LockFaulted(f"Tuya took the request to {verb} a PIN but did not do it", in_doubt=True)


def _items(result: object) -> list[object]:
    """The listed PINs. An answer that is strange or partial must never pass for an empty lock."""
    if isinstance(result, dict):
        items = result.get("list")
        more = result.get("has_more") or result.get("total", len(items or ())) != len(items or ())
    else:
        items, more = result, False
    if not isinstance(items, list) or more:
        raise LockFaulted("Tuya's list of PINs cannot be read whole")
    return items


def _remote_pin(item: object, protocol: str) -> RemotePin:
    if not isinstance(item, dict):
        raise LockFaulted("Tuya's list of PINs holds something that is not one")
    remote_id = _whole(item.get("id", item.get("password_id")))
    starts_at, ends_at = _instant(item.get("effective_time")), _instant(item.get("invalid_time"))
    if remote_id is None or starts_at is None or ends_at is None:
        raise LockFaulted("Tuya's list of PINs holds one without id or window")
    delivery, reason = read_delivery(
        protocol, _whole(item.get("phase")), _whole(item.get("delivery_status"))
    )
    name = str(item.get("name") or "")
    return RemotePin(remote_id, name, Window(starts_at, ends_at), delivery, reason)


def _whole(value: object) -> int | None:
    """A whole number, also where it comes as text; `True` is none."""
    if isinstance(value, str) and value.isascii() and value.isdecimal():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _instant(value: object) -> datetime | None:
    seconds = _whole(value)
    if seconds is None:
        return None
    if seconds >= _MILLISECONDS_FROM:
        seconds //= 1000
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return None
