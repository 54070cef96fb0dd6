"""What strikes our processes' servers and the ways to them: an outage, a failover, a full disk,
networks that fall silent. What they need is made only where they are asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from pinqueue.bench.chaos.disk import FULL_DISK
from pinqueue.bench.chaos.failover import Pair
from pinqueue.bench.chaos.havoc import Havoc, Strikes
from pinqueue.bench.chaos.roads import Road, Roads
from pinqueue.processes import finished

FAILOVER, SILENT_DATABASE, SILENT_CLOUD = "failover", "silence-database", "silence-cloud"
AWAY = (60.0, 75.0)
"""Seconds of an outage: longer than anybody's patience for a connection."""
FULL = (2.0, 15.0)
"""Seconds without room for a byte."""
SILENT = (1.0, 20.0)
"""Seconds for which new connections are lost too; those that were open stay so for ever."""


def roads(chosen: Sequence[str]) -> Roads:
    """Those that these faults need."""
    servers = 2 if FAILOVER in chosen else 1
    return Roads(
        database=[Road() for _ in range(servers)] if SILENT_DATABASE in chosen else [],
        cloud=[Road()] if SILENT_CLOUD in chosen else [],
    )


async def outage(havoc: Havoc) -> None:
    await finished(havoc.ground.server.stop)
    await asyncio.sleep(havoc.random.uniform(*AWAY))
    await finished(havoc.ground.server.start)


async def fail_over(havoc: Havoc) -> None:
    pair = havoc.ground.server
    assert isinstance(pair, Pair)  # noqa: S101  # made where this fault is among the chosen
    await finished(pair.prepare)
    await finished(pair.fail_over)


async def fill_disk(havoc: Havoc) -> None:
    """Where a server dies of that, it is started again when there is room, as by its service
    manager."""
    disk, server = havoc.disk, havoc.ground.server
    assert disk is not None  # noqa: S101  # made where this fault is among the chosen
    await finished(disk.fill)
    await asyncio.sleep(havoc.random.uniform(*FULL))
    await finished(disk.make_room)
    while not (server.alive() and await havoc.reached()):
        if not server.alive():
            await finished(server.stop)
            await finished(server.start)


async def silence_database(havoc: Havoc) -> None:
    await _silence(havoc, havoc.roads.database)


async def silence_cloud(havoc: Havoc) -> None:
    await _silence(havoc, havoc.roads.cloud)


async def _silence(havoc: Havoc, roads: Sequence[Road]) -> None:
    for road in roads:
        road.fall_silent()
    await asyncio.sleep(havoc.random.uniform(*SILENT))
    for road in roads:
        road.speak()


LINKS: Strikes = {
    "outage": outage,
    FAILOVER: fail_over,
    FULL_DISK: fill_disk,
    SILENT_DATABASE: silence_database,
    SILENT_CLOUD: silence_cloud,
}
