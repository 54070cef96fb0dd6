"""docs/senders.md: each property system is connected as its section says, word for word."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from pinqueue.fetchers import Api
from pinqueue.models import SOURCE_KINDS
from pinqueue.simulator import Control
from tests.acceptance.processes import House, until
from tests.conftest import PYTHON
from tests.pages import ROOT, blocks, commands, filled, text_of
from tests.senders import cloudbeds, hostaway, lodgify, smoobu, stays
from tests.senders.each import SENDERS, Json, as_bytes
from tests.senders.stay import Stay

REST = "--time-zone America/Sao_Paulo --lock front-door --lead 30d"
"""What stands for the dots of `listings add`; all that is booked ahead is due at once."""


@dataclass(frozen=True)
class Section:
    place: str
    kind: str
    has: Callable[[Stay, Json], Json]
    """A stay as its API has it, made of the stay or of the event that tells it."""


def at_cloudbeds(stay: Stay, event: Json) -> Json:
    id_ = event["reservationId"]
    return {
        "propertyID": cloudbeds.PROPERTY,
        "reservationID": id_,
        "status": "confirmed",
        "startDate": event["startDate"],
        "endDate": event["endDate"],
        "rooms": [cloudbeds.room(id_, stay.listing, 10)],
    }


SECTIONS = [
    Section("docs/senders.md#staysnet", "stays", lambda _, told: stays.full(**told["payload"])),
    Section("docs/senders.md#hospitable", "hospitable", lambda _, told: told["data"]),
    Section("docs/senders.md#hostaway", "hostaway", lambda stay, _: hostaway.lists(stay)),
    Section("docs/senders.md#lodgify", "lodgify", lambda stay, _: lodgify.lists(stay)),
    Section("docs/senders.md#guesty", "guesty", lambda _, told: told["reservation"]),
    Section("docs/senders.md#cloudbeds", "cloudbeds", at_cloudbeds),
    Section("docs/senders.md#smoobu", "smoobu", lambda stay, _: smoobu.lists(stay)),
]
IN_ALL = "docs/senders.md#webhook-senders"
ADDING = "docs/senders.md#adding-a-sender"


def test_each_property_system_has_its_section() -> None:
    assert {section.kind for section in SECTIONS} == set(SOURCE_KINDS) - {"pinqueue"}


def test_guests_of_every_property_system_connected_as_the_page_says_are_let_in(
    house: House, doors: Control
) -> None:
    """Their APIs are played; all else is what the page says, a web process and a worker."""
    doors.settings(zigbee_seconds=0)
    typed(house, "pinqueue locks add front-door --device-id sim-zigbee-1 --protocol zigbee")
    url, _ = house.web()
    with ExitStack() as stack:
        for section in SECTIONS:
            sender = SENDERS[section.kind]
            stay = Stay(listing=add_listing(house, section))
            event = sender.tells(stay)
            api = stack.enter_context(sender.api(section.has(stay, event)))
            assert api
            raw = as_bytes(event)
            sent = httpx2.post(
                url + connect(house, section, api),
                content=raw,
                headers=sender.headers(raw),
                trust_env=False,
            )
            assert sent.status_code == 200, f"{section.place}: {sent.text}"
        house.worker()
        until(lambda: len(house.states()) == len(SECTIONS), "every booking is read", within=60)
        house.reach("active")
    assert len(doors.pins("sim-zigbee-1")) == len(SECTIONS)
    for line in commands(IN_ALL)[1:]:  # the first is where `pinqueue web` is reached
        typed(house, line.replace("...", "another-token"))


def typed(house: House, line: str) -> str:
    ended = house.run(*shlex.split(line, comments=True)[1:])
    assert ended.returncode == 0, f"{line}\n{ended.stderr}"
    return ended.stdout.strip()


def add_listing(house: House, section: Section) -> str:
    """As the section calls it, if it shows how."""
    shown = commands(section.place)
    line, *others = shown or [f"pinqueue listings add {SENDERS[section.kind].listing} ..."]
    assert others == []
    typed(house, line.replace("...", REST))
    return line.split()[3]


def connect(house: House, section: Section, api: Api) -> str:
    """Add the source as the section says, its blanks filled in; returns the path of its address."""
    (line,) = blocks(section.place)
    values = {
        "--api-user": api.user,
        "--api-token": api.token,
        "--secret": shlex.quote(SENDERS[section.kind].secret),
    }
    named = re.findall(r'(--[\w-]+) ("[^"]*"|\S+)', line)
    blanks = {
        f"{name} {blank}": f"{name} {values[name]}" for name, blank in named if name in values
    }
    secret = typed(house, filled(line, blanks))
    (address,) = set(re.findall(r"`https://YOUR-HOST(/\S+)`", text_of(section.place)))
    source = address.split("/")[2]
    # It is played on this machine, which is not where its maker has it.
    user = f" --user {api.user}" if api.user else ""
    typed(house, f"pinqueue sources api {source} --url {api.url} --token {api.token}{user}")
    return filled(address, {"SECRET": secret}) if "SECRET" in address else address


@pytest.mark.parametrize("kind", [section.kind for section in SECTIONS])
def test_the_tests_that_a_new_sender_is_to_have_are_there_for_each(kind: str) -> None:
    (line,) = blocks(ADDING)
    named = re.findall(r"tests/\S+", line.replace("NAME", kind))
    assert len(named) == 4
    assert [path for path in named if not (ROOT / path).exists()] == []


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_tests_of_a_sender_are_run_as_the_page_says() -> None:
    (line,) = blocks(ADDING)
    ours = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(
        ["sh", "-c", line.replace("NAME", "smoobu")],
        cwd=ROOT,
        env=ours | {"PATH": f"{Path(PYTHON).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert int(re.findall(r"(\d+) passed", done.stdout)[-1]) > 50
