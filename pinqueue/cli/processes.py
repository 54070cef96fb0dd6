"""Demo, up, web, worker: what runs until it is stopped."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pinqueue import garbage
from pinqueue.cli.later import (
    alarms,
    config,
    console,
    db,
    demo,
    lines,
    logs,
    metrics,
    pace,
    processes,
    schema,
    tuya,
    up,
    uvicorn,
    uvloop,
    web,
    worker,
)
from pinqueue.cli.options import Host, LogLevel, Port
from pinqueue.errors import InputInvalid

if TYPE_CHECKING:
    from pinqueue.config import Settings

commands = typer.Typer()


@commands.command("demo")
def demo_() -> None:
    """Show three stays, from signed webhook to revoked PIN. Leaves nothing behind."""
    logs.set_up(level="ERROR")
    garbage.look_seldom()
    sys.exit(asyncio.run(demo.run(console.Console())))


@commands.command("up")
def up_(
    data_dir: Annotated[Path | None, typer.Option(help="Where data and secrets live.")] = None,
    host: Host = "127.0.0.1",
    port: Port = 8080,
    simulate_locks: Annotated[bool, typer.Option(help="Locks of a simulated Tuya cloud.")] = False,
) -> None:
    """Run everything on one machine: web, worker, and a database unless you name one."""
    logs.set_up()
    settings = config.read_settings()
    garbage.look_seldom()
    asyncio.run(
        up.run(
            settings,
            console.Console(),
            data_dir=data_dir,
            host=host,
            port=port,
            simulate_locks=simulate_locks,
        )
    )


@commands.command("web")
def web_(host: Host = "127.0.0.1", port: Port = 8080, log_level: LogLevel = "INFO") -> None:
    """Run the web process: webhooks and the API."""
    logs.set_up(level=log_level)
    settings = config.read_settings()
    app = web.create_app(settings)
    schema.check(settings.database_url)
    processes.insist_free(host, port)
    garbage.look_seldom()
    uvicorn.run(
        app,
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        server_header=False,
        http=web.HttpProtocol,
        timeout_graceful_shutdown=10,
    )


@commands.command("worker")
def worker_(
    concurrency: Annotated[
        int | None, typer.Option(min=1, help="Operations at a time; PINQUEUE_WORKER_CONCURRENCY.")
    ] = None,
    queues: Annotated[str, typer.Option(help="Queues to work on.")] = "generate_pin,revoke_pin",
    heartbeat: Annotated[
        Path | None,
        typer.Option(help="A file to touch every 5 seconds, while the database takes them too."),
    ] = None,
    log_level: LogLevel = "INFO",
) -> None:
    """Run a worker process: it programs PINs and takes them off. Several may run."""
    logs.set_up(level=log_level)
    settings = config.read_settings()
    settings.require(*config.STORE, *config.LOCK_CLOUD)
    schema.check(settings.database_url)
    lines.insist_own_session(settings.database_url)
    chosen = [queue.strip() for queue in queues.split(",") if queue.strip()]
    if unknown := set(chosen) - set(alarms.QUEUES.values()):
        known = ", ".join(alarms.QUEUES.values())
        raise InputInvalid("--queues", f"{min(unknown)!r} is not one of {known}")
    if heartbeat:
        _insist_writable(heartbeat)
    concurrency = concurrency or settings.worker_concurrency
    counts = metrics.Metrics()
    working = worker.run(
        settings,
        _gateway(settings, concurrency, counts),
        concurrency=concurrency,
        queues=chosen,
        metrics=counts,
        heartbeat=heartbeat,
    )
    garbage.look_seldom()  # nearly all is imported by now
    uvloop.run(working)


def _gateway(settings: Settings, concurrency: int, counts: metrics.Metrics) -> pace.Paced:
    cloud = tuya.TuyaGateway(
        region=settings.tuya_region,
        access_id=settings.tuya_access_id,
        access_secret=settings.tuya_access_secret.get_secret_value(),
        url=settings.tuya_url or None,
        ca=settings.tuya_ca or None,
        concurrency=concurrency,
        metrics=counts,
    )
    database = db.Database(settings.database_url, pool_size=1, name="pinqueue-pace")
    return pace.Paced(cloud, pace.Pace(database, settings.tuya_access_id, settings.tuya_rate))


def _insist_writable(file: Path) -> None:
    """Raise InputInvalid unless that file can be made. It is not there then: what an earlier
    worker left is no sign of this one's life."""
    try:
        file.touch()
        file.unlink()
    except OSError as error:
        raise InputInvalid("--heartbeat", f"{file} cannot be written: {error.strerror}") from None
