"""What the README and its pages have a user type, typed: into a shell, with blanks filled in."""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta
from typing import Any

import pytest

from pinqueue.processes import free_port
from tests.acceptance.processes import House, answers
from tests.calling import soon
from tests.pages import blocks, commands, filled, text_of
from tests.receiving import receiving

TUYA = "README.md#connect-a-tuya-project"
SENDER = "README.md#connect-a-webhook-sender"
LOOKS = "README.md#see-what-happened"
TOLD = "README.md#by-webhook"
API = "README.md#http-api"


@pytest.fixture
def cloud(house: House) -> str:
    """Host and port of the simulator, which is the Tuya project that the README has connected."""
    settings, set_up, _ = blocks(TUYA)
    ((access_id, secret),) = re.findall(r"access id `(\w+)` and secret `(\w+)`", text_of(TUYA))
    host = f"127.0.0.1:{free_port()}"
    simulator = house.start("simulator", "--port", host.rpartition(":")[2])
    answers(f"http://{host}/_sim/devices", simulator)
    for name in [name for name in house.environment if name.startswith("PINQUEUE_TUYA_")]:
        del house.environment[name]
    told = filled(settings, {"ID=...": f"ID={access_id}", "SECRET=...": f"SECRET={secret}"})
    (house.folder / ".env").write_text(f"{told}PINQUEUE_TUYA_URL=http://{host}\n")
    house.typed(filled(set_up, {"bf2c1e00ab0f12face": "sim-wifi-1"}))
    return host


def objects(text: str) -> list[Any]:
    """JSON after JSON, as several calls print it."""
    found, decoder, text = [], json.JSONDecoder(), text.strip()
    while text:
        value, end = decoder.raw_decode(text)
        found.append(value)
        text = text[end:].lstrip()
    return found


def test_a_tuya_project_and_a_sender_connected_as_the_readme_says_let_a_guest_in(
    house: House, cloud: str
) -> None:
    url, _ = house.web()
    house.worker()
    (add,), (script,) = blocks(SENDER, "sh"), blocks(SENDER, "python")
    blanks = {"whsec_...": house.typed(add).strip(), "http://127.0.0.1:8080": url}
    # Who comes in two minutes stands before a closed door: this guest came two minutes ago.
    script = filled(script, {**blanks, "timedelta(minutes=2)": "timedelta(minutes=-2)"})
    (house.folder / "post.py").write_text(script)
    assert "accepted" in house.typed("python post.py")
    house.reach("sent")

    *_, someone = blocks(TUYA)
    pin = house.run("codes", "reveal", str(house.value("SELECT id FROM access_codes"))).stdout
    blanks = {"127.0.0.1:7777": cloud, "480917": pin.strip(), "sim-zigbee-1": "sim-wifi-1"}
    # Its battery saves: it sleeps until the last of these three.
    before = objects(house.typed(filled(someone, blanks)))
    house.reach("active")
    held, opened, _ = objects(house.typed(filled(someone, blanks)))
    assert (before[1]["opened"], opened["opened"]) == (False, True)
    assert [one["pin"] for one in held] == [pin.strip()]

    views, jobs = blocks(LOOKS)
    seen = house.typed(views)
    assert "code:active" in seen
    assert "(0 rows)" in seen
    house.typed(jobs)
    assert house.value("SELECT pins_withheld_at IS NOT NULL FROM reservations")


def test_a_stay_without_a_property_system_is_booked_over_http_as_the_readme_says(
    house: House,
) -> None:
    house.set_up({"door": "zigbee"})
    house.change("ALTER SEQUENCE access_codes_id_seq RESTART 7")
    url, _ = house.web()
    create, calls = blocks(API)
    days = {"2026-12-24T15:00": soon(days=1), "2026-12-26T10:00": soon(days=3)}
    blanks = {"pq_...": house.typed(create).strip(), "127.0.0.1:8080": url, **days}
    put, codes, revealed, job, cancelled = objects(house.typed(filled(calls, blanks)))
    assert (put["id"], put["status"], put["guest"]["name"]) == ("my-1", "confirmed", "Ana")
    assert [code["id"] for code in codes["codes"]] == [7]
    assert revealed["pin"].isdigit()
    assert job["state"] == "delayed"
    assert cancelled["status"] == "cancelled"


