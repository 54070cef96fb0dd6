"""Codes: see, reveal, verify and reissue access codes."""

from __future__ import annotations

import getpass
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pinqueue.cli.later import audit, codes, reservations, store, tables
from pinqueue.cli.options import CodeId, Json, OfStay
from pinqueue.cli.printing import tell
from pinqueue.cli.sessions import actor, configured_planner, configured_sealer, rows, with_session
from pinqueue.errors import InputInvalid
from pinqueue.pins import Pin

if TYPE_CHECKING:
    from pinqueue.db import Session

commands = typer.Typer(no_args_is_help=True, help="Access codes: one PIN on one door for one stay.")


@commands.command("list")
def codes_list(reservation: OfStay = None, json: Json = False) -> None:
    """List access codes, without their PINs."""
    tables.show(rows(audit.CODES, reservation=reservation, code=None), title="codes", as_json=json)


@commands.command("show")
def codes_show(code: CodeId, json: Json = False) -> None:
    """Show one access code, without its PIN."""
    found = rows(audit.CODES, reservation=None, code=code)
    if not found:
        raise codes.unknown(code)
    if json:
        typer.echo(tables.dumps(found[0]))
    else:
        tables.show_facts(found[0], title=f"code {code}")


@commands.command("reveal")
def codes_reveal(code: CodeId, json: Json = False) -> None:
    """Print an access code's PIN. Who revealed what, and when, is audited."""
    sealer = configured_sealer()
    pin = with_session(lambda s: audit.reveal(s, sealer, actor(), code)).digits()
    tell(json, pin, code=code, pin=pin)


@commands.command("reissue")
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
    planner = configured_planner()

    async def reissue(session: Session) -> list[dict[str, Any]]:
        now, by = await store.now(session), actor()
        if reservation is not None:
            done = await reservations.reissue(
                session, planner, by, reservation, now, dry_run=dry_run
            )
            found = list(done)
        else:
            assert code is not None  # noqa: S101  # one of the two, says the check above
            given = planner.sealer, by, code
            found = [await codes.reissue(session, *given, now=now, dry_run=dry_run)]
        return [
            {
                "code": one.id,
                "reservation_id": one.reservation_id,
                "lock_id": one.lock_id,
                "state": one.state,
                "comes_off_first": codes.comes_off_first(one),
            }
            for one in found
        ]

    told = with_session(reissue)
    facts = {"codes": told} if code is None else told[0]
    tell(json, "\n".join(_reissue_text(one, dry_run) for one in told), **facts, dry_run=dry_run)


def _reissue_text(told: dict[str, Any], dry_run: bool) -> str:
    if told["comes_off_first"]:
        what = "its PIN would come off first" if dry_run else "its PIN comes off first"
    else:
        what = "it would get another PIN at once" if dry_run else "it has another PIN"
    return f"access code {told['code']} on {told['lock_id']} is {told['state']}: {what}"


@commands.command("verify")
def codes_verify(code: CodeId, json: Json = False) -> None:
    """Ask for a PIN, unseen or from stdin, and say whether it is this code's. Exit code 1 if not.
    That it was asked is audited."""
    sealer = configured_sealer()
    pin = _asked_pin()
    right = with_session(lambda s: audit.verify(s, sealer, actor(), code, pin))
    text = f"that is {'' if right else 'not '}the PIN of access code {code}"
    tell(json, text, code=code, matches=right)
    sys.exit(0 if right else 1)


def _asked_pin() -> Pin:
    typed = getpass.getpass("PIN: ") if sys.stdin.isatty() else sys.stdin.readline()
    try:
        return Pin(typed.strip())
    except ValueError as error:
        raise InputInvalid("pin", str(error)) from None
