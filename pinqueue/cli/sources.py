"""Sources: set up who sends webhooks, and how to ask his API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from pinqueue.cli.later import audit, config, fetchers, inventory, tables, webhooks
from pinqueue.cli.options import Json
from pinqueue.cli.printing import tell
from pinqueue.cli.sessions import actor, configured_sealer, rows, with_session
from pinqueue.errors import InputInvalid

if TYPE_CHECKING:
    from pinqueue.db import Session

commands = typer.Typer(no_args_is_help=True, help="The webhook senders.")


@commands.command("add")
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
    sealer = configured_sealer()
    api = fetchers.checked_api(kind, api_url, api_token, api_user) if api_token else None

    async def add(session: Session) -> str:
        made = await inventory.add_source(session, sealer, actor(), source, kind, secret)
        if api is not None:
            await session.flush()
            await inventory.set_api(session, sealer, actor(), source, api.dump())
        return made

    made = with_session(add)
    tell(json, made, source=source, kind=kind, secret=made)


@commands.command("api")
def sources_api(
    source: str,
    token: Annotated[str, typer.Option(help="Token, key or password.")],
    url: Annotated[str, typer.Option(help="Where not the usual.")] = "",
    user: Annotated[str, typer.Option(help="Login, client or account id.")] = "",
    json: Json = False,
) -> None:
    """Let a sender's bookings be read from its API, or give it another token."""
    sealer = configured_sealer()

    async def give(session: Session) -> None:
        kind = await inventory.source_kind(session, source)
        api = fetchers.checked_api(kind, url, token, user)
        await inventory.set_api(session, sealer, actor(), source, api.dump())

    with_session(give)
    tell(json, f"the bookings of source {source} are compared within a minute", source=source)


@commands.command("rotate")
def sources_rotate(
    source: str,
    secret: Annotated[str | None, typer.Option(help="whsec_...; made if not given.")] = None,
    keep_old: Annotated[str, typer.Option(help="How long the old one verifies too.")] = "24h",
    json: Json = False,
) -> None:
    """Give a sender another signing secret and print it, once."""
    sealer = configured_sealer()
    keep = config.parse_duration("keep-old", keep_old)
    made = with_session(lambda s: inventory.rotate_source(s, sealer, actor(), source, secret, keep))
    tell(json, made, source=source, secret=made, old_verifies_for=keep.total_seconds())


@commands.command("list")
def sources_list(json: Json = False) -> None:
    """List the webhook senders."""
    tables.show(rows(audit.SOURCES), title="sources", as_json=json)
