"""`pinqueue bench chaos`: guests come and go while everything breaks, and then three ledgers are
compared. The same seed strikes the same way in the same order."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import func, insert, update
from standardwebhooks import Webhook

from pinqueue import inventory, jobs
from pinqueue.bench.chaos.disk import FULL_DISK, no_disk, small_disk
from pinqueue.bench.chaos.failover import Pair
from pinqueue.bench.chaos.guests import SOURCE, Guests
from pinqueue.bench.chaos.havoc import AT_ONCE, FAULTS, GRACE, KILL_WEB, LATEST, Havoc
from pinqueue.bench.chaos.ledgers import compare, left_behind, look_for_parts
from pinqueue.bench.chaos.lies import LIES
from pinqueue.bench.chaos.links import FAILOVER, LINKS, roads
from pinqueue.bench.chaos.rig import JUMP_CLOCK, Rig, no_clocks
from pinqueue.bench.ground import Deployment, ground
from pinqueue.embedded import EmbeddedPostgres
from pinqueue.errors import DatabaseUnavailable, InputInvalid
from pinqueue.models import Listing, ListingLock, Lock
from pinqueue.processes import answering, free_port
from pinqueue.simulator import Control

STRIKES = {**FAULTS, **LINKS, **LIES}
WEBS, WORKERS, DOORS = 3, 4, 20
ARRIVE_EVERY = 0.25
BETWEEN = (0.0, 0.3)
"""Seconds from the first sign of work after a strike to the next strike."""
LOOK_EVERY = 1.0
WORK_WITHIN = 30.0
SETTLE_WITHIN = 240.0
"""Seconds after the last strike in which everything that was asked for has to be done."""
SETTINGS = {
    "PINQUEUE_TUYA_GRACE": f"{GRACE:.0f}s",
    "PINQUEUE_SOURCE_RATE": "100000",
    "PINQUEUE_PATROL_EVERY": "15s",
}
BEGUN = "SELECT count(*) FROM tries"
DONE = "SELECT count(*) FROM operations WHERE state = 'completed'"
NOT_DONE = "SELECT count(*) FROM access_codes WHERE state NOT IN ('revoked', 'cancelled')"


async def run(
    *,
    faults: Sequence[str],
    strikes: int,
    seed: int,
    tell: Callable[[str], None],
    beside: Path | None = None,
) -> dict[str, Any]:
    """Strike so often, each time with one of these faults (all that can be done here where none is
    named), and tell what became of the guests. `beside` is a checkout of another version, which
    takes our place and leaves it again with each `deploy`. Raises InputInvalid."""
    chosen = _chosen(faults, tell)
    async with AsyncExitStack() as stack:
        server = Pair if FAILOVER in chosen else EmbeddedPostgres
        disk = stack.enter_context(small_disk()) if FULL_DISK in chosen else None
        data = disk.folder / "data" if disk else None
        place = await stack.enter_async_context(ground(None, tell, server, data))
        by = await stack.enter_async_context(roads(chosen))
        deployment = await stack.enter_async_context(place.deployment(SETTINGS, by.lead))
        rig = Rig(place.folder / "rig", chosen, beside)
        tell(f"{strikes} strikes of {', '.join(chosen)}, seed {seed}")
        async with _house(deployment, rig) as (guests, control, webs, workers):
            dice = random.Random(seed)  # noqa: S311  # to be thrown alike again
            doors = guests.listings
            havoc = Havoc(place, deployment, control, webs, workers, doors, dice, rig, by, disk)
            havoc.make_cloud_lie(seed)
            by_hand, in_part = await _strike(deployment, guests, havoc, chosen, strikes, tell)
            verdict = await compare(deployment, control, guests, havoc.over, in_part)
        await by.close()
        left = await left_behind(deployment)
    return {
        "seed": seed,
        "struck": havoc.struck,
        "guests": len(guests.taken),
        "retried_by_hand": by_hand,
        **verdict.as_json(),
        **left,
        "holds": verdict.holds and not any(left.values()),
    }


def _chosen(faults: Sequence[str], tell: Callable[[str], None]) -> list[str]:
    """Those that are named, or all; raises InputInvalid where one is unknown or cannot be done."""
    unable = {JUMP_CLOCK: no_clocks(), FULL_DISK: no_disk()}
    for fault in faults:
        if fault not in STRIKES:
            raise InputInvalid("fault", f"must be one of {', '.join(STRIKES)}, not {fault!r}")
        if why := unable.get(fault):
            raise InputInvalid("fault", f"{fault} {why}")
    if faults:
        return list(faults)
    for fault, why in unable.items():
        if why:
            tell(f"left out: {fault} {why}")
    return [fault for fault in STRIKES if not unable.get(fault)]


@asynccontextmanager
async def _house(
    deployment: Deployment, rig: Rig
) -> AsyncIterator[tuple[Guests, Control, list[str], list[str]]]:
    """A simulated cloud with doors, web processes and workers, each kept up as a service manager
    keeps them up."""
    cloud, children = deployment.settings.tuya_url, deployment.children
    doors = [f"door-{number}" for number in range(DOORS)]
    await children.start("simulator", "simulator", f"--port={urlsplit(cloud).port}")
    await answering(f"{cloud}/_sim/clock", children)
    with Control(cloud) as control:
        control.settings(zigbee_seconds=0, single_use_tickets=True, max_live=1000)
        for door in doors:
            control.add_door(door, _protocol(door))
            control.state(door, asleep=False)
        signer = Webhook(await _set_up(deployment, doors))
        workers = [f"worker-{number}" for number in range(WORKERS)]
        ports = {f"web-{number}": free_port() for number in range(WEBS)}
        commands = {
            **{name: ["web", f"--port={port}"] for name, port in ports.items()},
            **{name: ["worker"] for name in workers},
        }
        keeping = [
            asyncio.create_task(
                children.keep_up(
                    name,
                    *command,
                    restart_after=0.1,
                    environment=partial(rig.environment, name, works=name in workers),
                )
            )
            for name, command in commands.items()
        ]
        try:
            await deployment.until(partial(_all_work, deployment), "all workers work", within=60)
            urls = [f"http://127.0.0.1:{port}" for port in ports.values()]
            yield Guests(urls, signer, doors), control, list(ports), workers
        finally:
            for kept in keeping:
                kept.cancel()
            await asyncio.gather(*keeping, return_exceptions=True)
            await children.stop()


def _protocol(door: str) -> str:
    """Every fourth is of the kind that asks for its list itself, and whose cloud is never sure."""
    return "wifi" if int(door.removeprefix("door-")) % 4 == 0 else "zigbee"


async def _all_work(deployment: Deployment) -> bool:
    return await deployment.value("SELECT count(*) FROM procrastinate_workers") >= WORKERS


async def _set_up(deployment: Deployment, doors: Sequence[str]) -> str:
    """A listing for each door, and the source; returns its signing secret."""
    async with deployment.db.transaction() as session:
        await session.execute(
            insert(Lock), [{"id": d, "device_id": d, "protocol": _protocol(d)} for d in doors]
        )
        await session.execute(update(Lock).values(patrol_at=func.now()))
        await session.execute(insert(Listing), [{"id": d, "time_zone": "UTC"} for d in doors])
        await session.execute(insert(ListingLock), [{"listing_id": d, "lock_id": d} for d in doors])
        seal = deployment.planner.sealer
        return await inventory.add_source(session, seal, "bench", SOURCE, "pinqueue", None)


async def _strike(
    deployment: Deployment,
    guests: Guests,
    havoc: Havoc,
    chosen: Sequence[str],
    strikes: int,
    tell: Callable[[str], None],
) -> tuple[int, set[str]]:
    """Strike while guests come and go, then wait until the last has gone. Returns how many failed
    jobs had to be retried by hand, and the stays that were seen in part meanwhile."""
    enough, in_part = asyncio.Event(), set[str]()
    arriving = asyncio.create_task(guests.arrive(ARRIVE_EVERY, enough))
    leaving = asyncio.create_task(guests.leave(deployment))
    looking = asyncio.create_task(_look_for_parts(deployment, in_part))
    at_work = (arriving, leaving, looking)
    try:
        for number in range(1, strikes + 1):
            fault = havoc.random.choice(chosen)
            await (_some_answer(guests) if fault == KILL_WEB else _some_work(deployment))
            await asyncio.sleep(havoc.random.uniform(*BETWEEN))
            await havoc.strike(fault, STRIKES)
            for task in at_work:
                if task.done():
                    task.result()  # it ends by itself only where the bench is broken
            if number % 50 == 0:
                tell(f"  {number} strikes, {len(guests.taken)} guests, {len(guests.left)} left")
        await havoc.end()
        enough.set()
        await arriving
        tell(f"  the last strike was; {len(guests.taken)} guests are to be gone")
        return await _settle(deployment, guests, havoc), in_part
    finally:
        for task in at_work:
            task.cancel()
        await asyncio.gather(*at_work, return_exceptions=True)


async def _look_for_parts(deployment: Deployment, found: set[str]) -> None:
    """Now and then, until cancelled."""
    while True:
        with suppress(DatabaseUnavailable):
            found.update(await look_for_parts(deployment))
        await asyncio.sleep(LOOK_EVERY)


async def _some_work(deployment: Deployment) -> None:
    """Wait until a worker has done something, and then until one begins something, so that there is
    something to break; not for ever, since what broke before may keep all of them from it."""
    deadline = asyncio.get_running_loop().time() + WORK_WITHIN
    for tries in (DONE, BEGUN):
        before = await deployment.value(tries)
        while await deployment.value(tries) == before:
            if asyncio.get_running_loop().time() > deadline:
                return
            await asyncio.sleep(0.05)


async def _some_answer(guests: Guests) -> None:
    """The same for the web process: wait until it has answered again."""
    guests.answered.clear()
    with suppress(TimeoutError):
        await asyncio.wait_for(guests.answered.wait(), WORK_WITHIN)


async def _settle(deployment: Deployment, guests: Guests, havoc: Havoc) -> int:
    """Wait until the last guest has gone, and until nothing can come after him; who has not by then
    is counted as lost. An operation that lost its worker too often is quarantined, and a person is
    called: here that is us, and we retry it as `pinqueue jobs retry --all` does. Returns how many.
    """
    retried = 0
    clock = asyncio.get_running_loop().time
    latest = clock() + (0.0 if havoc.struck.keys() <= AT_ONCE else LATEST)
    deadline = clock() + SETTLE_WITHIN
    while clock() < deadline:
        async with deployment.db.transaction() as session:
            retried += (await jobs.retry_failed_jobs(session, actor="bench"))["retried"]
        gone = guests.left == guests.taken.keys() and not await deployment.value(NOT_DONE)
        if gone and clock() > latest and not any(map(havoc.control.pins, guests.listings)):
            break
        await asyncio.sleep(0.5)
    return retried
