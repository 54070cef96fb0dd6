"""Serving the simulator: as a process, inside a running event loop, or in a thread for a test."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from pinqueue.simulator.app import ACCESS_ID, ACCESS_SECRET, DEFAULT_DEVICES, create_app
from pinqueue.simulator.certificates import certificate_for

Devices = Sequence[tuple[str, str]]


class _Protocol(HttpToolsProtocol):
    """Shows the app its transport, so that a fault can reset the connection."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["state"]["transport"] = self.transport


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, *, own_process: bool) -> None:
        super().__init__(config)
        self.ready = threading.Event()
        self._own_process = own_process
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        self.ready.set()

    async def main_loop(self) -> None:
        """As uvicorn's, which looks ten times a second whether it is to stop; most tests have a
        simulator of their own, and would wait for that."""
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), 1.0)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Hang up on everybody, and wait no longer than it takes to notice that: a call kept
        waiting on purpose would outlast us."""
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        if calls := set(self.server_state.tasks):
            await asyncio.wait(calls, timeout=0.1)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone where the process is somebody else's."""
        if not self._own_process:
            yield
            return
        with super().capture_signals():
            yield

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Without raising the signal again: to be told to stop is not a failure."""
        self.stop()

    def stop(self) -> None:
        """Also from another thread."""
        self.should_exit = self.force_exit = True
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._stopping.set)


def _server(
    access_id: str,
    access_secret: str,
    devices: Devices,
    host: str,
    port: int,
    *,
    own_process: bool,
    https: Path | None = None,
) -> _Server:
    names = ("localhost", socket.gethostname())
    certificate, key = certificate_for(names, https) if https else (None, None)
    config = uvicorn.Config(
        create_app(access_id, access_secret, devices or DEFAULT_DEVICES),
        host=host,
        port=port,
        http=_Protocol,
        ws="none",
        lifespan="off",
        log_level="error",
        access_log=False,
        # Longer than any client keeps an idle connection: no resets but those on order.
        timeout_keep_alive=600,
        ssl_certfile=certificate,
        ssl_keyfile=key,
    )
    return _Server(config, own_process=own_process)


async def serve(
    host: str = "127.0.0.1",
    port: int = 7777,
    access_id: str = ACCESS_ID,
    access_secret: str = ACCESS_SECRET,
    devices: Devices = DEFAULT_DEVICES,
) -> None:
    """Serve inside the running loop until cancelled."""
    server = _server(access_id, access_secret, devices, host, port, own_process=False)
    serving = asyncio.create_task(server.serve())
    try:
        # Shielded: uvicorn closes its sockets when it is told to stop, not when it is cancelled.
        await asyncio.shield(serving)
    finally:
        server.stop()
        await serving


def run(
    host: str = "127.0.0.1",
    port: int = 7777,
    access_id: str = ACCESS_ID,
    access_secret: str = ACCESS_SECRET,
    devices: Devices = DEFAULT_DEVICES,
    https: Path | None = None,
) -> None:
    """Serve as this process until SIGTERM or SIGINT, then return. By https where a folder is given:
    it gets the certificate to trust, good for `localhost` and the name of this machine."""
    server = _server(access_id, access_secret, devices, host, port, own_process=True, https=https)
    asyncio.run(server.serve())


@contextlib.contextmanager
def running(
    access_id: str = ACCESS_ID,
    access_secret: str = ACCESS_SECRET,
    devices: Devices = DEFAULT_DEVICES,
) -> Iterator[str]:
    """Serve in a thread on a free port of the loopback, for a block; yields the base URL."""
    # Named TCP, which create_server leaves out: without it asyncio does not switch Nagle's
    # algorithm off, and every answer waits 40 ms for an acknowledgement.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    port = listener.getsockname()[1]
    server = _server(access_id, access_secret, devices, "127.0.0.1", port, own_process=False)
    thread = threading.Thread(
        target=lambda: asyncio.run(server.serve([listener])), name="tuya-simulator"
    )
    thread.start()
    try:
        if not server.ready.wait(10):
            raise RuntimeError("the simulator did not start")
        yield f"http://127.0.0.1:{port}"
    finally:
        server.stop()
        thread.join()
        listener.close()
