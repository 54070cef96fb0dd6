"""`pinqueue up`: everything on one machine, kept running."""

from __future__ import annotations

import asyncio
import os
import secrets
import shlex
import signal
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

from cryptography.fernet import Fernet
from rich.console import Console

from pinqueue import embedded, inventory, logs, migrating, simulator, store
from pinqueue.config import Settings, read_settings
from pinqueue.db import Database
from pinqueue.errors import ConfigInvalid, PinQueueError
from pinqueue.processes import Children, answering, finished, free_port, insist_free

log = logs.get(__name__)

FIRST_KEY = "admin"
ENV_FILE = "pinqueue.env"


def new_secrets() -> dict[str, str]:
    """Fresh values for the settings that must be secret."""
    return {
        "PINQUEUE_SECRET_KEYS": Fernet.generate_key().decode(),
        "PINQUEUE_PIN_PEPPER": secrets.token_urlsafe(32),
    }


async def run(
    settings: Settings,
    console: Console,
    *,
    data_dir: Path | None,
    host: str,
    port: int,
    simulate_locks: bool,
) -> None:
    """Run until SIGINT or SIGTERM."""
    insist_free(host, port)
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    folder = data_dir or embedded.default_data_dir()
    if settings.database_url and settings.database_url == _announced_url(folder):
        raise ConfigInvalid(
            f"this shell has loaded {folder / ENV_FILE}, which is for the other commands: "
            "start `pinqueue up` from a shell that has not"
        )
    with ExitStack() as stack:
        environment: dict[str, str] = {}
        server = None
        if settings.database_url:
            environment["PINQUEUE_DATABASE_URL"] = settings.database_url
        else:
            server = embedded.EmbeddedPostgres(folder)
            stack.callback(server.stop)
            environment["PINQUEUE_DATABASE_URL"] = server.start()
        if not settings.secret_keys or not settings.pin_pepper:
            environment |= _kept_secrets(folder)
        simulator_port = free_port()
        if simulate_locks:
            environment |= simulated_tuya(simulator_port)
        migrating.migrate(environment["PINQUEUE_DATABASE_URL"])
        settings = read_settings_with(environment)
        async with _children(Children(environment)) as children:
            parts = {
                "web": ("web", "--host", host, "--port", str(port)),
                "worker": ("worker",),
            }
            if simulate_locks:
                parts["simulator"] = ("simulator", "--port", str(simulator_port))
            elif not settings.tuya_access_id:
                del parts["worker"]
                console.print(
                    "[yellow]No locks: set PINQUEUE_TUYA_REGION, _ACCESS_ID and _ACCESS_SECRET, or "
                    "add --simulate-locks. Webhooks are taken; their PINs wait.[/]"
                )
            keeping = [asyncio.create_task(children.keep_up(n, *a)) for n, a in parts.items()]
            if server is not None:
                keeping.append(asyncio.create_task(_keep_server_up(server)))
            try:
                await answering(f"http://{_reachable(host)}:{port}/readyz", children)
                await _announce(settings, console, environment, folder, host, port)
                await stopping.wait()
                console.print("stopping")
            finally:
                for task in keeping:
                    task.cancel()
                await asyncio.gather(*keeping, return_exceptions=True)


async def _keep_server_up(server: embedded.EmbeddedPostgres) -> None:
    """Start the database again whenever it is gone, until cancelled. The others wait for it."""
    while True:
        await asyncio.sleep(1)
        if server.alive():
            continue
        log.error("database-exited")
        try:
            await finished(lambda: _start_again(server))
        except PinQueueError as error:
            log.error("database-not-started", reason=str(error))


def _start_again(server: embedded.EmbeddedPostgres) -> None:
    server.stop()
    server.start()


def read_settings_with(environment: dict[str, str]) -> Settings:
    """The settings as our child processes will read them."""
    return read_settings(
        **{name.removeprefix("PINQUEUE_").lower(): value for name, value in environment.items()}
    )


def simulated_tuya(port: int) -> dict[str, str]:
    """Settings that point the lock adapter at a simulator on this machine."""
    return {
        "PINQUEUE_TUYA_REGION": "eu",
        "PINQUEUE_TUYA_ACCESS_ID": simulator.ACCESS_ID,
        "PINQUEUE_TUYA_ACCESS_SECRET": simulator.ACCESS_SECRET,
        "PINQUEUE_TUYA_URL": f"http://127.0.0.1:{port}",
        "PINQUEUE_TUYA_CA": "",
    }


@asynccontextmanager
async def _children(children: Children) -> AsyncIterator[Children]:
    try:
        yield children
    finally:
        await children.stop()


def _kept_secrets(folder: Path) -> dict[str, str]:
    """This machine's secrets: made at the first start, readable by this user alone.

    Without them the PINs in the database cannot be read, so they are backed up with it.
    """
    path = folder / "secrets.env"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lines = "".join(f"{name}={value}\n" for name, value in new_secrets().items())
        # Whole or not at all: an empty file would be taken for this machine's secrets.
        half = path.with_suffix(".new")
        half.unlink(missing_ok=True)
        descriptor = os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(lines)
            file.flush()
            os.fsync(file.fileno())
        half.rename(path)
    pairs = (line.partition("=") for line in path.read_text().splitlines() if line.strip())
    return {name: value for name, _, value in pairs}


async def _announce(
    settings: Settings,
    console: Console,
    environment: dict[str, str],
    folder: Path,
    host: str,
    port: int,
) -> None:
    key = await _first_key(settings)
    address = f"http://{_reachable(host)}:{port}"
    console.print(
        f"[bold green]PinQueue is up[/] at {address}, webhooks go to {address}/webhooks/SOURCE",
        soft_wrap=True,
    )
    if key:
        console.print(f"Admin API key, shown this once: [bold]{key}[/]", soft_wrap=True)
    env_file = folder / ENV_FILE
    _write_environment(env_file, environment)
    # One line however narrow the terminal: it is there to be copied.
    load = f"set -a; . {shlex.quote(str(env_file))}; set +a"
    console.print("In another terminal: ", load, soft_wrap=True, markup=False, highlight=False)
    console.print("then e.g.             pinqueue locks list")


def _announced_url(folder: Path) -> str | None:
    """The database that an earlier `up` on this folder announced, None where there was none."""
    path = folder / ENV_FILE
    lines = path.read_text().splitlines() if path.is_file() else []
    pairs = (line.partition("=") for line in lines)
    found = (value for name, _, value in pairs if name == "PINQUEUE_DATABASE_URL")
    return next((shlex.split(value)[0] for value in found), None)


def _write_environment(path: Path, environment: dict[str, str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.writelines(f"{name}={shlex.quote(value)}\n" for name, value in environment.items())


async def _first_key(settings: Settings) -> str | None:
    """A key with every scope when the deployment has none, else None."""
    db = Database(settings.database_url, pool_size=1)
    try:
        async with db.transaction() as session:
            if await store.rows(session, "SELECT 1 FROM api_keys LIMIT 1"):
                return None
            return await inventory.create_key(session, "up", FIRST_KEY, inventory.SCOPES)
    finally:
        await db.close()


def _reachable(host: str) -> str:
    return "127.0.0.1" if host in ("0.0.0.0", "::") else host  # noqa: S104  # compared, not bound
