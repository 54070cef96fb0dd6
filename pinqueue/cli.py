"""The command line: every command, nothing else. Each composes what it needs, calls one verb."""

from __future__ import annotations

import asyncio
import gc
import getpass
import importlib
import json as jsonlib
import os
import re
import secrets
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import typer
from typer.exceptions import TyperException

from pinqueue.errors import ConfigInvalid, InputInvalid, NotFound, PinQueueError, PortTaken
from pinqueue.lifecycle import EventType, ReservationStatus
from pinqueue.pins import LENGTHS, Pin

if TYPE_CHECKING:
    import uvicorn
    import uvloop
    from rich import console

    from pinqueue import (
        alarms,
        audit,
        bench,
        config,
        db,
        deliveries,
        demo,
        fetchers,
        forgetting,
        health,
        inventory,
        lines,
        logs,
        metrics,
        pace,
        posting,
        processes,
        rotating,
        schema,
        sealing,
        store,
        tables,
        up,
        webhooks,
    )
    from pinqueue import codes as access_codes
    from pinqueue import jobs as queue_jobs
    from pinqueue import reservations as stays
    from pinqueue import simulator as tuya_simulator
    from pinqueue import web as web_process
    from pinqueue import worker as worker_process
    from pinqueue.bench import chaos
    from pinqueue.config import Settings
    from pinqueue.db import Session
    from pinqueue.locks import tuya
    from pinqueue.models import Endpoint
    from pinqueue.reservations import Planner
    from pinqueue.store import queue as queues
else:

    @dataclass(frozen=True)
    class Later:
        """A module that is imported when something of it is first used.

        All of them take most of a second: `health` has one for everything, and a shell that
        completes a word has less.
        """

        module: str

        def __getattr__(self, name: str) -> Any:
            return getattr(importlib.import_module(self.module), name)

    uvicorn, uvloop, console = map(Later, ("uvicorn", "uvloop", "rich.console"))
    access_codes = Later("pinqueue.codes")
    alarms, audit, config = map(Later, ("pinqueue.alarms", "pinqueue.audit", "pinqueue.config"))
    db, deliveries, metrics = map(Later, ("pinqueue.db", "pinqueue.deliveries", "pinqueue.metrics"))
    pace = Later("pinqueue.pace")
    posting, store = map(Later, ("pinqueue.posting", "pinqueue.store"))
    bench, demo = map(Later, ("pinqueue.bench", "pinqueue.demo"))
    chaos = Later("pinqueue.bench.chaos")
    health, up = map(Later, ("pinqueue.health", "pinqueue.up"))
    fetchers, inventory = map(Later, ("pinqueue.fetchers", "pinqueue.inventory"))
    forgetting = Later("pinqueue.forgetting")
    processes, rotating = map(Later, ("pinqueue.processes", "pinqueue.rotating"))
    lines, logs = map(Later, ("pinqueue.lines", "pinqueue.logs"))
    schema, sealing, tables = map(Later, ("pinqueue.schema", "pinqueue.sealing", "pinqueue.tables"))
    tuya, tuya_simulator = map(Later, ("pinqueue.locks.tuya", "pinqueue.simulator"))
    queue_jobs, stays = map(Later, ("pinqueue.jobs", "pinqueue.reservations"))
    queues, webhooks = map(Later, ("pinqueue.store.queue", "pinqueue.webhooks"))
    web_process, worker_process = map(Later, ("pinqueue.web", "pinqueue.worker"))

T = TypeVar("T")

JOB_COLUMNS = ("job_id", "queue", "state", "reservation_id", "lock_id", "scheduled_at", "attempts")
HEALTH_WITHIN, HEALTH_AT_LEAST = 0.8, 0.2
"""Seconds `health` has from its start, not counting those in which others have the processor, and
in any case after its imports."""

EXITS = {ConfigInvalid: 2, InputInvalid: 2, PortTaken: 3}
EXIT_CODES = (
    "Exit codes: 0 done; 1 refused or failed, with a message, or not healthy; 2 wrong settings or"
    " input; 3 the port is taken. With --json a message is one JSON object on stderr."
)

cli = typer.Typer(
    no_args_is_help=True,
    help="Door PINs that work exactly when they should.",
    epilog=EXIT_CODES,
)

jobs = typer.Typer(no_args_is_help=True, help="What rings for PINs to be put on and taken off.")
reservations = typer.Typer(no_args_is_help=True, help="Stays, with or without a property system.")
locks = typer.Typer(no_args_is_help=True, help="The devices on the doors.")
listings = typer.Typer(no_args_is_help=True, help="The rented units, with their locks.")
sources = typer.Typer(no_args_is_help=True, help="The webhook senders.")
endpoints = typer.Typer(no_args_is_help=True, help="Where what happens is told, by webhook.")
keys = typer.Typer(no_args_is_help=True, help="API keys, and fresh secrets for the settings.")
codes = typer.Typer(no_args_is_help=True, help="Access codes: one PIN on one door for one stay.")
for name, group in {
    "jobs": jobs,
    "reservations": reservations,
    "locks": locks,
    "listings": listings,
    "sources": sources,
    "endpoints": endpoints,
    "keys": keys,
    "codes": codes,
}.items():
    cli.add_typer(group, name=name)

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Host = Annotated[str, typer.Option(help="Address to listen on.")]
Port = Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")]
CodeId = Annotated[
    int, typer.Argument(min=1, max=2**63 - 1, help="Its number in `pinqueue codes list`.")
]
StayId = Annotated[str, typer.Argument(help="The id its source gave it.")]
LogLevel = Annotated[str, typer.Option(help="DEBUG, INFO, WARNING or ERROR.")]
Lead = Annotated[str | None, typer.Option(help="Program PINs so long before check-in, e.g. 1d.")]
Queue = Annotated[str | None, typer.Option(help="generate_pin or revoke_pin; both if not given.")]
JobState = Annotated[
    str | None,
    typer.Option(help="waiting, delayed, active, completed, failed or cancelled."),
]
OfLock = Annotated[str | None, typer.Option(help="Of this lock only.")]
OfListing = Annotated[str | None, typer.Option(help="Of this listing only.")]
OfStay = Annotated[str | None, typer.Option(help="Of this stay only.")]
DueFrom = Annotated[
    str | None, typer.Option(help="Due then or later: 2026-12-24T15:00Z, or 2h or -2h from now.")
]
DueBefore = Annotated[str | None, typer.Option(help="Due before then.")]


