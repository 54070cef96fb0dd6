"""A sender's API that answers without end, or too slowly, or nothing: the worker goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest

from pinqueue import fetchers
from pinqueue.errors import SourceUnreachable
from pinqueue.fetchers import Api, Client

pytestmark = pytest.mark.anyio

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n"
Talk = Callable[[asyncio.StreamWriter], Awaitable[None]]


async def nothing(writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(60)


async def a_space_at_a_time(writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.01)


async def no_end(writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b" " * 65536)
        await writer.drain()


async def brackets(writer: asyncio.StreamWriter) -> None:
    writer.write(b"[" * 1_000_000)


@asynccontextmanager
async def asking(talk: Talk) -> AsyncIterator[Client]:
    """The client of an API that says this after the head of its answer."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(HEAD)
            await talk(writer)
        except ConnectionError:
            pass  # the client hung up, as it should
        finally:
            writer.close()

    async with (
        await asyncio.start_server(answer, "127.0.0.1", 0) as server,
        fetchers.http_client() as http,
    ):
        port = server.sockets[0].getsockname()[1]
        yield Client(http, Api(f"http://127.0.0.1:{port}", "token"), datetime.now(UTC))
        server.close()


@pytest.mark.parametrize("talk", [nothing, a_space_at_a_time, no_end, brackets])
async def test_an_answer_that_is_none_is_told_as_an_api_that_is_away(
    talk: Talk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetchers, "ANSWER_WITHIN", 60.0 if talk is no_end else 0.5)
    monkeypatch.setattr(fetchers, "LARGEST_ANSWER", 1024 * 1024)
    async with asking(talk) as client, asyncio.timeout(20):
        with pytest.raises(SourceUnreachable):
            await client.get("/bookings", headers={})
