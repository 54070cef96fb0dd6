"""A device of set latency, and the real worker before it, as a process of its own.

The peer's device is a wait in its worker's process, so ours is too: behind the port that every lock
is behind, each create and each delete takes that long, and a look at what is there takes no time.
What is measured is the way to the door, not an HTTP client.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence
from itertools import count

import uvloop

from pinqueue import garbage, logs, worker
from pinqueue.config import read_settings
from pinqueue.locks import Delivery, Door, RemotePin, Window
from pinqueue.pins import Pin

MOST_LOCKS = 1000
"""That it remembers: of its memory it is the worker's that is measured."""


class Device:
    """`LockGateway` of any number of locks that take what they are sent."""

    def __init__(self, latency: float) -> None:
        """`latency` in seconds."""
        self._latency = latency
        self._ids = count(1)
        self._pins: dict[str, dict[int, RemotePin]] = {}

    async def list_pins(self, door: Door) -> Sequence[RemotePin]:
        return list(self._pins.get(door.device_id, {}).values())

    async def create_pin(self, door: Door, name: str, pin: Pin, window: Window) -> int:
        await self._take_time()
        id_ = next(self._ids)
        self._keep(door, RemotePin(id_, name, window, Delivery.ON_DOOR))
        return id_

    async def change_pin(
        self, door: Door, remote_id: int, name: str, pin: Pin, window: Window
    ) -> None:
        await self._take_time()
        self._keep(door, RemotePin(remote_id, name, window, Delivery.ON_DOOR))

    async def delete_pin(self, door: Door, remote_id: int) -> None:
        await self._take_time()
        self._pins.get(door.device_id, {}).pop(remote_id, None)

    async def close(self) -> None: ...

    def _keep(self, door: Door, pin: RemotePin) -> None:
        self._pins.setdefault(door.device_id, {})[pin.remote_id] = pin
        if len(self._pins) > MOST_LOCKS:
            del self._pins[next(iter(self._pins))]

    async def _take_time(self) -> None:
        if self._latency:
            await asyncio.sleep(self._latency)


def main() -> None:
    """`python -m pinqueue.bench.device`: `pinqueue worker`, with this device for its lock cloud."""
    garbage.look_hardly()
    parser = argparse.ArgumentParser()
    parser.add_argument("--concurrency", type=int, required=True)
    parser.add_argument("--device-ms", type=float, required=True)
    asked = parser.parse_args()
    logs.set_up()
    garbage.look_seldom()
    uvloop.run(
        worker.run(
            read_settings(),
            Device(asked.device_ms / 1000),
            concurrency=asked.concurrency,
            queues=("generate_pin", "revoke_pin"),
        )
    )


if __name__ == "__main__":
    main()
