"""The peer: the BullMQ + Redis design, whose programs lie in a folder, on the same PostgreSQL."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import make_url

from pinqueue.errors import PinQueueError
from pinqueue.processes import Children, free_port

PROGRAMS = ("package.json", "worker.mjs", "ingest.mjs")
DATABASE = "peer"
APT = ("apt-get", "install", "--yes", "--quiet", "--no-install-recommends", "redis-server")


@dataclass(frozen=True)
class Peer:
    """Its programs, installed, with a Redis of their own that may be flushed."""

    folder: Path
    children: Children
    port: int
    """Where its webhook endpoint listens, while that runs."""

    async def work(self, mode: str, jobs: int, concurrency: int, device_ms: int) -> dict[str, Any]:
        """Run its worker over that many jobs; what it printed."""
        options = (mode, str(jobs), str(concurrency), str(device_ms))
        printed = await self.children.output(
            "peer", "node", "worker.mjs", *options, cwd=self.folder
        )
        told: dict[str, Any] = json.loads(printed.strip().splitlines()[-1])
        return told

    @asynccontextmanager
    async def endpoint(self) -> AsyncIterator[None]:
        """Its webhook endpoint, for the block."""
        await self.children.start_program("peer", "node", "ingest.mjs", cwd=self.folder)
        try:
            await self._listening()
            yield
        finally:
            await self.children.stop("peer")

    async def _listening(self) -> None:
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
            except OSError:
                if self.children.exited():
                    raise PinQueueError("the peer's webhook endpoint exited") from None
                await asyncio.sleep(0.05)
            else:
                writer.close()
                return


@asynccontextmanager
async def beside(programs: Path, folder: Path, url: str) -> AsyncIterator[Peer]:
    """The peer, set up in a copy of its programs; PinQueueError says what it lacks."""
    if missing := [name for name in PROGRAMS if not (programs / name).is_file()]:
        raise PinQueueError(f"--peer: {programs} does not hold {', '.join(missing)}")
    copy = folder / "peer"
    copy.mkdir()
    for name in PROGRAMS:
        shutil.copy(programs / name, copy)
    server = make_url(url)
    redis_port, port = free_port(), free_port()
    environment = {
        "PGHOST": str(server.query["host"]),
        "PGPORT": str(server.query["port"]),
        "PGUSER": str(server.username),
        "PGDATABASE": DATABASE,
        "REDIS_PORT": str(redis_port),
        "PORT": str(port),
    }
    children = Children(environment, folder / "peer.log")
    try:
        await _install(children, copy)
        await children.start_program(
            "redis", "redis-server", "--port", str(redis_port), "--bind", "127.0.0.1", cwd=copy
        )
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            await connection.execute(f"CREATE DATABASE {DATABASE}")
        yield Peer(copy, children, port)
    finally:
        await children.stop()


async def _install(children: Children, copy: Path) -> None:
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            raise PinQueueError(f"--peer: it needs {program}, which is not installed here")
    if shutil.which("redis-server") is None:
        if os.geteuid() != 0 or shutil.which("apt-get") is None:
            raise PinQueueError(
                "--peer: it needs redis-server, which is not installed here: "
                "install it, on Debian by `apt-get install redis-server`"
            )
        await children.output("apt-get", *APT)
    await children.output("npm", "npm", "install", "--no-audit", "--no-fund", cwd=copy)
