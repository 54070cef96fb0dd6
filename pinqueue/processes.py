"""Our own commands as child processes: started, waited for, started again, stopped in order."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import httpx2

from pinqueue import logs
from pinqueue.errors import PinQueueError, PortTaken

log = logs.get(__name__)

T = TypeVar("T")

STOP_WITHIN = 25.0  # seconds; a worker gives its running operations 15
RESTART_AFTER = 1.0


class Children:
    """`pinqueue web`, `worker` and so on, each a process of its own that shares our environment."""

    def __init__(self, environment: Mapping[str, str], log_file: Path | None = None) -> None:
        self._environment = {**os.environ, **environment}
        self._log_file = log_file
        self._running: dict[str, asyncio.subprocess.Process] = {}
        self._started: list[int] = []

    async def start(
        self, name: str, *arguments: str, environment: Mapping[str, str] | None = None
    ) -> None:
        """Start `pinqueue ARGUMENTS` under that name, with an environment of its own on top of
        ours; its output goes to the log file or ours."""
        command = (sys.executable, "-m", "pinqueue", *arguments)
        await self.start_program(name, *command, environment=environment)

    async def start_module(self, name: str, module: str, *arguments: str) -> None:
        """The same of a module of ours that is no command."""
        await self.start_program(name, sys.executable, "-m", module, *arguments)

    async def start_program(
        self,
        name: str,
        *command: str,
        cwd: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """The same of any program."""
        out = self._log_file.open("ab") if self._log_file else None
        try:
            self._running[name] = await asyncio.create_subprocess_exec(
                *command,
                cwd=cwd,
                env={**self._environment, **(environment or {})},
                stdout=out,
                stderr=out,
                start_new_session=True,  # Ctrl-C is for us alone: we stop them in order
            )
            self._started.append(self._running[name].pid)
        finally:
            if out:
                out.close()

    async def output(self, name: str, *command: str, cwd: Path | None = None) -> str:
        """What a program prints until it exits; raises PinQueueError, with its last words, when it
        fails."""
        program = await asyncio.create_subprocess_exec(
            *command,
            cwd=cwd,
            env=self._environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        self._running[name] = program
        printed, errors = await program.communicate()  # cancelled, it is left to `stop`
        del self._running[name]
        if program.returncode != 0:
            last = (errors or printed).decode(errors="replace").strip()[-2000:]
            raise PinQueueError(f"{name} exited with code {program.returncode}: {last}")
        return printed.decode()

    async def keep_up(
        self,
        name: str,
        *arguments: str,
        restart_after: float = RESTART_AFTER,
        environment: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        """Start it, and start it again whenever it exits, until cancelled; each time with the
        environment of its own that is told then."""
        while True:
            await self.start(name, *arguments, environment=environment())
            code = await self._running[name].wait()
            log.warning("process-exited", process=name, code=code, restart_after=restart_after)
            await asyncio.sleep(restart_after)

    def signal(self, name: str, number: signal.Signals) -> bool:
        """Send a signal; False where that one is just being started again."""
        child = self._running.get(name)
        if child is None or child.returncode is not None:
            return False
        child.send_signal(number)
        return True

    async def memory(self, name: str) -> int:
        """Bytes of it that are in memory."""
        printed = await self.output("ps", "ps", "-o", "rss=", "-p", str(self._running[name].pid))
        return int(printed) * 1024

    def left(self) -> int:
        """How many that were started here still run, or have left a child of theirs behind."""
        return sum(map(_has_processes, self._started))

    def exited(self) -> str | None:
        """A child that is no longer running, None while all are."""
        gone = (name for name, child in self._running.items() if child.returncode is not None)
        return next(gone, None)

    async def stop(self, name: str | None = None) -> None:
        """SIGTERM to all at once, or to one; then SIGKILL to whoever takes too long."""
        stopped = dict(self._running) if name is None else {name: self._running[name]}
        alive = [child for child in stopped.values() if child.returncode is None]
        for child in alive:
            child.send_signal(signal.SIGTERM)
        if alive:
            waiting = [asyncio.ensure_future(child.wait()) for child in alive]
            _, late = await asyncio.wait(waiting, timeout=STOP_WITHIN)
            for child in alive:
                if child.returncode is None:
                    log.error("process-killed", pid=child.pid)
                    child.kill()
            if late:
                await asyncio.wait(late)
        for gone in stopped:
            del self._running[gone]


def _has_processes(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


async def answering(url: str, children: Children, *, within: float = 20.0) -> None:
    """Wait until a GET is answered 200; raises PinQueueError when a child exits or time is up."""
    deadline = asyncio.get_running_loop().time() + within
    async with httpx2.AsyncClient(timeout=2.0, trust_env=False) as client:
        while True:
            try:
                if (await client.get(url)).status_code == 200:
                    return
                problem = "it answers, but it is not ready"
            except httpx2.HTTPError as error:
                problem = type(error).__name__
            if name := children.exited():
                raise PinQueueError(f"`pinqueue {name}` exited while starting; see its log")
            if asyncio.get_running_loop().time() > deadline:
                raise PinQueueError(f"{url} did not answer in {within:.0f} s: {problem}")
            await asyncio.sleep(0.05)


async def finished(call: Callable[[], T]) -> T:
    """What a call in a thread returns. Where we are cancelled meanwhile it is waited for: nothing
    can stop it, and whoever cleans up must find its work whole."""
    running = asyncio.ensure_future(asyncio.to_thread(call))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.gather(running, return_exceptions=True)
        raise


def insist_free(host: str, port: int) -> None:
    """Raise PortTaken unless a server of ours could listen there."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise PortTaken(
                f"cannot listen on {host} port {port} ({error.strerror}): "
                "choose another with --host and --port"
            ) from error


def free_port(host: str = "127.0.0.1") -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port
