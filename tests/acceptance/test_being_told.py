"""Being told what happened: by a webhook and by a Python hook, from a worker process."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from pinqueue.simulator import Control
from tests.acceptance.processes import House, Running, until
from tests.acceptance.test_commands import done, refused
from tests.factories import SECRET
from tests.leaks import leaks
from tests.pages import blocks
from tests.receiving import Receiver, receiving

NOT_SUBSCRIBED = 28841105
"""Of a cloud project that may not use this API: trying again does not help."""
HOOKS = """
import asyncio, json, os, pathlib

folder = pathlib.Path(os.environ["DESK_FOLDER"])

def write(name, event):
    with (folder / name).open("a") as file:
        file.write(json.dumps(event) + "\\n")

async def tell(event):
    await asyncio.sleep(0)
    write("told", event)

def complain(event):
    write("complained", event)
    raise RuntimeError("the desk is closed")
"""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


def install(folder: Path, *points: str) -> dict[str, str]:
    """A distribution with these entry points, as an installer leaves it on the path."""
    metadata = folder / "packages" / "desk-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: desk\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("\n".join(["[pinqueue.hooks]", *points, ""]))
    (metadata.parent / "desk.py").write_text(HOOKS)
    return {"PYTHONPATH": str(metadata.parent), "DESK_FOLDER": str(folder)}


def events_in(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def pin_of(house: House) -> str:
    code = house.value("SELECT min(id) FROM access_codes")
    return done(house.run("codes", "reveal", str(code)))


def started(house: House, *points: str) -> Running:
    return house.start("worker", settings=install(house.folder, *points))


@pytest.fixture
def trusted() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


def test_a_worker_tells_what_became_of_a_pin_and_the_pin_only_to_whom_it_is_to_be_told(
    house: House, receiver: Receiver, trusted: Receiver, tmp_path: Path
) -> None:
    house.set_up({"sim-zigbee-1": "zigbee"})
    house.receive("res-1")
    pin = pin_of(house)
    done(house.run("endpoints", "add", "desk", receiver.url, "--secret", SECRET))
    with_pin = ("--with-pin", "--event", "code.active", "--secret", SECRET)
    done(house.run("endpoints", "add", "trusted", trusted.url, *with_pin))
    house.change(
        "UPDATE operations SET due_at = now(), next_at = now() WHERE kind = 'generate';"
        "UPDATE procrastinate_jobs SET scheduled_at = now() WHERE queue_name = 'generate_pin'"
    )
    worker = started(house, "tell = desk:tell", "complain = desk:complain")
    (posted,) = receiver.wait_for(1)
    body = posted.verified()
    assert body["type"] == "code.active"
    assert body["data"]["reservation_id"] == "res-1"
    told, complained = tmp_path / "told", tmp_path / "complained"
    until(lambda: told.exists() and complained.exists(), "both hooks are called")
    house.receive("res-1", cancelled=True)
    receiver.wait_for(2)
    until(lambda: len(events_in(told)) == 2, "the hook is told of the removal")
    worker.ask_to_stop()
    assert worker.code() == 0
    assert [one["type"] for one in events_in(told)] == ["code.active", "code.revoked"]
    assert events_in(told) == receiver.bodies()
    assert events_in(complained) == events_in(told), "a hook that fails is called again"
    failed = worker.logged_as("hook-failed")
    assert {(line["hook"], line["type"]) for line in failed} == {
        ("complain", "code.active"),
        ("complain", "code.revoked"),
    }
    assert house.states() == ["revoked"]
    (told_with_it,) = trusted.wait_for(1)
    assert told_with_it.verified()["data"].pop("pin") == pin
    assert house.ask("SELECT actor FROM audit_events WHERE event = 'code:revealed'")[1:] == [
        {"actor": "endpoint:trusted"}
    ]
    everything = worker.log() + told.read_text() + str(receiver.posted)
    assert leaks(everything, [pin]) == set()
    assert SECRET not in worker.log()


def test_a_hook_is_told_of_a_pin_that_failed_and_why(
    house: House, doors: Control, tmp_path: Path
) -> None:
    house.set_up({"sim-zigbee-1": "zigbee"})
    doors.fault("code", {"path": "temp-passwords"}, code=NOT_SUBSCRIBED, times=9)
    house.receive("res-1", check_in=datetime.now(UTC).isoformat())
    started(house, "tell = desk:tell")
    until(lambda: events_in(tmp_path / "told"), "the hook is told")
    (told,) = events_in(tmp_path / "told")
    data = {"reservation_id": "res-1", "kind": "generate", "state": "failed", "attempts": 1}
    assert told["type"] == "code.failed"
    assert told["data"].items() >= data.items()
    assert str(NOT_SUBSCRIBED) in told["data"]["error"]


def test_the_readmes_hook_is_called_by_the_entry_point_that_it_shows(
    house: House, tmp_path: Path
) -> None:
    point, hook = blocks("README.md#by-a-python-function", "toml", "python")
    points = tomllib.loads(point)["project"]["entry-points"]["pinqueue.hooks"]
    package = tmp_path / "packages" / "my_package"
    package.mkdir(parents=True)
    (package / "desk.py").write_text(hook)
    house.environment["PYTHONUNBUFFERED"] = "1"
    house.set_up({"sim-zigbee-1": "zigbee"})
    house.receive("res-1", check_in=datetime.now(UTC).isoformat())
    started(house, *(f"{name} = {place}" for name, place in points.items())).logged(
        "code.active res-1"
    )


def test_a_worker_whose_hook_cannot_be_imported_does_not_start_and_says_which(house: House) -> None:
    worker = started(house, "tell = desk:absent")
    assert worker.code() == 2
    assert "the hook tell (desk:absent) cannot be imported: AttributeError" in " ".join(
        worker.log().split()
    )


def listed(house: House) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = json.loads(done(house.run("endpoints", "list", "--json")))
    return rows


def test_an_endpoint_is_added_tried_listed_and_removed(house: House, receiver: Receiver) -> None:
    secret = done(house.run("endpoints", "add", "desk", receiver.url, "--event", "code.active"))
    assert re.fullmatch(r"whsec_[A-Za-z0-9+/=]{44}", secret)
    assert listed(house) == [
        {
            "endpoint": "desk",
            "url": receiver.url,
            "events": ["code.active"],
            "private": False,
            "with_pin": False,
            "enabled": True,
            "disabled_reason": None,
            "waiting": 0,
            "last_status": None,
            "last_error": None,
        }
    ]
    assert "whsec_" not in house.run("endpoints", "list").stdout
    assert done(house.run("endpoints", "test", "desk")) == "endpoint desk: HTTP 200"
    (posted,) = receiver.posted
    assert posted.verified(secret)["type"] == "ping"
    receiver.status, receiver.answer = 500, b"no room at the desk"
    said = refused(house.run("endpoints", "test", "desk"))
    assert said.endswith("endpoint desk: HTTP 500: no room at the desk")
    house.change(
        "UPDATE endpoints SET enabled = false, disabled_at = now(), disabled_reason = 'HTTP 410'"
    )
    done(house.run("endpoints", "enable", "desk"))
    assert listed(house)[0]["enabled"] is True
    done(house.run("endpoints", "remove", "desk"))
    assert listed(house) == []
    told = [row["event"] for row in house.ask("SELECT event FROM audit_events ORDER BY id")]
    assert told == ["endpoint:added", "endpoint:enabled", "endpoint:removed"]


def test_what_was_not_taken_is_listed_and_posted_again(house: House, receiver: Receiver) -> None:
    house.set_up({"sim-zigbee-1": "zigbee"})
    done(house.run("endpoints", "add", "desk", receiver.url, "--secret", SECRET))
    house.receive("res-1")
    receiver.status = 410
    worker = house.start("worker")
    (refused_,) = receiver.wait_for(1)
    failed = ("endpoints", "deliveries", "desk", "--state", "failed", "--json")
    until(lambda: json.loads(done(house.run(*failed))), "it has failed")
    (delivery,) = json.loads(done(house.run(*failed)))
    assert (delivery["type"], delivery["reservation_id"]) == ("code.scheduled", "res-1")
    assert (delivery["event_id"], delivery["last_error"]) == (refused_.event_id, "HTTP 410")
    number = str(delivery["delivery"])
    assert "enable desk" in refused(house.run("endpoints", "redeliver", number))
    receiver.status = 200
    done(house.run("endpoints", "enable", "desk"))
    said = done(house.run("endpoints", "redeliver", number))
    assert said == f"delivery {number} is posted to desk again"
    receiver.wait_for(2)
    assert receiver.posted[1].event_id == refused_.event_id
    worker.ask_to_stop()
    assert worker.code() == 0
    assert json.loads(done(house.run(*failed))) == []


REFUSED = {
    ("add", "desk", "http://example.com/"): "url: must be https, or http on loopback",
    ("add", "desk", "https://10.0.0.5/"): "--private",
    ("add", "desk", "http://example.com/", "--with-pin"): "url: must be https, or http on loopback",
    ("add", "desk", "https://example.com/", "--event", "code.guessed"): "'code.guessed' is not one",
    ("add", "desk", "https://example.com/", "--secret", "short"): "secret: must be whsec_",
    ("add", "no/name", "https://example.com/"): "endpoint: name it",
    ("test", "desk"): "there is no endpoint desk",
    ("enable", "desk"): "there is no endpoint desk",
    ("remove", "desk"): "there is no endpoint desk",
    ("deliveries", "desk"): "there is no endpoint desk",
    ("redeliver", "7"): "there is no delivery 7",
}


@pytest.mark.parametrize("command", REFUSED, ids=" ".join)
def test_what_cannot_be_is_refused_with_a_message(house: House, command: Sequence[str]) -> None:
    ended: CompletedProcess[str] = house.run("endpoints", *command)
    code = 2 if command[0] == "add" else 1
    assert REFUSED[tuple(command)] in refused(ended, code)
    assert house.value("SELECT count(*) FROM audit_events") == 0
