"""The whole simulator as one Starlette app: control API under /_sim/, signed API elsewhere."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import Mount

from pinqueue.simulator.clock import Clock
from pinqueue.simulator.cloud import Cloud
from pinqueue.simulator.control_api import ControlApi, explain
from pinqueue.simulator.faults import Faults
from pinqueue.simulator.journal import Journal
from pinqueue.simulator.signed_api import SignedApi, Simulation

ACCESS_ID: Final = "simulatedaccessid000"
ACCESS_SECRET: Final = "0123456789abcdef0123456789abcdef"  # noqa: S105  # known to all
"""Published on purpose: they open nothing but simulated doors."""

DEFAULT_DEVICES: Final = (
    ("sim-wifi-1", "wifi"),
    ("sim-zigbee-1", "zigbee"),
    ("sim-zigbee-2", "zigbee"),
    ("sim-bluetooth-1", "bluetooth"),
)


def create_app(
    access_id: str = ACCESS_ID,
    access_secret: str = ACCESS_SECRET,
    devices: Iterable[tuple[str, str]] = DEFAULT_DEVICES,
) -> Starlette:
    """`devices` are pairs of device id and protocol. Faults that drop connections need `serve`."""
    cloud = Cloud(access_id, access_secret)
    for device_id, protocol in devices:
        cloud.add_door(device_id, protocol)
    simulation = Simulation(cloud, Clock(), Faults(), Journal())
    return Starlette(
        routes=[
            Mount("/_sim", routes=ControlApi(simulation).routes()),
            Mount("/", app=SignedApi(simulation)),
        ],
        exception_handlers={HTTPException: explain},
    )
