"""Keys: who may use the API, and the secrets that seal what is stored."""

from __future__ import annotations

from typing import Annotated

import typer

from pinqueue.cli.later import audit, inventory, rotating, tables, up
from pinqueue.cli.options import Json
from pinqueue.cli.printing import tell
from pinqueue.cli.sessions import actor, configured_sealer, rows, with_database, with_session

commands = typer.Typer(no_args_is_help=True, help="API keys, and fresh secrets for the settings.")


@commands.command("create")
def keys_create(
    name: str,
    scope: Annotated[
        list[str] | None, typer.Option(help="read, operate, reveal or admin. May be repeated.")
    ] = None,
    json: Json = False,
) -> None:
    """Create an API key and print it, once."""
    scopes = scope or ["read"]
    key = with_session(lambda s: inventory.create_key(s, actor(), name, scopes))
    tell(json, key, name=name, scopes=scopes, key=key)


@commands.command("revoke")
def keys_revoke(name: str, json: Json = False) -> None:
    """Make an API key worthless."""
    with_session(lambda s: inventory.revoke_key(s, actor(), name))
    tell(json, f"key {name} revoked", name=name, revoked=True)


@commands.command("list")
def keys_list(json: Json = False) -> None:
    """List the API keys; the keys themselves are not stored."""
    tables.show(rows(audit.KEYS), title="keys", as_json=json)


@commands.command("generate")
def keys_generate(json: Json = False) -> None:
    """Print fresh PINQUEUE_SECRET_KEYS and PINQUEUE_PIN_PEPPER, for `.env`."""
    fresh = up.new_secrets()
    tell(json, "\n".join(f"{setting}={value}" for setting, value in fresh.items()), **fresh)


@commands.command("rotate-secrets")
def keys_rotate_secrets(json: Json = False) -> None:
    """Seal anew, under the first of PINQUEUE_SECRET_KEYS, all that older keys have sealed."""
    sealer = configured_sealer()
    counts = with_database(lambda d: rotating.rotate_secrets(d, sealer, actor()))
    told = ", ".join(f"{count} {table}" for table, count in counts.items())
    tell(json, f"sealed anew: {told}; only the first key is needed now", **counts)