def main() -> None:
    """Run the command line; a foreseen failure is one message and the exit code of its kind."""
    # What imports make is never garbage, and to look for it took a tenth of each start.
    gc.set_threshold(50_000, 20, 50)
    as_json = "--json" in sys.argv
    try:
        sys.exit(cli(standalone_mode=not as_json))
    except TyperException as error:  # wrong usage, which Typer tells itself where it is for people
        typer.echo(_as_json("usage", error.format_message()), err=True)
        sys.exit(error.exit_code)
    except PinQueueError as error:
        typer.echo(_failure_as_json(error) if as_json else _failure_as_text(error), err=True)
        sys.exit(next((code for kind, code in EXITS.items() if isinstance(error, kind)), 1))


def _failure_as_text(error: PinQueueError) -> str:
    return typer.style("pinqueue:", fg="red") + f" {error}"


def _failure_as_json(error: PinQueueError) -> str:
    """With the code that the API has for it."""
    if isinstance(error, InputInvalid):
        fault = {"field": error.field, "message": str(error).removeprefix(f"{error.field}: ")}
        return _as_json("invalid_input", str(error), fault)
    name = type(error).__name__.removeprefix("Database")
    return _as_json(re.sub("(?<=[a-z])(?=[A-Z])", "_", name).lower(), str(error))


def _as_json(code: str, message: str, *details: dict[str, str]) -> str:
    """A failure in the shape of the API's errors."""
    return jsonlib.dumps({"error": {"code": code, "message": message, "details": details}})


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"pinqueue {version('pinqueue')}")
        raise typer.Exit


