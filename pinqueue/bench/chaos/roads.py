"""TCP roads between our processes and their servers, on which everything can vanish without a word.

Neither end is told: no FIN, no RST, and what is sent is still acknowledged, so that no keepalive
notices. Only who asks, and waits for an answer no longer than so long, can.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import urlsplit

from psycopg.conninfo import conninfo_to_dict

LARGEST_PIECE = 1 << 16
HOST = "127.0.0.1"


@dataclass(eq=False)
class Way:
    """One connection that passes along a road."""

    lost: bool
    ends: list[asyncio.StreamWriter] = field(default_factory=list)

    def end(self) -> None:
        for end in self.ends:
            end.transport.abort()


class Road:
    """To one server: a Unix socket's path, or a port of this machine."""

    def __init__(self) -> None:
        self.leads_to: str | int = 0
        self.port = 0
        self._silent = False
        self._ways: set[Way] = set()
        self._passing: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._closed = asyncio.Event()

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._pass_on, HOST, 0)
        self.port = self._server.sockets[0].getsockname()[1]

    def fall_silent(self) -> None:
        """What passes here now is lost for ever, and so is what comes before `speak`."""
        self._silent = True
        for way in self._ways:
            way.lost = True

    def speak(self) -> None:
        """Who comes from now on is heard."""
        self._silent = False

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        self._closed.set()
        for way in self._ways:
            way.end()
        await asyncio.gather(*self._passing)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  # a callback of a stream server runs in a task
        self._passing.add(task)
        way = Way(lost=self._silent, ends=[writer])
        self._ways.add(way)
        try:
            with suppress(OSError):
                far_reader, far_writer = await self._connect()
                way.ends.append(far_writer)
                await asyncio.gather(
                    self._carry(way, reader, far_writer), self._carry(way, far_reader, writer)
                )
        finally:
            way.end()
            self._ways.discard(way)
            self._passing.discard(task)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self.leads_to, int):
            return await asyncio.open_connection(HOST, self.leads_to)
        return await asyncio.open_unix_connection(self.leads_to)

    async def _carry(
        self, way: Way, source: asyncio.StreamReader, target: asyncio.StreamWriter
    ) -> None:
        """Everything, up to the end of it; on a way that is lost, nothing, and not its end."""
        try:
            while piece := await source.read(LARGEST_PIECE):
                if not way.lost:
                    target.write(piece)
                    await target.drain()
        except OSError:
            pass  # it ended without a farewell
        if way.lost:
            await self._closed.wait()
        target.close()


@dataclass
class Roads:
    """The roads to the servers of the database and to the lock cloud, where they are wanted."""

    database: Sequence[Road] = ()
    cloud: Sequence[Road] = ()

    async def __aenter__(self) -> Self:
        for road in (*self.database, *self.cloud):
            await road.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        for road in (*self.database, *self.cloud):
            await road.close()

    def lead(self, environment: Mapping[str, str]) -> dict[str, str]:
        """What our processes are told of their servers, so that they take these roads."""
        by_road = dict(environment)
        if self.database:
            told = conninfo_to_dict(environment["PINQUEUE_DATABASE_URL"])
            hosts, ports = str(told["host"]).split(","), str(told["port"]).split(",")
            for road, host, port in zip(self.database, hosts, ports, strict=True):
                road.leads_to = f"{host}/.s.PGSQL.{port}"
            by_road["PINQUEUE_DATABASE_URL"] = (
                f"postgresql://{told['user']}@/{told['dbname']}"
                f"?host={','.join([HOST] * len(hosts))}"
                f"&port={','.join(str(road.port) for road in self.database)}"
                "&target_session_attrs=read-write"
            )
        for road in self.cloud:
            road.leads_to = urlsplit(environment["PINQUEUE_TUYA_URL"]).port or 0
            by_road["PINQUEUE_TUYA_URL"] = f"http://{HOST}:{road.port}"
        return by_road
