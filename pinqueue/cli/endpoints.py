"""Endpoints: set up where what happens is told, and look after what is posted there."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from pinqueue.cli.later import audit, deliveries, inventory, posting, store, tables
from pinqueue.cli.options import Json
from pinqueue.cli.printing import tell
from pinqueue.cli.sessions import actor, configured_sealer, rows, with_session
from pinqueue.errors import PinQueueError
from pinqueue.lifecycle import EventType

if TYPE_CHECKING:
    from pinqueue.db import Session
    from pinqueue.models import Endpoint

commands = typer.Typer(no_args_is_help=True, help="Where what happens is told, by webhook.")


@commands.command("add")
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
    sealer = configured_sealer()

    async def add(session: Session) -> str:
        return await inventory.add_endpoint(
            session,
            sealer,
            actor(),
            endpoint,
            url,
            events=event or [],
            secret=secret,
            private=private,
            with_pin=with_pin,
        )

    made = with_session(add)
    tell(json, made, endpoint=endpoint, url=url, secret=made)


@commands.command("list")
def endpoints_list(json: Json = False) -> None:
    """List the endpoints, with what waits for each and how its last try ended."""
    tables.show(rows(audit.ENDPOINTS), title="endpoints", as_json=json)


@commands.command("test")
def endpoints_test(endpoint: str, json: Json = False) -> None:
    """Post a signed `ping` now and print the answer. Exit code 1 unless it is a 2xx."""
    sealer = configured_sealer()

    async def look(session: Session) -> tuple[Endpoint, datetime]:
        return await inventory.endpoint_of(session, endpoint), await store.now(session)

    found, now = with_session(look)

    async def ping() -> posting.Answer:
        poster = posting.Poster()
        try:
            return await deliveries.ping(sealer, poster, found, now)
        finally:
            await poster.close()

    answer = asyncio.run(ping())
    if not answer.taken:
        raise PinQueueError(f"endpoint {endpoint}: {answer}")
    tell(json, f"endpoint {endpoint}: {answer}", endpoint=endpoint, answer=str(answer))


@commands.command("deliveries")
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
    found = with_session(
        lambda s: deliveries.listed(s, endpoint, state=state, before=before, limit=limit)
    )
    tables.show(found, title="deliveries", as_json=json)


@commands.command("redeliver")
def endpoints_redeliver(
    delivery: Annotated[
        int,
        typer.Argument(min=1, max=2**63 - 1, help="Its number in `pinqueue endpoints deliveries`."),
    ],
    json: Json = False,
) -> None:
    """Post a delivery again, at once, with the same `webhook-id`."""
    told = with_session(lambda s: deliveries.redeliver(s, actor(), delivery))
    tell(json, f"delivery {delivery} is posted to {told['endpoint']} again", **told)


@commands.command("enable")
def endpoints_enable(endpoint: str, json: Json = False) -> None:
    """Post there again, after it was disabled because it answered 410."""
    with_session(lambda s: inventory.enable_endpoint(s, actor(), endpoint))
    tell(json, f"endpoint {endpoint} enabled", endpoint=endpoint, enabled=True)


@commands.command("remove")
def endpoints_remove(endpoint: str, json: Json = False) -> None:
    """Post there no more; what is still on its way is dropped."""
    with_session(lambda s: inventory.remove_endpoint(s, actor(), endpoint))
    tell(json, f"endpoint {endpoint} removed", endpoint=endpoint, removed=True)
