"""The command line as a person uses it: one process for each command, judged by what it prints."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from subprocess import CompletedProcess
from typing import Any

import pytest

from pinqueue.audit import VIEWS
from pinqueue.inventory import SCOPES
from pinqueue.processes import free_port
from tests.acceptance.processes import House, answers

Ended = CompletedProcess[str]
DAY = timedelta(days=1)


def all_of(house: House, commands: Sequence[Sequence[str]]) -> list[Ended]:
    return [house.run(*command) for command in commands]


def done(ended: Ended) -> str:
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


def refused(ended: Ended, code: int = 1) -> str:
    """The message of a command that failed as foreseen, on one line."""
    assert "Traceback" not in ended.stderr
    assert (ended.returncode, ended.stdout) == (code, ""), ended
    return " ".join(ended.stderr.split())


@pytest.fixture
def stay_on_two_locks(house: House) -> House:
    house.set_up({"d-1": "zigbee", "d-2": "wifi"})
    house.receive("res-1")
    return house


UNREAD = {"patrolled_at": None, "fault": None}
"""No worker has compared what they hold yet."""


def test_a_deployment_is_set_up_by_commands_alone(house: House) -> None:
    done(house.run("locks", "add", "front", "--device-id", "d-1", "--protocol", "zigbee"))
    done(house.run("locks", "add", "back", "--device-id", "d-2", "--protocol", "wifi"))
    listing = ("listings", "add", "apt-7", "--time-zone", "America/Sao_Paulo")
    added, secret, key = all_of(
        house,
        [
            (*listing, "--lock", "front", "--lead", "1d"),
            ("sources", "add", "main"),
            ("keys", "create", "ops", "--scope", "read", "--scope", "operate"),
        ],
    )
    done(added)
    done(house.run("listings", "link", "apt-7", "back"))
    done(house.run("locks", "add", "gate", "--device-id", "d-9", "--protocol", "wifi"))
    done(house.run("locks", "set", "gate", "--device-id", "d-3", "--protocol", "zigbee"))
    done(house.run("listings", "link", "apt-7", "gate"))
    done(house.run("listings", "unlink", "apt-7", "gate"))
    assert done(secret).startswith("whsec_")
    assert done(key).startswith("pq_")

    locks, listings, sources, keys = (
        json.loads(done(ended))
        for ended in all_of(
            house, [(g, "list", "--json") for g in ("locks", "listings", "sources", "keys")]
        )
    )
    assert locks == [
        {"lock": "back", "device_id": "d-2", "protocol": "wifi", "listings": ["apt-7"], **UNREAD},
        {
            "lock": "front",
            "device_id": "d-1",
            "protocol": "zigbee",
            "listings": ["apt-7"],
            **UNREAD,
        },
        {"lock": "gate", "device_id": "d-3", "protocol": "zigbee", "listings": [], **UNREAD},
    ]
    (found,) = listings
    assert found == {
        "listing": "apt-7",
        "time_zone": "America/Sao_Paulo",
        "lead": 86400.0,
        "check_in_time": "15:00:00",
        "check_out_time": "11:00:00",
        "buffer_before": 0.0,
        "buffer_after": 0.0,
        "locks": ["back", "front"],
    }
    assert [(row["source"], row["kind"], row["enabled"]) for row in sources] == [
        ("main", "pinqueue", True)
    ]
    assert [(row["name"], row["scopes"]) for row in keys] == [("ops", ["read", "operate"])]
    assert set(keys[0]["scopes"]) < set(SCOPES)
    told = house.ask("SELECT event FROM audit_events ORDER BY id")
    assert {"lock:added", "listing:added", "source:added", "key:created"} < {
        row["event"] for row in told
    }


def test_codes_are_listed_and_shown_without_their_pins(stay_on_two_locks: House) -> None:
    house = stay_on_two_locks
    first = str(house.value("SELECT min(id) FROM access_codes"))
    listed, other, shown = all_of(
        house,
        [
            ("codes", "list", "--json"),
            ("codes", "list", "--json", "--reservation", "res-2"),
            ("codes", "show", first, "--json"),
        ],
    )
    rows = json.loads(done(listed))
    assert [(row["reservation_id"], row["lock_id"], row["state"]) for row in rows] == [
        ("res-1", "d-1", "scheduled"),
        ("res-1", "d-2", "scheduled"),
    ]
    assert json.loads(done(other)) == []
    assert json.loads(done(shown)) == rows[0]
    assert not any("pin" in column for column in rows[0])


def test_a_listings_buffers_and_a_guests_grant_move_the_window_on_both_locks(
    stay_on_two_locks: House,
) -> None:
    house = stay_on_two_locks
    (stay,) = house.ask("SELECT check_in_at, check_out_at FROM reservations")
    early, late = stay["check_in_at"] - timedelta(hours=3), stay["check_out_at"] + DAY
    granted = ("--early-check-in", early.isoformat(), "--late-check-out", late.isoformat())
    done(house.run("listings", "set", "apt-7", "--buffer-before", "15m", "--buffer-after", "1h"))
    told = json.loads(done(house.run("reservations", "grant", "res-1", *granted, "--json")))
    assert [told[f"{name}_at"] for name in ("early_check_in", "late_check_out")] == [
        *(moment.isoformat() for moment in (early, late))
    ]
    windows = house.ask("SELECT starts_at, ends_at FROM access_codes")
    window = {"starts_at": early - timedelta(minutes=15), "ends_at": late + timedelta(hours=1)}
    assert windows == [window, window]
    done(house.run("reservations", "grant", "res-1", "--early-check-in", ""))
    assert house.value("SELECT max(starts_at) FROM access_codes") == (
        stay["check_in_at"] - timedelta(minutes=15)
    )


def test_a_pin_is_revealed_on_record_and_refused_once_it_is_wiped(
    stay_on_two_locks: House,
) -> None:
    house = stay_on_two_locks
    code = house.value("SELECT min(id) FROM access_codes")
    pin = done(house.run("codes", "reveal", str(code)))
    assert pin.isdigit()
    assert len(pin) == 6
    (row,) = house.ask(REVEALED)
    assert row["actor"].startswith("cli:")
    assert row["access_code_id"] == code

    house.receive("res-1", cancelled=True)
    message = refused(house.run("codes", "reveal", str(code)))
    assert f"access code {code} is cancelled: its PIN is wiped" in message
    assert len(house.ask(REVEALED)) == 1


REVEALED = "SELECT actor, access_code_id FROM audit_events WHERE event = 'code:revealed'"

# Rows of two days ago in every view: one operation that failed late, and a PIN left on its door.
PAST = """
UPDATE operations SET due_at = now() - interval '2 days', next_at = now() - interval '2 days';
UPDATE operations SET state = 'failed', finished_at = now(), last_error = 'it broke'
WHERE kind = 'generate';
UPDATE access_codes SET state = 'active', active_at = now(), pin_hash = 'h', remote_id = 1,
       starts_at = now() - interval '2 days', ends_at = now() - interval '1 day 1 hour';
