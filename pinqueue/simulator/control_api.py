"""The unsigned control API under /_sim/: the view from the door, and the cloud's switches."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from pinqueue.simulator.doors import Door, ZigbeeDoor
from pinqueue.simulator.signed_api import Simulation

Endpoint = Callable[[Request], Awaitable[JSONResponse]]


class ControlApi:
    """Answers 400 for what it cannot read, 404 for a device that is not there, always as JSON."""

    def __init__(self, simulation: Simulation) -> None:
        self._cloud = simulation.cloud
        self._clock = simulation.clock
        self._faults = simulation.faults
        self._journal = simulation.journal

    def routes(self) -> list[Route]:
        listed: list[tuple[str, str, Endpoint]] = [
            ("GET", "/devices", self.list_devices),
            ("POST", "/devices", self.add_device),
            ("GET", "/devices/{id}/pins", self.pins),
            ("POST", "/devices/{id}/open", self.open),
            ("POST", "/devices/{id}/state", self.set_state),
            ("GET", "/ledger", self.ledger),
            ("GET", "/faults", self.list_faults),
            ("POST", "/faults", self.add_faults),
            ("DELETE", "/faults", self.clear_faults),
            ("GET", "/settings", self.get_settings),
            ("POST", "/settings", self.change_settings),
            ("POST", "/tokens/revoke", self.revoke_tokens),
            ("POST", "/tickets/expire", self.expire_tickets),
            ("GET", "/clock", self.get_clock),
            ("POST", "/clock", self.move_clock),
            ("GET", "/log", self.log),
            ("DELETE", "/log", self.clear_log),
        ]
        return [Route(path, endpoint, methods=[method]) for method, path, endpoint in listed]

    async def list_devices(self, request: Request) -> JSONResponse:
        return JSONResponse([door.as_json() for door in self._cloud.doors(self._clock.now())])

    async def add_device(self, request: Request) -> JSONResponse:
        wanted = await _body(request)
        try:
            door = self._cloud.add_door(
                _string(wanted, "id"), _string(wanted, "protocol"), str(wanted.get("name") or "")
            )
        except ValueError as error:
            raise HTTPException(400, str(error)) from error
        return JSONResponse(door.as_json(), 201)

    async def pins(self, request: Request) -> JSONResponse:
        return JSONResponse(self._door(request).lock.pins())

    async def open(self, request: Request) -> JSONResponse:
        digits = _string(await _body(request), "pin")
        door = self._door(request)
        return JSONResponse({"opened": door.lock.open(digits, self._clock.now())})

    async def set_state(self, request: Request) -> JSONResponse:
        """`online` and `asleep`; on Zigbee also `delivery_status`, what the next create gets."""
        wanted = await _body(request)
        door = self._door(request)
        refusal = wanted.get("delivery_status")
        if refusal is not None:
            if not isinstance(door, ZigbeeDoor) or refusal not in (3, 4, 5, 6):
                raise HTTPException(400, "delivery_status is 3, 4, 5 or 6, on a Zigbee lock")
            door.refuses_with = refusal
        door.set_state(
            self._clock.now(), online=_flag(wanted, "online"), asleep=_flag(wanted, "asleep")
        )
        return JSONResponse(door.as_json())

    async def ledger(self, request: Request) -> JSONResponse:
        wanted = request.query_params.get("device")
        return JSONResponse(
            [
                {"device": door.id} | entry.as_json()
                for door in self._cloud.doors(self._clock.now())
                if wanted in (None, door.id)
                for entry in door.lock.ledger
            ]
        )

    async def list_faults(self, request: Request) -> JSONResponse:
        return JSONResponse(self._faults.as_json())

    async def add_faults(self, request: Request) -> JSONResponse:
        try:
            fault = self._faults.add(await _body(request))
        except ValueError as error:
            raise HTTPException(400, str(error)) from error
        return JSONResponse(fault.as_json(), 201)

    async def clear_faults(self, request: Request) -> JSONResponse:
        self._faults.clear()
        return JSONResponse([])

    async def get_settings(self, request: Request) -> JSONResponse:
        return JSONResponse(self._cloud.settings.as_json())

    async def change_settings(self, request: Request) -> JSONResponse:
        wanted = await _body(request)
        # What fell due under the old settings happens under them.
        self._cloud.settle(self._clock.now())
        try:
            self._cloud.settings.update(wanted)
        except ValueError as error:
            raise HTTPException(400, str(error)) from error
        return JSONResponse(self._cloud.settings.as_json())

    async def revoke_tokens(self, request: Request) -> JSONResponse:
        self._cloud.tokens.revoke()
        return JSONResponse({"revoked": True})

    async def expire_tickets(self, request: Request) -> JSONResponse:
        self._cloud.expire_tickets()
        return JSONResponse({"expired": True})

    async def get_clock(self, request: Request) -> JSONResponse:
        return JSONResponse(self._clock.as_json())

    async def move_clock(self, request: Request) -> JSONResponse:
        wanted = await _body(request)
        try:
            if "set" in wanted:
                self._clock.set(datetime.fromisoformat(_string(wanted, "set")))
            else:
                self._clock.advance(float(wanted["advance_seconds"]))
        except (KeyError, TypeError, ValueError) as error:
            message = "the clock takes advance_seconds, or set with an instant and its offset"
            raise HTTPException(400, message) from error
        self._cloud.settle(self._clock.now())
        return JSONResponse(self._clock.as_json())

    async def log(self, request: Request) -> JSONResponse:
        return JSONResponse(self._journal.as_json(request.query_params.get("device")))

    async def clear_log(self, request: Request) -> JSONResponse:
        self._journal.clear()
        return JSONResponse([])

    def _door(self, request: Request) -> Door:
        device_id = request.path_params["id"]
        try:
            return self._cloud.door(device_id, self._clock.now())
        except KeyError:
            raise HTTPException(404, f"no device {device_id!r}") from None


async def explain(request: Request, error: Exception) -> JSONResponse:
    """An HTTPException as JSON."""
    if not isinstance(error, HTTPException):
        raise error
    return JSONResponse({"error": error.detail}, error.status_code)


async def _body(request: Request) -> dict[str, Any]:
    try:
        decoded = await request.json()
    except ValueError as error:
        raise HTTPException(400, "the body is not JSON") from error
    if not isinstance(decoded, dict):
        raise HTTPException(400, "the body is not a JSON object")
    return decoded


def _string(wanted: dict[str, Any], name: str) -> str:
    value = wanted.get(name)
    if not isinstance(value, str) or not value:
        raise HTTPException(400, f"{name!r} is a text")
    return value


def _flag(wanted: dict[str, Any], name: str) -> bool | None:
    value = wanted.get(name)
    if value is not None and not isinstance(value, bool):
        raise HTTPException(400, f"{name!r} is true or false")
    return value
