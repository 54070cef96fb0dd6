"""How many signed webhooks a second become committed transactions with two jobs each."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from importlib.resources import as_file, files

from sqlalchemy import insert, make_url
from standardwebhooks import Webhook

from pinqueue import embedded, inventory
from pinqueue.bench.client import CLIENTS, post, request
from pinqueue.bench.figures import Bar, Round, Side
from pinqueue.bench.ground import BenchFailed, Ground
from pinqueue.bench.peer import Peer
from pinqueue.db import Database
from pinqueue.models import Listing, ListingLock, Lock
from pinqueue.processes import answering, free_port
from pinqueue.sealing import Sealer

WHAT = "5,000 signed webhooks of new stays from 16 clients, answered after COMMIT"
EVENTS, LISTINGS = 5000, 500
BARS = (
    Bar("per_second", "peer", at_least=1.0),
    Bar("per_second", "pgbench", at_least=0.6),
)


@asynccontextmanager
async def sides(ground: Ground, scale: float) -> AsyncIterator[dict[str, Side]]:
    made: dict[str, Side] = {
        "pinqueue": partial(_ours, ground, scale),
        "pgbench": partial(_typed, ground, scale),
    }
    if ground.peer is not None:
        made["peer"] = partial(_peers, ground.peer)
    yield made


async def _ours(ground: Ground, scale: float) -> Round:
    async with ground.deployment() as deployment:
        secret = await set_up(deployment.db, deployment.planner.sealer)
        port = free_port()
        await deployment.children.start("web", "web", f"--port={port}")
        await answering(f"http://127.0.0.1:{port}/readyz", deployment.children)
        return await post(port, signed(int(EVENTS * scale), secret), status=200)


async def _peers(peer: Peer) -> Round:
    async with peer.endpoint():
        told = _peers_events(EVENTS)
        sent = (request("/webhooks", json.dumps(event).encode(), {}) for event in told)
        return await post(peer.port, sent, status=202)


async def _typed(ground: Ground, scale: float) -> Round:
    """The same transaction without anything before it: what PostgreSQL itself allows here."""
    async with ground.deployment() as deployment:
        await set_up(deployment.db, deployment.planner.sealer)
        server = make_url(deployment.settings.database_url)
        each = max(int(EVENTS * scale) // CLIENTS, 1)
        with as_file(files("pinqueue.bench") / "ingest.sql") as script:
            printed = await deployment.children.output(
                "pgbench",
                str(embedded.programs() / "pgbench"),
                *("--host", str(server.query["host"]), "--port", str(server.query["port"])),
                *("--username", str(server.username), "--no-vacuum", "--protocol=prepared"),
                *(f"--client={CLIENTS}", "--jobs=2"),
                *(f"--transactions={each}", "--file", str(script)),
                str(server.database),
            )
        return {"per_second": _figure(r"tps = ([\d.]+)", printed)}


async def set_up(db: Database, sealer: Sealer) -> str:
    """A source and the listings it tells of, a lock each; returns the signing secret."""
    names = [f"bench-{number}" for number in range(1, LISTINGS + 1)]
    async with db.transaction() as session:
        locks = [{"id": name, "device_id": name, "protocol": "zigbee"} for name in names]
        await session.execute(insert(Lock), locks)
        listings = [{"id": name, "time_zone": "America/Sao_Paulo"} for name in names]
        await session.execute(insert(Listing), listings)
        linked = [{"listing_id": name, "lock_id": name} for name in names]
        await session.execute(insert(ListingLock), linked)
        return await inventory.add_source(session, sealer, "bench", "bench", "pinqueue", None)


def signed(events: int, secret: str, *, first: int = 0) -> Iterator[bytes]:
    """Stays that follow each other in each listing, as our own kind of source tells them; each is
    signed when it is asked for."""
    signer, began = Webhook(secret), datetime.now(UTC)
    for number in range(first, first + events):
        id_, (check_in, check_out) = f"msg-{number}", dates(number, began)
        now = datetime.now(UTC)
        body = json.dumps(
            {
                "type": "reservation.created",
                "timestamp": now.isoformat(),
                "data": {
                    "reservation_id": f"res-{number}",
                    "listing_id": f"bench-{number % LISTINGS + 1}",
                    "status": "confirmed",
                    "check_in": check_in.isoformat(),
                    "check_out": check_out.isoformat(),
                    "guest": {"name": "Ana", "phone": "+55 11 5550 0100"},
                },
            }
        )
        headers = {
            "webhook-id": id_,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": signer.sign(id_, now, body),
        }
        yield request("/webhooks/bench", body.encode(), headers)


def _peers_events(events: int) -> Iterator[dict[str, object]]:
    """The same stays as the peer is told them."""
    now = datetime.now(UTC)
    for number in range(events):
        check_in, check_out = dates(number, now)
        yield {
            "id": f"msg-{number}",
            "type": "reservation.created",
            "data": {
                "reservation_id": f"res-{number}",
                "lock_id": f"bench-{number % LISTINGS + 1}",
                "check_in": check_in.isoformat(),
                "check_out": check_out.isoformat(),
                "guest": {"name": "Ana", "phone": "+55 11 5550 0100"},
            },
        }


def dates(number: int, now: datetime) -> tuple[datetime, datetime]:
    check_in = now.replace(microsecond=0) + timedelta(days=30 + 3 * (number // LISTINGS))
    return check_in, check_in + timedelta(days=2)


def _figure(pattern: str, printed: str) -> float:
    found = re.search(pattern, printed)
    if found is None:
        raise BenchFailed(f"pgbench printed something else: {printed}")
    return float(found[1])
