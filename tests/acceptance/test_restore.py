"""A drill: the database is lost, its backup is restored, and the doors know more than it does."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from sqlalchemy import make_url

from pinqueue.embedded import programs
from pinqueue.simulator import Control
from tests.acceptance.processes import House, post, stay
from tests.pages import text_of


def run(program: str, *arguments: str | Path) -> str:
    """One of PostgreSQL's own programs; what it says besides what it prints."""
    command = [programs() / program, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stderr


def back_up(house: House) -> Path:
    """As the page says."""
    page = text_of("docs/install.md#backup-and-restore")
    (line,) = re.findall(r"^\| with a server of your own \| `([^`]*)` \|", page, re.MULTILINE)
    house.typed(line)
    return house.folder / "pinqueue.sql"


def restore(url: str, file: Path) -> None:
    said = run("psql", "--quiet", "--no-psqlrc", "--file", file, url)
    # Ours may be newer than the server: a dump begins with settings that an older one has not.
    faults = [line for line in said.splitlines() if "ERROR" in line]
    assert [line for line in faults if "unrecognized configuration parameter" not in line] == []


def told(reservation: str, **changes: Any) -> dict[str, Any]:
    return stay(reservation, -60, 86400, **changes)


def lose_and_restore(house: House, file: Path) -> None:
    """The database as it was when it was backed up, in a new one of the same name."""
    database = sql.Identifier(make_url(house.database_url).database or "")
    with psycopg.connect(house.database_url, autocommit=True, dbname="postgres") as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(database))
        connection.execute(sql.SQL("CREATE DATABASE {}").format(database))
    restore(house.database_url, file)


def test_after_a_restore_doors_and_rows_agree_again_and_nothing_is_there_twice(
    house: House, doors: Control
) -> None:
    house.set_up({"sim-zigbee-1": "zigbee"})
    doors.settings(zigbee_seconds=0)
    url, web = house.web()
    worker = house.worker()
    for reservation in ("stays", "leaves"):
        assert post(url, told(reservation)).status_code == 200
    house.reach("active")
    worker.ask_to_stop()
    assert worker.code() == 0
    assert post(url, told("comes")).status_code == 200  # due, and on no door yet

    backup = back_up(house)

    # What happens after the backup is known to the doors, and soon to nobody else.
    worker = house.worker()
    house.reach("active", "comes")
    pins = {name: pin_of(house, name) for name in ("stays", "leaves", "comes")}
    off = {**told("leaves", status="cancelled"), "type": "reservation.cancelled"}
    assert post(url, off, "msg_leaves_off").status_code == 200
    house.reach("revoked", "leaves")
    assert post(url, told("booked-after"), "msg_booked_after").status_code == 200
    house.reach("active", "booked-after")
    for process in (web, worker):
        process.kill()

    lose_and_restore(house, backup)
    assert house.run("migrate").returncode == 0
    assert sorted(house.states()) == ["active", "active", "scheduled"]
    url, _ = house.web()
    house.worker()

    # What was due is looked for on its door before anything is put there.
    house.reach("active", "comes")
    # Senders tell again what they are asked to: the same events, as no one has seen them.
    assert post(url, off, "msg_leaves_off").json() == {"status": "accepted"}
    assert post(url, told("booked-after"), "msg_booked_after").json() == {"status": "accepted"}
    house.reach("revoked", "leaves")
    house.reach("active", "booked-after")
    assert {name: pin_of(house, name) for name in ("stays", "comes")} == {
        name: pins[name] for name in ("stays", "comes")
    }
    for name in ("stays", "comes"):
        held = [entry for entry in doors.ledger("sim-zigbee-1") if entry["pin"] == pins[name]]
        assert len(held) == 1, f"{name} was put on its door once"
        assert doors.open("sim-zigbee-1", pins[name])
    assert not doors.open("sim-zigbee-1", pins["leaves"])
    assert doors.open("sim-zigbee-1", pin_of(house, "booked-after"))
    assert house.ask("SELECT FROM audit_overdue_pins") == []


def pin_of(house: House, reservation: str) -> str:
    code = house.value("SELECT max(id) FROM access_codes WHERE reservation_id = %s", reservation)
    return house.run("codes", "reveal", str(code)).stdout.strip()
