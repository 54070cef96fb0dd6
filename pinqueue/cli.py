"""The command line: every command, nothing else. Each composes what it needs, calls one verb."""

from __future__ import annotations

import asyncio
import getpass
import json as jsonlib
import sys
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
import uvicorn
import uvloop
from rich.console import Console
from rich.markup import escape

from pinqueue import (
    audit,
    config,
    deliveries,
    demo,
    health,
    inventory,
    logs,
    schema,
    sealing,
    store,
    up,
    webhooks,
)
from pinqueue import simulator as tuya_simulator
from pinqueue import worker as worker_process
from pinqueue.alarms import QUEUES
from pinqueue.config import Settings, read_settings
from pinqueue.db import Database, Session
from pinqueue.errors import ConfigInvalid, PinQueueError
from pinqueue.lifecycle import EVENT_TYPES
from pinqueue.locks.tuya import TuyaGateway
from pinqueue.metrics import Metrics
from pinqueue.models import Endpoint
from pinqueue.pins import LENGTHS
from pinqueue.posting import Answer, Poster
from pinqueue.reservations import Planner
from pinqueue.tables import show
from pinqueue.web import HttpProtocol, create_app

T = TypeVar("T")

cli = typer.Typer(no_args_is_help=True, help="Door PINs that work exactly when they should.")
locks = typer.Typer(no_args_is_help=True, help="The devices on the doors.")
listings = typer.Typer(no_args_is_help=True, help="The rented units, with their locks.")
sources = typer.Typer(no_args_is_help=True, help="The webhook senders.")
endpoints = typer.Typer(no_args_is_help=True, help="Where what happens is told, by webhook.")
keys = typer.Typer(no_args_is_help=True, help="API keys, and fresh secrets for the settings.")
codes = typer.Typer(no_args_is_help=True, help="Access codes: one PIN on one door for one stay.")
for name, group in {
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
LogLevel = Annotated[str, typer.Option(help="DEBUG, INFO, WARNING or ERROR.")]


def main() -> None:
    """Run the command line; a foreseen failure is one message and exit code 1 (2: settings)."""
    try:
        cli()
    except PinQueueError as error:
        Console(stderr=True, highlight=False).print("[red]pinqueue:[/]", escape(str(error)))
        sys.exit(2 if isinstance(error, ConfigInvalid) else 1)


# The processes


@cli.command("demo")
def demo_() -> None:
    """Show three stays, from signed webhook to revoked PIN. Leaves nothing behind."""
    logs.set_up(level="ERROR")
    sys.exit(asyncio.run(demo.run(Console())))


@cli.command("up")
def up_(
    data_dir: Annotated[Path | None, typer.Option(help="Where data and secrets live.")] = None,
    host: Host = "127.0.0.1",
    port: Port = 8080,
    simulate_locks: Annotated[bool, typer.Option(help="Locks of a simulated Tuya cloud.")] = False,
) -> None:
    """Run everything on one machine: web, worker, and a database unless you name one."""
    logs.set_up()
    settings = read_settings()
    asyncio.run(
        up.run(
            settings,
            Console(),
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
    settings = read_settings()
    app = create_app(settings)
    schema.check(settings.database_url)
    uvicorn.run(
        app,
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        server_header=False,
        http=HttpProtocol,
        timeout_graceful_shutdown=10,
    )


@cli.command()
def worker(
    concurrency: Annotated[
        int | None, typer.Option(min=1, help="Operations at a time; PINQUEUE_WORKER_CONCURRENCY.")
    ] = None,
    queues: Annotated[str, typer.Option(help="Queues to work on.")] = "generate_pin,revoke_pin",
    log_level: LogLevel = "INFO",
) -> None:
    """Run a worker process: it programs PINs and takes them off. Several may run."""
    logs.set_up(level=log_level)
    settings = read_settings()
    settings.require(*config.STORE, *config.LOCK_CLOUD)
    schema.check(settings.database_url)
    chosen = [queue.strip() for queue in queues.split(",") if queue.strip()]
    if unknown := set(chosen) - set(QUEUES.values()):
        raise PinQueueError(
            f"--queues: {min(unknown)!r} is not one of {', '.join(QUEUES.values())}"
        )
    concurrency = concurrency or settings.worker_concurrency
    metrics = Metrics()
    uvloop.run(
        worker_process.run(
            settings,
            _gateway(settings, concurrency, metrics),
            concurrency=concurrency,
            queues=chosen,
            metrics=metrics,
        )
    )


@cli.command()
def migrate() -> None:
    """Bring the database to this version's schema. Safe from several processes at once."""
    settings = read_settings()
    settings.require("database_url")
    schema.migrate(settings.database_url)
    typer.echo(f"the database is at revision {schema.current(settings.database_url)}")


@cli.command()
def check() -> None:
    """Check settings, database and schema without starting anything."""
    settings = read_settings()
    settings.require(*config.STORE)
    sealing.sealer(settings)
    typer.echo(f"database: reachable, revision {schema.check(settings.database_url)}")
    missing = [name for name in config.LOCK_CLOUD if not getattr(settings, name)]
    typer.echo(
        "locks: " + (f"no Tuya project set ({missing[0]})" if missing else "Tuya project set")
    )


@cli.command("health")
def health_(json: Json = False) -> None:
    """Whether PINs will be on time: database, workers, what is overdue. Exit code 1 if not."""
    settings = read_settings()
    settings.require("database_url")
    report = _with_session(health.report)
    typer.echo(jsonlib.dumps(report, default=str, indent=2)) if json else show(
        [{"what": key, "value": value} for key, value in report.items()], title="health"
    )
    sys.exit(0 if report["healthy"] else 1)


@cli.command()
def simulator(
    host: Host = "127.0.0.1",
    port: Port = 7777,
    device: Annotated[
        list[str] | None, typer.Option(help="A door, ID:PROTOCOL. May be given several times.")
    ] = None,
    access_id: Annotated[str, typer.Option()] = tuya_simulator.ACCESS_ID,
    access_secret: Annotated[str, typer.Option()] = tuya_simulator.ACCESS_SECRET,
) -> None:
    """Run a Tuya cloud with simulated doors, for trying and testing."""
    logs.set_up(level="WARNING")
    pairs = [tuple(text.rsplit(":", 1)) for text in device or []]
    if any(len(pair) != 2 or pair[1] not in LENGTHS for pair in pairs):
        raise PinQueueError(f"--device: write ID:PROTOCOL, the protocol {', '.join(LENGTHS)}")
    tuya_simulator.run(host, port, access_id, access_secret, [(p[0], p[1]) for p in pairs])


# Set-up


@locks.command("add")
def locks_add(
    lock: Annotated[str, typer.Argument(help="A name of your own for it.")],
    device_id: Annotated[str, typer.Option(help="Tuya's id of the device.")],
    protocol: Annotated[str, typer.Option(help="wifi, zigbee or bluetooth.")],
) -> None:
    """Add a lock."""
    _with_session(lambda s: inventory.add_lock(s, _actor(), lock, device_id, protocol))
    typer.echo(f"lock {lock} added")


@locks.command("list")
def locks_list(json: Json = False) -> None:
    """List the locks and the listings they belong to."""
    show(_rows(audit.LOCKS), title="locks", as_json=json)


@listings.command("add")
def listings_add(
    listing: Annotated[str, typer.Argument(help="The id its webhooks use.")],
    time_zone: Annotated[str, typer.Option(help="IANA name, e.g. America/Sao_Paulo.")],
    lock: Annotated[list[str] | None, typer.Option(help="A lock of it. May be repeated.")] = None,
    lead: Annotated[
        str | None, typer.Option(help="Program PINs so long before check-in, e.g. 1d.")
    ] = None,
) -> None:
    """Add a listing. Bookings that came in for it before are taken up now."""
    settings = read_settings()
    planner = _planner(settings)
    before = config.parse_duration("lead", lead) if lead else None

    async def add(session: Session) -> int:
        await inventory.add_listing(session, _actor(), listing, time_zone, lock or [], before)
        return await webhooks.adopt_unmapped(session, planner, listing)

    adopted = _with_session(add)
    typer.echo(
        f"listing {listing} added" + (f", {adopted} waiting events taken up" * bool(adopted))
    )


@listings.command("link")
def listings_link(listing: str, lock: str) -> None:
    """Add a lock to a listing. Stays ahead get a PIN on it too."""
    planner = _planner(read_settings())
    stays = _with_session(lambda s: inventory.link_lock(s, planner, _actor(), listing, lock))
    typer.echo(f"lock {lock} belongs to listing {listing}; {stays} stays ahead planned")


@listings.command("list")
def listings_list(json: Json = False) -> None:
    """List the listings with their locks."""
    show(_rows(audit.LISTINGS), title="listings", as_json=json)


@sources.command("add")
def sources_add(
    source: Annotated[str, typer.Argument(help="Its name in /webhooks/{source}.")],
    kind: Annotated[str, typer.Option(help="pinqueue.")] = "pinqueue",
    secret: Annotated[
        str | None, typer.Option(help="whsec_...; a new one is made if not given.")
    ] = None,
) -> None:
    """Add a webhook sender and print its signing secret, once."""
    if kind not in webhooks.SENDERS:
        raise PinQueueError(f"--kind: must be one of {', '.join(webhooks.SENDERS)}")
    sealer = sealing.sealer(read_settings())
    typer.echo(
        _with_session(lambda s: inventory.add_source(s, sealer, _actor(), source, kind, secret))
    )


@sources.command("rotate")
def sources_rotate(
    source: str,
    secret: Annotated[str | None, typer.Option(help="whsec_...; made if not given.")] = None,
    keep_old: Annotated[str, typer.Option(help="How long the old one verifies too.")] = "24h",
) -> None:
    """Give a sender another signing secret and print it, once."""
    sealer = sealing.sealer(read_settings())
    keep = config.parse_duration("keep-old", keep_old)
    typer.echo(
        _with_session(lambda s: inventory.rotate_source(s, sealer, _actor(), source, secret, keep))
    )


@sources.command("list")
def sources_list(json: Json = False) -> None:
    """List the webhook senders."""
    show(_rows(audit.SOURCES), title="sources", as_json=json)


@endpoints.command("add")
def endpoints_add(
    endpoint: Annotated[str, typer.Argument(help="A name of your own for it.")],
    url: Annotated[str, typer.Argument(help="https, or http on loopback.")],
    event: Annotated[
        list[str] | None,
        typer.Option(help=f"{', '.join(EVENT_TYPES.values())}. May be repeated; all if not given."),
    ] = None,
    secret: Annotated[
        str | None, typer.Option(help="whsec_...; a new one is made if not given.")
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="It is in a private network.")] = False,
) -> None:
    """Have events posted to a URL, and print the secret they are signed with, once."""
    sealer = sealing.sealer(read_settings())

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
        )

    typer.echo(_with_session(add))


@endpoints.command("list")
def endpoints_list(json: Json = False) -> None:
    """List the endpoints, with what waits for each and how its last try ended."""
    show(_rows(audit.ENDPOINTS), title="endpoints", as_json=json)


@endpoints.command("test")
def endpoints_test(endpoint: str) -> None:
    """Post a signed `ping` now and print the answer. Exit code 1 unless it is a 2xx."""
    sealer = sealing.sealer(read_settings())

    async def look(session: Session) -> tuple[Endpoint, datetime]:
        return await inventory.endpoint_of(session, endpoint), await store.now(session)

    found, now = _with_session(look)

    async def ping() -> Answer:
        poster = Poster()
        try:
            return await deliveries.ping(sealer, poster, found, now)
        finally:
            await poster.close()

    answer = asyncio.run(ping())
    if not answer.taken:
        raise PinQueueError(f"endpoint {endpoint}: {answer}")
    typer.echo(f"endpoint {endpoint}: {answer}")


@endpoints.command("enable")
def endpoints_enable(endpoint: str) -> None:
    """Post there again, after it was disabled because it answered 410."""
    _with_session(lambda s: inventory.enable_endpoint(s, _actor(), endpoint))
    typer.echo(f"endpoint {endpoint} enabled")


@endpoints.command("remove")
def endpoints_remove(endpoint: str) -> None:
    """Post there no more; what is still on its way is dropped."""
    _with_session(lambda s: inventory.remove_endpoint(s, _actor(), endpoint))
    typer.echo(f"endpoint {endpoint} removed")


@keys.command("create")
def keys_create(
    name: str,
    scope: Annotated[
        list[str] | None, typer.Option(help="read, operate, reveal or admin. May be repeated.")
    ] = None,
) -> None:
    """Create an API key and print it, once."""
    scopes = scope or ["read"]
    typer.echo(_with_session(lambda s: inventory.create_key(s, _actor(), name, scopes)))


@keys.command("revoke")
def keys_revoke(name: str) -> None:
    """Make an API key worthless."""
    _with_session(lambda s: inventory.revoke_key(s, _actor(), name))
    typer.echo(f"key {name} revoked")


@keys.command("list")
def keys_list(json: Json = False) -> None:
    """List the API keys; the keys themselves are not stored."""
    show(_rows(audit.KEYS), title="keys", as_json=json)


@keys.command("generate")
def keys_generate() -> None:
    """Print fresh PINQUEUE_SECRET_KEYS and PINQUEUE_PIN_PEPPER, for `.env`."""
    for setting, value in up.new_secrets().items():
        typer.echo(f"{setting}={value}")


# Looking


@codes.command("list")
def codes_list(
    reservation: Annotated[str | None, typer.Option(help="Of this stay only.")] = None,
    json: Json = False,
) -> None:
    """List access codes, without their PINs."""
    show(_rows(audit.CODES, reservation=reservation, code=None), title="codes", as_json=json)


@codes.command("show")
def codes_show(code: CodeId, json: Json = False) -> None:
    """Show one access code, without its PIN."""
    found = _rows(audit.CODES, reservation=None, code=code)
    if not found:
        raise PinQueueError(f"there is no access code {code}")
    show(found, title=f"code {code}", as_json=json)


@codes.command("reveal")
def codes_reveal(code: CodeId) -> None:
    """Print an access code's PIN. Who revealed what, and when, is audited."""
    sealer = sealing.sealer(read_settings())
    typer.echo(_with_session(lambda s: audit.reveal(s, sealer, _actor(), code)).digits())


@cli.command("audit")
def audit_(
    view: Annotated[str, typer.Argument(help=", ".join(audit.VIEWS))],
    reservation: Annotated[str | None, typer.Option(help="Of this stay only.")] = None,
    since: Annotated[str | None, typer.Option(help="Of the last 24h, 7d, ... only.")] = None,
    json: Json = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
) -> None:
    """Run an audit view."""
    window = config.parse_duration("since", since) if since else None
    found = _with_session(lambda s: audit.view(s, view, reservation, window))
    show(found, title=view, as_json=json, as_csv=csv)


# Composition


def _gateway(settings: Settings, concurrency: int, metrics: Metrics) -> TuyaGateway:
    return TuyaGateway(
        region=settings.tuya_region,
        access_id=settings.tuya_access_id,
        access_secret=settings.tuya_access_secret.get_secret_value(),
        url=settings.tuya_url or None,
        ca=settings.tuya_ca or None,
        concurrency=concurrency,
        metrics=metrics,
    )


def _planner(settings: Settings) -> Planner:
    return Planner(sealing.sealer(settings), settings.lead)


def _with_session(use: Callable[[Session], Awaitable[T]]) -> T:
    """What one call returns, made in one transaction that commits if it does."""
    settings = read_settings()
    settings.require("database_url")
    schema.check(settings.database_url)

    async def run() -> T:
        db = Database(settings.database_url, pool_size=1, name="pinqueue-cli")
        try:
            async with db.transaction() as session:
                return await use(session)
        finally:
            await db.close()

    return asyncio.run(run())


def _rows(query: str, **parameters: Any) -> list[dict[str, Any]]:
    return _with_session(lambda s: audit.rows(s, query, **parameters))


def _actor() -> str:
    return f"cli:{getpass.getuser()}"