@cli.callback()
def root(
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    try:
        "".join(sys.argv).encode()
    except UnicodeEncodeError:  # it would get as far as the database, and end in a traceback
        raise typer.BadParameter("an argument is not UTF-8") from None


# The processes


@cli.command("demo")
def demo_() -> None:
    """Show three stays, from signed webhook to revoked PIN. Leaves nothing behind."""
    logs.set_up(level="ERROR")
    sys.exit(asyncio.run(demo.run(console.Console())))


@cli.command("up")
def up_(
    data_dir: Annotated[Path | None, typer.Option(help="Where data and secrets live.")] = None,
    host: Host = "127.0.0.1",
    port: Port = 8080,
    simulate_locks: Annotated[bool, typer.Option(help="Locks of a simulated Tuya cloud.")] = False,
) -> None:
    """Run everything on one machine: web, worker, and a database unless you name one."""
    logs.set_up()
    settings = config.read_settings()
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


@cli.command()
def web(host: Host = "127.0.0.1", port: Port = 8080, log_level: LogLevel = "INFO") -> None:
    """Run the web process: webhooks and the API."""
    logs.set_up(level=log_level)
    settings = config.read_settings()
    app = web_process.create_app(settings)
    schema.check(settings.database_url)
    processes.insist_free(host, port)
    uvicorn.run(
        app,
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        server_header=False,
        http=web_process.HttpProtocol,
        timeout_graceful_shutdown=10,
    )


@cli.command()
def worker(
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
    uvloop.run(
        worker_process.run(
            settings,
            _gateway(settings, concurrency, counts),
            concurrency=concurrency,
            queues=chosen,
            metrics=counts,
            heartbeat=heartbeat,
        )
    )


def _insist_writable(file: Path) -> None:
    """Raise InputInvalid unless that file can be made. It is not there then: what an earlier
    worker left is no sign of this one's life."""
    try:
        file.touch()
        file.unlink()
    except OSError as error:
        raise InputInvalid("--heartbeat", f"{file} cannot be written: {error.strerror}") from None


@cli.command()
def migrate(json: Json = False) -> None:
    """Bring the database to this version's schema. Safe from several processes at once."""
    settings = config.read_settings()
    settings.require("database_url")
    schema.migrate(settings.database_url)
    revision = schema.check(settings.database_url)
    _tell(json, f"the database is at revision {revision}", revision=revision)


@cli.command()
def check(json: Json = False) -> None:
    """Check settings, database and schema without starting anything."""
    settings = config.read_settings()
    settings.require(*config.STORE)
    sealing.sealer(settings)
    revision = schema.check(settings.database_url)
    missing = [name for name in config.LOCK_CLOUD if not getattr(settings, name)]
    missing = [f"PINQUEUE_{name.upper()}" for name in missing]
    project = f"no Tuya project: set {', '.join(missing)}" if missing else "Tuya project set"
    unknown = config.unknown_settings()
    strange = f"\nno setting, so without effect: {', '.join(unknown)}" if unknown else ""
    _tell(
        json,
        f"database: reachable, revision {revision}\nlocks: {project}{strange}",
        database="ok",
        revision=revision,
        lock_cloud="not set" if missing else "set",
        missing=missing,
        unknown=unknown,
    )


@cli.command("health")
def health_(json: Json = False) -> None:
    """Whether PINs will be on time: database, workers, lock cloud, what is overdue. Exit code 1 if
    not. Answers within a second, whatever hangs."""
    settings = config.read_settings()
    settings.require("database_url")

    ask, print_out = health.report, tables.show_health  # imported now, so that it counts

    async def answer() -> NoReturn:
        database = db.Database(settings.database_url, pool_size=1, name="pinqueue-cli")
        left = max(HEALTH_WITHIN - time.process_time(), HEALTH_AT_LEAST)
        report = await ask(settings, database, within=left)
        if report["database"] == "ok":
            await database.close()
        print_out(report, as_json=json)
        sys.stdout.flush()
        # Not sys.exit: that waits for a name server that does not answer.
        os._exit(0 if report["healthy"] else 1)

    asyncio.run(answer())


@cli.command()
def simulator(
    host: Host = "127.0.0.1",
    port: Port = 7777,
    device: Annotated[
        list[str] | None, typer.Option(help="A door, ID:PROTOCOL. May be given several times.")
    ] = None,
    access_id: Annotated[str | None, typer.Option(help="A made-up one if not given.")] = None,
    access_secret: Annotated[str | None, typer.Option(help="The same.")] = None,
    https: Annotated[
        Path | None,
        typer.Option(help="Serve https, and put the certificate to trust into this folder."),
    ] = None,
) -> None:
    """Run a Tuya cloud with simulated doors, for trying and testing."""
    logs.set_up()
    pairs = [tuple(text.rsplit(":", 1)) for text in device or []]
    if any(len(pair) != 2 or pair[1] not in LENGTHS for pair in pairs):
        raise InputInvalid("--device", f"write ID:PROTOCOL, the protocol {', '.join(LENGTHS)}")
    doors = [(p[0], p[1]) for p in pairs] or list(tuya_simulator.DEFAULT_DEVICES)
    processes.insist_free(host, port)
    logs.get(__name__).info(
        "simulator-started", host=host, port=port, doors=[door for door, _ in doors]
    )
    tuya_simulator.run(
        host,
        port,
        access_id or tuya_simulator.ACCESS_ID,
        access_secret or tuya_simulator.ACCESS_SECRET,
        doors,
        https,
    )


@cli.command("bench")
def bench_(
    name: Annotated[
        str,
        typer.Argument(help="late, rush, drain, pending, ingest, all, memory, year or chaos."),
    ],
    peer: Annotated[
        Path | None, typer.Option(help="The peer's programs: they do the same work, in turn.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Times each side does the work.")] = 3,
    scale: Annotated[
        float, typer.Option(min=0.001, max=1, help="Share of the work, for a quick look.")
    ] = 1.0,
    plots: Annotated[
        Path,
        typer.Option(exists=True, file_okay=False, help="Where `pending` and `year` draw."),
    ] = Path(),
    strikes: Annotated[int, typer.Option(min=1, help="Of `chaos`: how many.")] = 100,
    fault: Annotated[
        list[str] | None, typer.Option(help="Of `chaos`: one kind of strike; may be repeated.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of `chaos`: the same strikes again.")] = 1,
    beside: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            file_okay=False,
            help="Of `chaos`: a checkout of another version, put in ours' place by `deploy`.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Measure what the README says of speed, or break everything and count what is lost, on a
    PostgreSQL of its own. Leaves nothing behind."""
    logs.set_up(level="ERROR")

    def tell(line: str) -> None:
        typer.echo(line, err=True)

    try:
        if name == "chaos":
            striking = chaos.run(
                faults=fault or [], strikes=strikes, seed=seed, tell=tell, beside=beside
            )
            found = uvloop.run(striking)
            if json:
                typer.echo(tables.dumps(found))
            else:
                tables.show_facts(found, title="chaos")
            sys.exit(0 if found["holds"] else 1)
        measured = uvloop.run(
            bench.run(name, peer=peer, rounds=rounds, scale=scale, plots=plots, tell=tell)
        )
    except asyncio.CancelledError:
        tell("stopped")
        sys.exit(130)
    tables.show_bench(measured, as_json=json)


# Set-up


@locks.command("add")
def locks_add(
    lock: Annotated[str, typer.Argument(help="A name of your own for it.")],
    device_id: Annotated[str, typer.Option(help="Tuya's id of the device.")],
    protocol: Annotated[str, typer.Option(help="wifi, zigbee or bluetooth.")],
    json: Json = False,
) -> None:
    """Add a lock."""
    _with_session(lambda s: inventory.add_lock(s, _actor(), lock, device_id, protocol))
    _tell(json, f"lock {lock} added", lock=lock, device_id=device_id, protocol=protocol)


@locks.command("set")
def locks_set(
    lock: str,
    device_id: Annotated[str | None, typer.Option(help="Tuya's id of the device.")] = None,
    protocol: Annotated[str | None, typer.Option(help="wifi, zigbee or bluetooth.")] = None,
    json: Json = False,
) -> None:
    """Correct a lock that was added wrongly, while its device holds no PIN."""
    if device_id is None and protocol is None:
        raise typer.BadParameter("give --device-id or --protocol")
    planner = _planner(config.read_settings())
    ahead = _with_session(
        lambda s: inventory.set_lock(
            s, planner, _actor(), lock, device_id=device_id, protocol=protocol
        )
    )
    _tell(json, f"lock {lock} changed; {ahead} stays planned", lock=lock, stays_planned=ahead)


@locks.command("list")
def locks_list(json: Json = False) -> None:
    """List the locks and the listings they belong to."""
    tables.show(_rows(audit.LOCKS), title="locks", as_json=json)


@listings.command("add")
def listings_add(
    listing: Annotated[str, typer.Argument(help="The id its webhooks use.")],
    time_zone: Annotated[str, typer.Option(help="IANA name, e.g. America/Sao_Paulo.")],
    lock: Annotated[list[str] | None, typer.Option(help="A lock of it. May be repeated.")] = None,
    lead: Lead = None,
    json: Json = False,
) -> None:
    """Add a listing. Bookings that came in for it before are taken up now."""
    settings = config.read_settings()
    planner = _planner(settings)
    before = config.parse_duration("lead", lead) if lead else None

    async def add(session: Session) -> int:
        await inventory.add_listing(session, _actor(), listing, time_zone, lock or [], before)
        return await webhooks.adopt_unmapped(session, planner, listing)

    adopted = _with_session(add)
    text = f"listing {listing} added" + f", {adopted} waiting events taken up" * bool(adopted)
    _tell(json, text, listing=listing, time_zone=time_zone, locks=lock or [], taken_up=adopted)


@listings.command("set")
def listings_set(
    listing: str,
    check_in: Annotated[
        str | None, typer.Option(help="Local time for stays told by date alone, e.g. 15:00.")
    ] = None,
    check_out: Annotated[str | None, typer.Option(help="The same at the end, e.g. 11:00.")] = None,
    buffer_before: Annotated[
        str | None, typer.Option(help="PINs open so long before check-in, e.g. 15m.")
    ] = None,
    buffer_after: Annotated[str | None, typer.Option(help="and so long after check-out.")] = None,
    lead: Lead = None,
    json: Json = False,
) -> None:
    """Change a listing's times. Stays ahead follow buffers and lead."""
    if not any((check_in, check_out, buffer_before, buffer_after, lead)):
        raise typer.BadParameter("give at least one of the times to change")
    planner = _planner(config.read_settings())
    durations = {
        name: config.parse_duration(name.replace("_", "-"), text) if text is not None else None
        for name, text in {
            "buffer_before": buffer_before,
            "buffer_after": buffer_after,
            "lead": lead,
        }.items()
    }
    ahead = _with_session(
        lambda s: inventory.set_listing(
            s,
            planner,
            _actor(),
            listing,
            check_in_time=check_in,
            check_out_time=check_out,
            **durations,
        )
    )
    _tell(json, f"listing {listing} changed; {ahead} stays ahead planned", listing=listing)


@listings.command("link")
def listings_link(listing: str, lock: str, json: Json = False) -> None:
    """Add a lock to a listing. Stays ahead get a PIN on it too."""
    planner = _planner(config.read_settings())
    planned = _with_session(lambda s: inventory.link_lock(s, planner, _actor(), listing, lock))
    text = f"lock {lock} belongs to listing {listing}; {planned} stays ahead planned"
    _tell(json, text, listing=listing, lock=lock, stays_planned=planned)


@listings.command("unlink")
def listings_unlink(listing: str, lock: str, json: Json = False) -> None:
    """Take a lock from a listing. Its guests' PINs come off that lock."""
    planner = _planner(config.read_settings())
    ahead = _with_session(lambda s: inventory.unlink_lock(s, planner, _actor(), listing, lock))
    text = f"lock {lock} belongs to listing {listing} no more; {ahead} stays ahead planned"
    _tell(json, text, listing=listing, lock=lock, stays_planned=ahead)


@listings.command("list")
def listings_list(json: Json = False) -> None:
    """List the listings with their locks."""
    tables.show(_rows(audit.LISTINGS), title="listings", as_json=json)


@sources.command("add")
def sources_add(
    source: Annotated[str, typer.Argument(help="Its name in /webhooks/{source}.")],
    kind: Annotated[
        str, typer.Option(help="pinqueue, or the property system: stays, hospitable, ...")
    ] = "pinqueue",
    secret: Annotated[
        str | None, typer.Option(help="What the sender gave you; else one is made.")
    ] = None,
    api_url: Annotated[str, typer.Option(help="The sender's API, where not the usual.")] = "",
    api_user: Annotated[str, typer.Option(help="Login, client or account id of its API.")] = "",
    api_token: Annotated[str, typer.Option(help="Token, key or password of its API.")] = "",
    json: Json = False,
) -> None:
    """Add a webhook sender and print its secret, once."""
    if kind not in webhooks.SENDERS:
        raise InputInvalid("--kind", f"must be one of {', '.join(webhooks.SENDERS)}")
    sealer = sealing.sealer(config.read_settings())
    api = fetchers.checked_api(kind, api_url, api_token, api_user) if api_token else None

    async def add(session: Session) -> str:
        made = await inventory.add_source(session, sealer, _actor(), source, kind, secret)
        if api is not None:
            await session.flush()
            await inventory.set_api(session, sealer, _actor(), source, api.dump())
        return made

    made = _with_session(add)
    _tell(json, made, source=source, kind=kind, secret=made)


@sources.command("api")
def sources_api(
    source: str,
    token: Annotated[str, typer.Option(help="Token, key or password.")],
    url: Annotated[str, typer.Option(help="Where not the usual.")] = "",
    user: Annotated[str, typer.Option(help="Login, client or account id.")] = "",
    json: Json = False,
) -> None:
    """Let a sender's bookings be read from its API, or give it another token."""
    sealer = sealing.sealer(config.read_settings())

    async def give(session: Session) -> None:
        kind = await inventory.source_kind(session, source)
        api = fetchers.checked_api(kind, url, token, user)
        await inventory.set_api(session, sealer, _actor(), source, api.dump())

    _with_session(give)
    _tell(json, f"the bookings of source {source} are compared within a minute", source=source)


@sources.command("rotate")
def sources_rotate(
    source: str,
    secret: Annotated[str | None, typer.Option(help="whsec_...; made if not given.")] = None,
    keep_old: Annotated[str, typer.Option(help="How long the old one verifies too.")] = "24h",
    json: Json = False,
) -> None:
    """Give a sender another signing secret and print it, once."""
    sealer = sealing.sealer(config.read_settings())
    keep = config.parse_duration("keep-old", keep_old)
    made = _with_session(
        lambda s: inventory.rotate_source(s, sealer, _actor(), source, secret, keep)
    )
    _tell(json, made, source=source, secret=made, old_verifies_for=keep.total_seconds())


@sources.command("list")
def sources_list(json: Json = False) -> None:
    """List the webhook senders."""
    tables.show(_rows(audit.SOURCES), title="sources", as_json=json)


@endpoints.command("add")
def endpoints_add(
    endpoint: Annotated[str, typer.Argument(help="A name of your own for it.")],
    url: Annotated[str, typer.Argument(help="https, or http on loopback.")],
    event: Annotated[
        list[str] | None,
        typer.Option(help=f"{', '.join(EventType)}. May be repeated; all if not given."),
    ] = None,
    secret: Annotated[
        str | None, typer.Option(help="whsec_...; a new one is made if not given.")
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="It is in a private network.")] = False,
    with_pin: Annotated[
        bool, typer.Option("--with-pin", help="Post the PINs too; each time is audited.")
    ] = False,
    json: Json = False,
) -> None:
    """Have events posted to a URL, and print the secret they are signed with, once."""
    sealer = sealing.sealer(config.read_settings())

    async def add(session: Session) -> str:
        return await inventory.add_endpoint(
            session,
            sealer,
            _actor(),
            endpoint,
            url,
            events=event or [],
            secret=secret,
            private=private,
            with_pin=with_pin,
        )

    made = _with_session(add)
    _tell(json, made, endpoint=endpoint, url=url, secret=made)


@endpoints.command("list")
def endpoints_list(json: Json = False) -> None:
    """List the endpoints, with what waits for each and how its last try ended."""
    tables.show(_rows(audit.ENDPOINTS), title="endpoints", as_json=json)


@endpoints.command("test")
def endpoints_test(endpoint: str, json: Json = False) -> None:
    """Post a signed `ping` now and print the answer. Exit code 1 unless it is a 2xx."""
    sealer = sealing.sealer(config.read_settings())

    async def look(session: Session) -> tuple[Endpoint, datetime]:
        return await inventory.endpoint_of(session, endpoint), await store.now(session)

    found, now = _with_session(look)

    async def ping() -> posting.Answer:
        poster = posting.Poster()
        try:
            return await deliveries.ping(sealer, poster, found, now)
        finally:
            await poster.close()

    answer = asyncio.run(ping())
    if not answer.taken:
        raise PinQueueError(f"endpoint {endpoint}: {answer}")
    _tell(json, f"endpoint {endpoint}: {answer}", endpoint=endpoint, answer=str(answer))


@endpoints.command("deliveries")
def endpoints_deliveries(
    endpoint: str,
    state: Annotated[str | None, typer.Option(help="waiting, delivered or failed.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = 100,
    before: Annotated[
        int | None, typer.Option(min=1, max=2**63 - 1, help="Only those before this delivery.")
    ] = None,
    json: Json = False,
) -> None:
    """List what was, is or will be posted there, the newest first."""
    found = _with_session(
        lambda s: deliveries.listed(s, endpoint, state=state, before=before, limit=limit)
    )
    tables.show(found, title="deliveries", as_json=json)


@endpoints.command("redeliver")
def endpoints_redeliver(
    delivery: Annotated[
        int,
        typer.Argument(min=1, max=2**63 - 1, help="Its number in `pinqueue endpoints deliveries`."),
    ],
    json: Json = False,
) -> None:
    """Post a delivery again, at once, with the same `webhook-id`."""
    told = _with_session(lambda s: deliveries.redeliver(s, _actor(), delivery))
    _tell(json, f"delivery {delivery} is posted to {told['endpoint']} again", **told)


@endpoints.command("enable")
def endpoints_enable(endpoint: str, json: Json = False) -> None:
    """Post there again, after it was disabled because it answered 410."""
    _with_session(lambda s: inventory.enable_endpoint(s, _actor(), endpoint))
    _tell(json, f"endpoint {endpoint} enabled", endpoint=endpoint, enabled=True)


@endpoints.command("remove")
def endpoints_remove(endpoint: str, json: Json = False) -> None:
    """Post there no more; what is still on its way is dropped."""
    _with_session(lambda s: inventory.remove_endpoint(s, _actor(), endpoint))
    _tell(json, f"endpoint {endpoint} removed", endpoint=endpoint, removed=True)


@keys.command("create")
def keys_create(
    name: str,
    scope: Annotated[
        list[str] | None, typer.Option(help="read, operate, reveal or admin. May be repeated.")
    ] = None,
    json: Json = False,
) -> None:
    """Create an API key and print it, once."""
    scopes = scope or ["read"]
    key = _with_session(lambda s: inventory.create_key(s, _actor(), name, scopes))
    _tell(json, key, name=name, scopes=scopes, key=key)


@keys.command("revoke")
def keys_revoke(name: str, json: Json = False) -> None:
    """Make an API key worthless."""
    _with_session(lambda s: inventory.revoke_key(s, _actor(), name))
    _tell(json, f"key {name} revoked", name=name, revoked=True)


@keys.command("list")
def keys_list(json: Json = False) -> None:
    """List the API keys; the keys themselves are not stored."""
    tables.show(_rows(audit.KEYS), title="keys", as_json=json)


@keys.command("generate")
def keys_generate(json: Json = False) -> None:
    """Print fresh PINQUEUE_SECRET_KEYS and PINQUEUE_PIN_PEPPER, for `.env`."""
    fresh = up.new_secrets()
    _tell(json, "\n".join(f"{setting}={value}" for setting, value in fresh.items()), **fresh)


@keys.command("rotate-secrets")
def keys_rotate_secrets(json: Json = False) -> None:
    """Seal anew, under the first of PINQUEUE_SECRET_KEYS, all that older keys have sealed."""
    sealer = sealing.sealer(config.read_settings())
    counts = _with_database(lambda d: rotating.rotate_secrets(d, sealer, _actor()))
    told = ", ".join(f"{count} {table}" for table, count in counts.items())
    _tell(json, f"sealed anew: {told}; only the first key is needed now", **counts)


# Stays and their jobs


@reservations.command("list")
def reservations_list(
    listing: OfListing = None,
    status: Annotated[str | None, typer.Option(help="pending, confirmed or cancelled.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the latest first.")] = 100,
    json: Json = False,
) -> None:
    """List stays, the latest check-in first."""
    asked = {"listing": listing, "status": status, "limit": limit}
    found = _with_session(lambda s: audit.stays(s, **asked))
    tables.show(found, title="reservations", as_json=json)


@reservations.command("export")
def reservations_export(reservation: StayId, json: Json = False) -> None:
    """Show all that is stored of a stay and its guest, without its PINs."""
    found = _with_session(lambda s: forgetting.export(s, reservation))
    if json:
        typer.echo(tables.dumps(found))
        return
    for kind, rows in found.items():
        tables.show(rows, title=kind)


@reservations.command("erase")
def reservations_erase(reservation: StayId, json: Json = False) -> None:
    """Forget the guest of a stay: name, phone, and what its webhooks told. Its PIN goes on."""
    _with_session(lambda s: forgetting.erase(s, _actor(), reservation))
    _tell(json, f"the guest of {reservation} is forgotten", reservation=reservation, erased=True)


@reservations.command("show")
def reservations_show(reservation: StayId, json: Json = False) -> None:
    """Show a stay and its access codes, without their PINs."""
    found = _with_session(lambda s: audit.stay(s, reservation))
    if json:
        typer.echo(tables.dumps(found))
        return
    tables.show_facts({k: v for k, v in found.items() if k != "codes"}, title=reservation)
    tables.show(found["codes"], title="codes")


@reservations.command("put")
def reservations_put(
    reservation: Annotated[str, typer.Argument(help="An id of your own for it.")],
    listing: Annotated[str, typer.Option(help="The unit.")],
    check_in: Annotated[
        str, typer.Option(help="2026-12-24T15:00; without offset, in the listing's time zone.")
    ],
    check_out: Annotated[str, typer.Option(help="Written the same.")],
    guest: Annotated[str | None, typer.Option(help="The guest's name.")] = None,
    lead: Lead = None,
    pending: Annotated[bool, typer.Option("--pending", help="No PIN until confirmed.")] = False,
    json: Json = False,
) -> None:
    """Create or change a stay that no property system tells of."""
    planner = _planner(config.read_settings())
    before = config.parse_duration("lead", lead) if lead else None

    async def put(session: Session) -> dict[str, Any]:
        now = await store.now(session)
        booking = stays.Booking(
            reservation_id=reservation,
            status=ReservationStatus.PENDING if pending else ReservationStatus.CONFIRMED,
            updated_at=now,
            event_at=now,
            event_id=secrets.token_hex(8),
            listing_id=listing,
            check_in=check_in,
            check_out=check_out,
            guest_name=guest,
            lead=before,
        )
        await stays.put(session, planner, _actor(), booking, now)
        return await audit.stay(session, reservation)

    _tell_stay(json, _with_session(put))


@reservations.command("grant")
def reservations_grant(
    reservation: StayId,
    early_check_in: Annotated[
        str | None, typer.Option(help="In place of check-in; '' takes it back.")
    ] = None,
    late_check_out: Annotated[
        str | None, typer.Option(help="In place of check-out; '' takes it back.")
    ] = None,
    json: Json = False,
) -> None:
    """Let a guest in earlier, or out later, than was booked. The listing's buffers stay."""
    if early_check_in is None and late_check_out is None:
        raise typer.BadParameter("give --early-check-in or --late-check-out")
    planner = _planner(config.read_settings())

    async def grant(session: Session) -> dict[str, Any]:
        now = await store.now(session)
        await stays.grant(
            session,
            planner,
            _actor(),
            reservation,
            now,
            early_check_in=early_check_in,
            late_check_out=late_check_out,
        )
        return await audit.stay(session, reservation)

    _tell_stay(json, _with_session(grant))


@reservations.command("confirm")
def reservations_confirm(reservation: StayId, json: Json = False) -> None:
    """Confirm a stay and schedule its PINs."""
    planner = _planner(config.read_settings())

    async def confirm(session: Session) -> dict[str, Any]:
        now = await store.now(session)
        await stays.confirm(session, planner, _actor(), reservation, now)
        return await audit.stay(session, reservation)

    _tell_stay(json, _with_session(confirm))


@reservations.command("cancel")
def reservations_cancel(reservation: StayId, json: Json = False) -> None:
    """Cancel a stay: its PINs come off, or are never put on."""
    planner = _planner(config.read_settings())

    async def cancel(session: Session) -> tuple[dict[str, Any], dict[str, bool]]:
        cancelled = await queue_jobs.cancel_scheduled_jobs(session, reservation, actor=_actor())
        now = await store.now(session)
        await stays.cancel(session, planner, _actor(), reservation, now)
        return await audit.stay(session, reservation), cancelled

    stay, cancelled = _with_session(cancel)
    _tell_stay(json, stay, **cancelled)


def _tell_stay(json: bool, stay: dict[str, Any], **facts: Any) -> None:
    codes_ = ", ".join(f"{code['lock_id']} {code['state']}" for code in stay["codes"])
    text = f"reservation {stay['reservation_id']} is {stay['status']}; codes: {codes_ or 'none'}"
    _tell(json, text, **stay, **facts)


@jobs.command("list")
def jobs_list(
    queue: Queue = None,
    state: JobState = None,
    lock: OfLock = None,
    listing: OfListing = None,
    reservation: OfStay = None,
    due_from: DueFrom = None,
    due_before: DueBefore = None,
    order: Annotated[str, typer.Option(help="next or newest first.")] = "next",
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 100,
    cursor: Annotated[str | None, typer.Option(help="Where the page before ended.")] = None,
    json: Json = False,
) -> None:
    """List jobs, a page at a time."""
    if order not in ("next", "newest"):
        raise InputInvalid("order", f"must be next or newest, not {order!r}")
    which = _filter(queue, state, lock, listing, reservation, due_from, due_before)
    page = _with_session(
        lambda s: queue_jobs.find_jobs(
            s, which, newest_first=order == "newest", cursor=cursor, limit=limit
        )
    )
    if json:
        typer.echo(tables.dumps({"jobs": page.jobs, "next_cursor": page.next_cursor}))
        return
    tables.show([{key: job[key] for key in JOB_COLUMNS} for job in page.jobs], title="jobs")
    if page.next_cursor:
        typer.echo(f"more: --cursor {page.next_cursor}")


@jobs.command("status")
def jobs_status(
    reservation: StayId,
    kind: Annotated[str, typer.Argument(help="generate or revoke.")],
    json: Json = False,
) -> None:
    """Show how a stay's PIN fares: put on, or taken off."""
    status = _with_session(lambda s: queue_jobs.get_scheduled_job_status(s, reservation, kind))
    if status is None:
        raise NotFound(f"reservation {reservation} never had a {kind} job")
    if json:
        typer.echo(tables.dumps(status))
        return
    told = {key: value for key, value in status.items() if key != "data"}
    data = {key: value for key, value in status["data"].items() if key != "locks"}
    tables.show_facts({**told, **data}, title=f"{kind} of {reservation}")
    tables.show(status["data"]["locks"], title="locks")


@jobs.command("schedule")
def jobs_schedule(
    reservation: StayId,
    check_in: Annotated[str | None, typer.Option(help="Move the check-in there.")] = None,
    check_out: Annotated[str | None, typer.Option(help="Move the check-out there.")] = None,
    lead: Lead = None,
    json: Json = False,
) -> None:
    """Schedule a confirmed stay's PINs, again where they were cancelled, or at other times."""
    planner = _planner(config.read_settings())
    before = config.parse_duration("lead", lead) if lead else None

    async def schedule(session: Session) -> dict[str, Any]:
        now = await store.now(session)
        # Both dates at once: one after the other, the stay might end before it begins.
        moved = {"check_in": check_in, "check_out": check_out}
        await stays.schedule(session, planner, _actor(), reservation, now, **moved, lead=before)
        return {
            kind: await queue_jobs.get_scheduled_job_status(session, reservation, kind)
            for kind in alarms.QUEUES
        }

    planned = _with_session(schedule)
    if json:
        typer.echo(tables.dumps(planned))
        return
    found = [
        {"kind": kind, **lock}
        for kind, job in planned.items()
        for lock in (job["data"]["locks"] if job else ())
    ]
    tables.show(found, title=f"jobs of {reservation}")


@jobs.command("cancel")
def jobs_cancel(reservation: StayId, json: Json = False) -> None:
    """Cancel what is scheduled for a stay, until it is scheduled again. No PIN stays on a door."""
    told = _with_session(lambda s: queue_jobs.cancel_scheduled_jobs(s, reservation, actor=_actor()))
    gone = [name.removesuffix("_cancelled") for name, cancelled in told.items() if cancelled]
    text = f"{reservation}: cancelled {' and '.join(gone)}" if gone else "nothing was scheduled"
    _tell(json, text, **told)


@jobs.command("retry")
def jobs_retry(
    job: Annotated[
        int | None,
        typer.Argument(min=1, max=2**63 - 1, help="Its number in `pinqueue jobs list`."),
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="All failed ones that match.")] = False,
    queue: Queue = None,
    lock: OfLock = None,
    listing: OfListing = None,
    reservation: OfStay = None,
    due_from: DueFrom = None,
    due_before: DueBefore = None,
    json: Json = False,
) -> None:
    """Begin a failed job again, at once; or all that match."""
    filters = (queue, lock, listing, reservation, due_from, due_before)
    if (job is None) != all_ or (job is not None and any(filters)):
        raise typer.BadParameter("give the number of a job, or --all with filters")
    if job is not None:
        status = _with_session(lambda s: queue_jobs.retry_job(s, job, actor=_actor()))
        _tell(json, f"job {job} begun again as job {status['job_id']}", **status)
        return
    which = _filter(queue, None, lock, listing, reservation, due_from, due_before)
    told = _with_session(lambda s: queue_jobs.retry_failed_jobs(s, which, actor=_actor()))
    _tell(json, f"{told['retried']} begun again, {told['left']} left", **told)


@jobs.command("clear-failed")
def jobs_clear_failed(queue: Queue = None, json: Json = False) -> None:
    """Delete failed jobs. The audit views keep what happened."""

    async def clear(session: Session) -> dict[str, int]:
        names = [queue] if queue else list(alarms.QUEUES.values())
        done = [await queue_jobs.clear_failed_jobs(session, n, actor=_actor()) for n in names]
        return {"cleared": sum(one["cleared"] for one in done)}

    told = _with_session(clear)
    _tell(json, f"{told['cleared']} failed jobs cleared", **told)


def _filter(
    queue: str | None,
    state: str | None,
    lock: str | None,
    listing: str | None,
    reservation: str | None,
    due_from: str | None,
    due_before: str | None,
) -> queues.JobFilter:
    return queues.JobFilter(
        queues=(queue,) if queue else (),
        state=state,
        lock_id=lock,
        listing_id=listing,
        reservation_id=reservation,
        due_from=config.parse_instant("due-from", due_from) if due_from else None,
        due_before=config.parse_instant("due-before", due_before) if due_before else None,
    )


# Looking


@codes.command("list")
def codes_list(reservation: OfStay = None, json: Json = False) -> None:
    """List access codes, without their PINs."""
    tables.show(_rows(audit.CODES, reservation=reservation, code=None), title="codes", as_json=json)


@codes.command("show")
def codes_show(code: CodeId, json: Json = False) -> None:
    """Show one access code, without its PIN."""
    found = _rows(audit.CODES, reservation=None, code=code)
    if not found:
        raise access_codes.unknown(code)
    if json:
        typer.echo(tables.dumps(found[0]))
    else:
        tables.show_facts(found[0], title=f"code {code}")


@codes.command("reveal")
def codes_reveal(code: CodeId, json: Json = False) -> None:
    """Print an access code's PIN. Who revealed what, and when, is audited."""
    sealer = sealing.sealer(config.read_settings())
    pin = _with_session(lambda s: audit.reveal(s, sealer, _actor(), code)).digits()
    _tell(json, pin, code=code, pin=pin)


@codes.command("reissue")
def codes_reissue(
    code: Annotated[
        int | None,
        typer.Argument(min=1, max=2**63 - 1, help="Its number in `pinqueue codes list`."),
    ] = None,
    reservation: OfStay = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")
    ] = False,
    json: Json = False,
) -> None:
    """Give a stay another PIN, on one lock or on all. One that is on a door comes off first."""
    if (code is None) == (reservation is None):
        raise typer.BadParameter("give the number of a code, or --reservation")
    planner = _planner(config.read_settings())

    async def reissue(session: Session) -> list[dict[str, Any]]:
        now, actor = await store.now(session), _actor()
        if reservation is not None:
            done = await stays.reissue(session, planner, actor, reservation, now, dry_run=dry_run)
            found = list(done)
        else:
            assert code is not None  # noqa: S101  # one of the two, says the check above
            given = planner.sealer, actor, code
            found = [await access_codes.reissue(session, *given, now=now, dry_run=dry_run)]
        return [
            {
                "code": one.id,
                "reservation_id": one.reservation_id,
                "lock_id": one.lock_id,
                "state": one.state,
                "comes_off_first": access_codes.comes_off_first(one),
            }
            for one in found
        ]

    told = _with_session(reissue)
    facts = {"codes": told} if code is None else told[0]
    _tell(json, "\n".join(_reissue_text(one, dry_run) for one in told), **facts, dry_run=dry_run)


def _reissue_text(told: dict[str, Any], dry_run: bool) -> str:
    if told["comes_off_first"]:
        what = "its PIN would come off first" if dry_run else "its PIN comes off first"
    else:
        what = "it would get another PIN at once" if dry_run else "it has another PIN"
    return f"access code {told['code']} on {told['lock_id']} is {told['state']}: {what}"


@codes.command("verify")
def codes_verify(code: CodeId, json: Json = False) -> None:
    """Ask for a PIN, unseen or from stdin, and say whether it is this code's. Exit code 1 if not.
    That it was asked is audited."""
    sealer = sealing.sealer(config.read_settings())
    pin = _asked_pin()
    right = _with_session(lambda s: audit.verify(s, sealer, _actor(), code, pin))
    text = f"that is {'' if right else 'not '}the PIN of access code {code}"
    _tell(json, text, code=code, matches=right)
    sys.exit(0 if right else 1)


def _asked_pin() -> Pin:
    typed = getpass.getpass("PIN: ") if sys.stdin.isatty() else sys.stdin.readline()
    try:
        return Pin(typed.strip())
    except ValueError as error:
        raise InputInvalid("pin", str(error)) from None


@cli.command("audit")
def audit_(
    view: Annotated[str | None, typer.Argument(help="Its name; none lists them.")] = None,
    reservation: OfStay = None,
    since: Annotated[str | None, typer.Option(help="Of the last 24h, 7d, ... only.")] = None,
    json: Json = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
) -> None:
    """Run an audit view, or list them."""
    if view is None:
        tables.show(audit.views(), title="views", as_json=json, as_csv=csv)
        return
    window = config.parse_duration("since", since) if since else None
    found = _with_session(lambda s: audit.view(s, view, reservation, window))
    if reservation and not (json or csv):  # room for what differs
        found = [{k: v for k, v in row.items() if k != "reservation_id"} for row in found]
    tables.show(found, title=view, as_json=json, as_csv=csv)


# Composition


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


def _planner(settings: Settings) -> Planner:
    return stays.Planner(sealing.sealer(settings), settings.lead)


def _with_session(use: Callable[[Session], Awaitable[T]]) -> T:
    """What one call returns, made in one transaction that commits if it does."""

    async def in_transaction(database: db.Database) -> T:
        async with database.transaction() as session:
            return await use(session)

    return _with_database(in_transaction)


def _with_database(use: Callable[[db.Database], Awaitable[T]]) -> T:
    """What one call returns that makes its own transactions, on a schema that is as it should."""
    settings = config.read_settings()
    settings.require("database_url")
    schema.check(settings.database_url)

    async def run() -> T:
        database = db.Database(settings.database_url, pool_size=1, name="pinqueue-cli")
        try:
            return await use(database)
        finally:
            await database.close()

    return asyncio.run(run())


def _tell(json: bool, text: str, **facts: Any) -> None:
    """What was done: a text, or the facts of it."""
    typer.echo(tables.dumps(facts) if json else text)


def _rows(query: str, **parameters: Any) -> list[dict[str, Any]]:
    return _with_session(lambda s: audit.rows(s, query, **parameters))


def _actor() -> str:
    return f"cli:{getpass.getuser()}"