UPDATE job_records SET scheduled_at = now() - interval '2 days';
"""


def test_every_audit_view_is_had_as_json_and_csv_of_a_stay_and_since_a_time(
    stay_on_two_locks: House,
) -> None:
    house = stay_on_two_locks
    house.change(PAST)

    def asked(*options: str) -> dict[str, Ended]:
        commands = [("audit", view, *options) for view in VIEWS]
        return dict(zip(VIEWS, all_of(house, commands), strict=True))

    whole = {view: json.loads(done(ended)) for view, ended in asked("--json").items()}
    assert {view for view, rows in whole.items() if not rows} == set()
    lately = {v: json.loads(done(e)) for v, e in asked("--json", "--since", "24h").items()}
    assert {view for view, rows in lately.items() if rows} == {"audit_timeline"}
    for view, ended in asked("--csv", "--reservation", "res-1").items():
        if view == "audit_daily":
            assert "counts days, not stays" in refused(ended, 2)
            continue
        told = list(csv.DictReader(io.StringIO(ended.stdout)))
        assert len(told) == len(whole[view])
        assert list(told[0]) == list(whole[view][0])
    name_alone = house.run("audit", "timeline", "--json", "--reservation", "res-2")
    assert json.loads(done(name_alone)) == []


def test_the_secrets_that_keys_generate_prints_are_accepted_by_check(house: House) -> None:
    printed = done(house.run("keys", "generate"))
    fresh = dict(line.split("=", 1) for line in printed.splitlines())
    assert set(fresh) == {"PINQUEUE_SECRET_KEYS", "PINQUEUE_PIN_PEPPER"}
    checked = done(house.run("check", **fresh))
    assert checked.startswith("database: reachable, revision ")
    assert "Tuya project set" in checked
    without = done(house.run("check", PINQUEUE_TUYA_REGION="", PINQUEUE_TUYA_ACCESS_ID=""))
    assert "no Tuya project: set PINQUEUE_TUYA_REGION, PINQUEUE_TUYA_ACCESS_ID" in without


def test_check_tells_of_a_mistyped_setting_that_would_have_no_effect(house: House) -> None:
    (house.folder / ".env").write_text("PINQUEUE_RETRYS=5\nLEAD=1h\nPINQUEUE_RETRIES=5\n")
    told = done(house.run("check", PINQUEUE_LEED="1d"))
    assert told.endswith("no setting, so without effect: PINQUEUE_LEED, PINQUEUE_RETRYS")


def test_every_wrong_setting_is_named_in_one_message_without_its_value(house: House) -> None:
    wrong = {
        "PINQUEUE_DATABASE_URL": "mysql://user:hunter2@host/db",
        "PINQUEUE_SECRET_KEYS": "hunter2-key",
        "PINQUEUE_PIN_PEPPER": "hunter2-pepper",
        "PINQUEUE_LEAD": "hunter2 hours",
        "PINQUEUE_WORKER_CONCURRENCY": "0",
        "PINQUEUE_RETRIES": "-1",
        "PINQUEUE_TUYA_REGION": "hunter2",
        "PINQUEUE_TUYA_URL": "http://hunter2.example",
        "PINQUEUE_TUYA_CA": "/hunter2.pem",
    }
    message = refused(house.run("worker", **wrong), code=2)
    assert {name for name in wrong if f"{name}: " not in message} == set()
    assert "hunter2" not in message


def test_every_missing_setting_is_named_with_what_it_is_for(house: House) -> None:
    needed = ["DATABASE_URL", "SECRET_KEYS", "PIN_PEPPER"]
    needed += ["TUYA_REGION", "TUYA_ACCESS_ID", "TUYA_ACCESS_SECRET"]
    message = refused(house.run("worker", **{f"PINQUEUE_{name}": "" for name in needed}), code=2)
    assert {name for name in needed if f"PINQUEUE_{name} is not set: " not in message} == set()


UNKNOWN: Mapping[tuple[str, ...], str] = {
    ("audit", "nothing"): "there is no view audit_nothing: choose one of audit_timeline,",
    ("codes", "show", "999"): "there is no access code 999",
    ("codes", "reveal", "999"): "there is no access code 999",
    ("codes", "show", str(2**63 - 1)): f"there is no access code {2**63 - 1}",
    ("keys", "revoke", "nobody"): "there is no key nobody",
    ("sources", "rotate", "nobody"): "there is no source nobody",
    ("sources", "add", "main"): "source main is there already: choose another name",
    ("listings", "link", "nowhere", "d-1"): "there is no listing nowhere",
    ("listings", "link", "apt-7", "nothing"): "there is no lock nothing",
    ("listings", "link", "apt-7", "d-1"): "lock d-1 belongs to listing apt-7 already",
    ("listings", "add", "new", "--time-zone", "UTC", "--lock", "no"): "there is no lock no",
    ("locks", "add", "x", "--device-id", "d-1", "--protocol", "wifi"): "d-1 is lock d-1 already",
}

INVALID: Mapping[tuple[str, ...], str] = {
    ("keys", "create", "k", "--scope", "all"): "scope: 'all' is not one of read, operate,",
    ("sources", "add", "other", "--kind", "fax"): "--kind: must be one of pinqueue",
    ("sources", "add", "x", "--secret", "whsec_1"): "secret: must be whsec_ and the base64",
    ("listings", "add", "new", "--time-zone", "Mars/Base"): "'Mars/Base' is not an IANA name",
    ("locks", "add", "x", "--device-id", "d", "--protocol", "fax"): "must be one of wifi,",
    ("locks", "add", "[/red]", "--device-id", "d", "--protocol", "wifi"): "not '[/red]'",
    ("simulator", "--device", "door"): "--device: write ID:PROTOCOL",
    ("worker", "--queues", "fax"): "--queues: 'fax' is not one of generate_pin, revoke_pin",
    ("worker", "--heartbeat", "/no/where"): "--heartbeat: /no/where cannot be written: No such",
    ("locks", "set", "d-1"): "give --device-id or --protocol",
    ("listings", "set", "apt-7"): "give at least one of the times to change",
    ("listings", "set", "apt-7", "--check-in", "25:00"): "check_in_time: must be a time of day",
}


def test_what_is_unknown_or_wrong_is_refused_with_a_message_that_says_which(
    stay_on_two_locks: House,
) -> None:
    house = stay_on_two_locks
    before = house.ask("SELECT event FROM audit_events")
    for code, commands in ((1, UNKNOWN), (2, INVALID)):
        for said, ended in zip(commands.values(), all_of(house, list(commands)), strict=True):
            assert said in refused(ended, code), ended.args
    assert house.ask("SELECT event FROM audit_events") == before


def test_a_port_that_is_taken_is_told_with_an_exit_code_of_its_own(house: House) -> None:
    port = str(free_port())
    simulator = house.start("simulator", "--port", port, "--device", "d-9:zigbee")
    answers(f"http://127.0.0.1:{port}/_sim/devices", simulator)
    assert '"doors": ["d-9"]' in simulator.log()
    for command in ("simulator", "web"):
        said = refused(house.run(command, "--port", port), 3)
        assert f"cannot listen on 127.0.0.1 port {port}" in said
        assert "choose another with --host and --port" in said


@pytest.mark.parametrize("number", ["0", "-1", str(2**63), "seven"])
def test_what_cannot_be_the_number_of_a_code_is_refused_as_wrong_usage(
    number: str, house: House
) -> None:
    for verb in ("show", "reveal"):
        assert "Invalid value" in refused(house.run("codes", verb, "--", number), 2)


def test_a_database_that_cannot_be_used_is_refused_with_a_message_that_says_why(
    house: House, empty_database_url: str
) -> None:
    empty = {"PINQUEUE_DATABASE_URL": empty_database_url}
    away = {"PINQUEUE_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nothing"}
    for command in (("locks", "list"), ("check",)):
        assert "run `pinqueue migrate`" in refused(house.run(*command, **empty))
        assert "the database cannot be reached" in refused(house.run(*command, **away))
    assert "the database cannot be" in refused(house.run("migrate", **away))


def test_health_is_good_only_while_somebody_works(house: House) -> None:
    asked = house.run("health", "--json")
    assert asked.returncode == 1
    report: dict[str, Any] = json.loads(asked.stdout)
    assert report["problems"] == ["no worker is alive: start `pinqueue worker`"]
    house.worker()
    report = json.loads(done(house.run("health", "--json")))
    assert (report["healthy"], report["database"], report["problems"]) == (True, "ok", [])
    assert done(house.run("health")).startswith("healthy\n")
