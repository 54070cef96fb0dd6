"""The signed API on the wire: every call logged, delayed, and broken on order."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass

from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from pinqueue.simulator.clock import Clock
from pinqueue.simulator.cloud import Call, Cloud
from pinqueue.simulator.faults import Fault, Faults
from pinqueue.simulator.journal import Entry, Journal, masked
from pinqueue.simulator.replies import Refusal, refused, succeeded
from pinqueue.simulator.terms import iso

BAD_GATEWAY = "<html><head><title>502 Bad Gateway</title></head><body>502 Bad Gateway</body></html>"


@dataclass(frozen=True)
class Simulation:
    cloud: Cloud
    clock: Clock
    faults: Faults
    journal: Journal


class SignedApi:
    """An ASGI app, because a Starlette endpoint cannot fall silent or drop the connection."""

    def __init__(self, simulation: Simulation) -> None:
        self._cloud = simulation.cloud
        self._clock = simulation.clock
        self._faults = simulation.faults
        self._journal = simulation.journal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        try:
            call = await _read_call(scope, receive)
        except ClientDisconnect:
            return
        entry = Entry(iso(self._clock.now()), call.method, masked(call.path), call.device_id)
        self._journal.add(entry)
        fault = self._faults.draw(call.method, call.raw_path, call.device_id)
        if latency_ms := self._cloud.settings.latency_ms:
            await asyncio.sleep(latency_ms / 1000)
        if fault is None:
            response: Response | None = self._answer(call, entry)
        else:
            entry.fault = fault.kind
            response = await self._strike(fault, call, entry, receive)
        entry.ms = round((time.perf_counter() - started) * 1000, 3)
        if response is None:
            await _drop(scope, receive)
        else:
            entry.status = response.status_code
            await response(scope, receive, send)

    def _answer(self, call: Call, entry: Entry) -> JSONResponse:
        now = self._clock.now()
        try:
            self._cloud.run_postponed(now)
            result = self._admit(call, entry, now)(now)
        except Refusal as refusal:
            return self._refuse(refusal, entry)
        return JSONResponse(succeeded(result, self._clock.real_ms()))

    def _admit(self, call: Call, entry: Entry, now: float) -> Callable[[float], object]:
        """What the call would do, with the log entry filled in once it is done."""
        work = self._cloud.admit(call, now, self._clock.real_ms())
        entry.api, entry.name, entry.password_id = work.api, work.name, work.password_id

        def perform(at: float) -> object:
            result = work.run(at)
            entry.performed = True
            if isinstance(result, dict) and isinstance(created := result.get("id"), int):
                entry.password_id = created
            return result

        return perform

    def _refuse(self, refusal: Refusal, entry: Entry) -> JSONResponse:
        entry.code = refusal.code
        return JSONResponse(refused(refusal, self._clock.real_ms()))

    async def _strike(
        self, fault: Fault, call: Call, entry: Entry, receive: Receive
    ) -> Response | None:
        """What the fault leaves of the answer; None where the connection drops."""
        match fault.kind:
            case "http_429":
                return Response(status_code=429, headers={"retry-after": f"{fault.seconds:.0f}"})
            case "http_500":
                return PlainTextResponse("Internal Server Error", 500)
            case "http_502_html":
                return HTMLResponse(BAD_GATEWAY, 502)
            case "empty":
                return Response(status_code=200)
            case "code":
                return self._refuse(Refusal(fault.code, fault.msg), entry)
            case "result_false":
                return JSONResponse(succeeded(False, self._clock.real_ms()))
            case "redirect":
                return Response(status_code=302, headers={"location": fault.location})
            case "slow":
                await asyncio.sleep(fault.seconds)
                return self._answer(call, entry)
            case "truncated":
                whole = bytes(self._answer(call, entry).body)
                return Response(whole[: len(whole) // 2], media_type="application/json")
            case "hang":
                await _stay_silent(receive, fault.seconds)
            case "reset_after":
                self._answer(call, entry)
            case "lost_answer":
                self._answer(call, entry)
                await _stay_silent(receive, fault.seconds)
            case "late_apply":
                self._postpone(fault, call, entry)
        return None

    def _postpone(self, fault: Fault, call: Call, entry: Entry) -> None:
        now = self._clock.now()
        self._cloud.run_postponed(now)
        try:
            perform = self._admit(call, entry, now)
        except Refusal as refusal:
            entry.code = refusal.code
        else:
            self._cloud.postpone(perform, now + fault.seconds)


async def _read_call(scope: Scope, receive: Receive) -> Call:
    request = Request(scope, receive)
    # The bytes of the request line, not the decoded path: what the client signed is what it sent.
    raw_path = scope["raw_path"].decode("ascii")
    if query := scope["query_string"].decode("ascii"):
        raw_path += "?" + query
    return Call(request.method, raw_path, await request.body(), request.headers)


async def _stay_silent(receive: Receive, seconds: float) -> None:
    """Until the time is up or the caller has hung up."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(_disconnect(receive), seconds)


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _drop(scope: Scope, receive: Receive) -> None:
    """Reset the connection (RST, not an orderly end), as a dying gateway does."""
    transport: asyncio.Transport = scope["state"]["transport"]
    if transport.is_closing():
        return  # the caller hung up first
    if (sock := transport.get_extra_info("socket")) is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
    await _disconnect(receive)