def test_an_endpoint_is_added_and_verifies_what_is_posted_as_the_readme_says(house: House) -> None:
    (add,), (verify,) = blocks(TOLD, "sh"), blocks(TOLD, "python")
    with receiving() as desk:
        printed = house.typed(filled(add, {"https://desk.example.com/pins": desk.url}))
        secret, _ = printed.split(maxsplit=1)
    (post,) = desk.posted
    names: dict[str, Any] = {"request_body": post.raw, "request_headers": post.headers}
    exec(filled(verify, {"whsec_...": secret}), names)
    assert names["event"]["type"] == "ping"


def test_a_generate_is_moved_from_python_as_the_readme_says(house: House) -> None:
    house.set_up({"door": "zigbee"})
    house.receive("res-123")
    check_in = soon(days=1)
    (script,) = blocks("README.md#from-bullmq")
    script = filled(script, {"2026-12-24T12:00:00-03:00": check_in})
    script += "\nimport asyncio\nasyncio.run(earlier('res-123'))\n"
    (house.folder / "earlier.py").write_text(script)
    assert "'state': 'delayed'" in house.typed("python earlier.py")
    due = house.value("SELECT due_at FROM operations WHERE kind = 'generate'")
    assert due == datetime.fromisoformat(check_in) - timedelta(hours=1)


def test_a_guest_asks_what_is_stored_and_has_it_forgotten_as_the_page_says(house: House) -> None:
    house.set_up({"door": "zigbee"})
    house.receive("res-1042", guest_name="Ana")
    (lines,) = blocks("docs/data.md#what-is-kept")
    house.typed(lines)
    told = json.loads((house.folder / "guest.json").read_text())
    assert told["reservation"][0]["guest_name"] == "Ana"
    assert house.value("SELECT guest_name FROM reservations") is None


NAMED = ("worker", "sources api", "sources rotate", "locks add", "listings link", "listings unlink")
"""Commands that the runbook names, and leaves their arguments to who looks them up."""
ENDED_BADLY = """
UPDATE operations SET state = 'failed', finished_at = now(), last_error = 'it broke'
WHERE kind = 'generate';
UPDATE access_codes SET state = 'failed', failed_at = now();
UPDATE procrastinate_jobs SET status = 'failed' WHERE queue_name = 'generate_pin';
UPDATE deliveries SET state = 'failed', finished_at = now();
UPDATE endpoints SET enabled = false, disabled_at = now(), disabled_reason = 'HTTP 410';
"""


def test_what_the_runbook_tells_a_person_to_type_can_be_typed(house: House) -> None:
    """One after the other, where a PIN has failed, a delivery too, and no worker lives."""
    house.set_up({"sim-zigbee-1": "zigbee"})
    for set_up in ("endpoints add desk http://localhost:9/pins", "keys create ops --scope read"):
        assert house.run(*set_up.split()).returncode == 0
    house.receive("res-1")
    house.change(ENDED_BADLY)
    job = "SELECT id FROM procrastinate_jobs WHERE status = 'failed'"
    blanks = {
        "--reservation ID": "--reservation res-1",
        "retry JOB": f"retry {house.value(job)}",
        "enable NAME": "enable desk",
        "deliveries NAME": "deliveries desk",
        "redeliver ID": f"redeliver {house.value('SELECT id FROM deliveries')}",
        "reissue ID": f"reissue {house.value('SELECT id FROM access_codes')}",
        "rotate SOURCE": "rotate main",
        "revoke NAME": "revoke ops",
    }
    lines = [line.removeprefix("pinqueue ") for line in commands("docs/runbook.md")]
    typed = filled("\n".join(line for line in lines if line not in NAMED), blanks).splitlines()
    # What is retried with all others has another job then.
    ended = {
        line: house.run(*line.split()) for line in sorted(typed, key=lambda line: "--all" in line)
    }
    assert len(ended) > 15
    faults = {
        line: one.stderr for line, one in ended.items() if one.returncode and line != "health"
    }
    assert faults == {}
    assert ended["health"].stdout.startswith("not healthy\n! no worker is alive")


def test_times_and_buffers_are_set_and_granted_as_the_page_says(house: House) -> None:
    house.set_up({"door": "zigbee"})
    house.receive("res-1")
    early = house.value("SELECT check_in_at FROM reservations") - timedelta(hours=2)
    _, times, buffers, grant = commands("docs/bookings.md")
    for line, blanks in (
        (times, {"set ": "set apt-7 "}),
        (buffers, {"set ": "set apt-7 "}),
        (grant, {"RESERVATION": "res-1", "2030-07-01T12:00": early.isoformat()}),
    ):
        house.typed(filled(line, blanks))
    starts = house.value("SELECT starts_at FROM access_codes")
    assert starts == early - timedelta(minutes=15)
