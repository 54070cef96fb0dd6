"""Sixteen senders that post one after the other, each on a connection of its own kept open."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator

from pinqueue.bench.figures import Round, percentile
from pinqueue.bench.ground import BenchFailed

CLIENTS = 16


def request(path: str, body: bytes, headers: dict[str, str]) -> bytes:
    """As it goes over the wire."""
    lines = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/json"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def post(port: int, requests: Iterable[bytes], *, status: int) -> Round:
    """Send them all, and wait for every answer; BenchFailed for one with another status. Each is
    made when its turn comes: a signature that was made before may be too old by then."""
    waiting, took = iter(requests), list[float]()
    started = time.perf_counter()
    clients = [_client(port, waiting, took, b"HTTP/1.1 %d " % status) for _ in range(CLIENTS)]
    await asyncio.gather(*clients)
    seconds = time.perf_counter() - started
    return {
        "per_second": len(took) / seconds,
        "p50_ms": percentile(took, 0.5) * 1000,
        "p99_ms": percentile(took, 0.99) * 1000,
    }


async def _client(port: int, waiting: Iterator[bytes], took: list[float], wanted: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for sent in waiting:
        began = time.perf_counter()
        writer.write(sent)
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            int(line.partition(b":")[2])
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"content-length:")
        )
        body = await reader.readexactly(length)
        took.append(time.perf_counter() - began)
        if not head.startswith(wanted):
            raise BenchFailed(f"a webhook was answered {(head + body).decode()!r}")
    writer.close()
