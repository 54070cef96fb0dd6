"""The patrol: what a lock lists and our rows do not want, and what they want and it lists not."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import pytest

from pinqueue import patrol
from pinqueue.db import Database
from pinqueue.locks import Door, RemotePin
from pinqueue.locks.tuya import TuyaGateway
from pinqueue.operations import Workbench
from pinqueue.pins import Pin
from pinqueue.simulator import Control
from tests import factories
from tests.operating import (
    CREATE,
    LIST,
    WIFI,
    ZIGBEE,
    bring_to,
    cancel,
    code_of,
    door_of,
    execute,
    held,
    put_on_door,
    ring,
    window_of,
)

pytestmark = pytest.mark.anyio

EVERY = timedelta(minutes=10)
TOLD = "SELECT event, detail ->> 'reason' AS reason FROM audit_events WHERE actor = 'patrol'"
LOCK = "SELECT patrolled_at IS NOT NULL AS read, patrol_fault AS fault FROM locks WHERE id = :id"


async def look(bench: Workbench, lock: str = ZIGBEE) -> None:
    """At that lock, as though its turn had come."""
    await execute(bench.db, "UPDATE locks SET patrol_at = now() WHERE id = :id", id=lock)
    assert await patrol.look_at_next(bench.db, bench.gateway, EVERY, bench.metrics)


async def events(db: Database) -> list[str]:
    return [row["event"] for row in await factories.rows(db, TOLD + " ORDER BY id")]


def found(bench: Workbench) -> dict[str, float]:
    """What was counted."""
    return {
        dict(labels)["found"]: value
        for (name, labels), value in bench.metrics.growth().items()
        if name == "pinqueue_patrol_findings_total"
    }


async def due_in(db: Database, lock: str = ZIGBEE) -> float:
    query = "SELECT extract(epoch FROM patrol_at - now())::float8 FROM locks WHERE id = :id"
    return float(await factories.value(db, query, id=lock))


def names(doors: Control) -> set[str]:
    """Under which the lock holds PINs."""
    return {pin["name"] for pin in doors.pins(ZIGBEE)}


async def remove_in_app(bench: Workbench) -> None:
    """As a person does it, behind our back."""
    code = await code_of(bench)
    assert code.remote_id is not None
    await bench.gateway.delete_pin(door_of(code), code.remote_id)


async def stray(bench: Workbench, doors: Control) -> None:
    """A stay whose PIN is on the lock though it was cancelled and taken off: its create took effect
    long after the grace."""
    code = await bring_to(bench, doors, "revoked")
    pin = Pin("480917")
    await bench.gateway.create_pin(door_of(code), code.remote_name, pin, window_of(code))
    assert len(held(doors)) == 1


async def test_r7_what_took_effect_when_nobody_wanted_it_any_more_is_taken_off(
    bench: Workbench, prompt: Control
) -> None:
    await stray(bench, prompt)
    await look(bench)
    assert held(prompt) == []
    assert await events(bench.db) == ["code:stray"]
    assert found(bench) == {"as_wanted": 1, "stray": 1}
    assert 0 < await due_in(bench.db) <= 60, "to see that it is gone"
    await look(bench)
    assert found(bench) == {"as_wanted": 2, "stray": 1}


async def test_what_cannot_be_taken_off_is_tried_again_at_the_next_look(
    bench: Workbench, prompt: Control
) -> None:
    await stray(bench, prompt)
    prompt.fault("code", {"method": "DELETE"}, code=2312)
    await look(bench)
    (told,) = await factories.rows(bench.db, TOLD)
    assert (told["event"], len(held(prompt))) == ("code:stray", 1)
    assert "offline" in told["reason"]
    await look(bench)
    assert held(prompt) == []


async def test_a_name_that_its_code_had_before_is_wanted_no_more(
    bench: Workbench, prompt: Control
) -> None:
    await put_on_door(bench, prompt)
    first = await code_of(bench)
    await remove_in_app(bench)
    await execute(
        bench.db,
        "UPDATE operations SET state = 'waiting', finished_at = NULL,"
        " next_at = now() WHERE kind = 'generate'",
    )
    assert await ring(bench, "generate") is None
    second = await code_of(bench)
    assert second.past_names == [first.remote_name]
    await bench.gateway.create_pin(
        door_of(first), first.remote_name, Pin("480917"), window_of(first)
    )
    await look(bench)
    assert names(prompt) == {second.remote_name}
    assert (await code_of(bench)).state == "active"


@pytest.mark.parametrize("name", ["cleaner", "pq-0123456789abcdef"])
async def test_a_pin_that_no_row_of_ours_knows_is_never_touched(
    bench: Workbench, prompt: Control, name: str
) -> None:
    code = await put_on_door(bench, prompt)
    await bench.gateway.create_pin(door_of(code), name, Pin("480917"), window_of(code))
    await look(bench)
    assert names(prompt) == {code.remote_name, name}
    (lock,) = await factories.rows(bench.db, LOCK, id=ZIGBEE)
    told = lock["fault"]
    assert (told is None) is (name == "cleaner")
    assert await events(bench.db) == ([] if told is None else ["lock:unknown"])


async def test_a_pin_that_somebody_removed_is_put_back_once_two_lists_miss_it(
    bench: Workbench, prompt: Control
) -> None:
    code = await put_on_door(bench, prompt)
    before = held(prompt)
    await remove_in_app(bench)
    await look(bench)
    assert (await events(bench.db), held(prompt)) == ([], [])
    assert 0 < await due_in(bench.db) <= 60, "for the second list"
    await look(bench)
    assert await events(bench.db) == ["code:missing"]
    assert found(bench) == {"as_wanted": 2, "missing": 1}
    assert await ring(bench, "generate", as_if_due=False) is None
    assert held(prompt) == before
    assert names(prompt) == {(await code_of(bench)).remote_name} != {code.remote_name}
    assert (await code_of(bench)).state == "active"


async def test_a_pin_that_the_second_list_shows_is_not_missing(
    bench: Workbench, prompt: Control
) -> None:
    code = await put_on_door(bench, prompt)
    await execute(
        bench.db,
        "UPDATE access_codes SET missing_since = now() - interval '1 minute' WHERE id = :id",
        id=code.id,
    )
    await look(bench)
    assert (await code_of(bench)).missing_since is None
    assert await events(bench.db) == []


async def test_f1_a_list_that_is_empty_although_pins_should_be_there_is_an_alarm_and_nothing_else(
    bench: Workbench, prompt: Control
) -> None:
    code = await put_on_door(bench, prompt)
    await remove_in_app(bench)
    await forget_history(bench, prompt)
    for _ in range(3):
        await look(bench)
    (lock,) = await factories.rows(bench.db, LOCK, id=ZIGBEE)
    assert lock == {
        "read": False,
        "fault": "lists nothing, though 1 PINs should be on it: not believed",
    }
    assert await events(bench.db) == ["lock:doubted"], "told once"
    assert found(bench) == {"doubted": 3}
    assert (await code_of(bench)).remote_name == code.remote_name
    assert (await code_of(bench)).missing_since is None


async def forget_history(bench: Workbench, doors: Control) -> None:
    """The cloud's record of what was removed, as some clouds keep none."""
    code = await code_of(bench)
    gateway = bench.gateway
    assert isinstance(gateway, TuyaGateway)
    await gateway._cloud.call(
        "DELETE", f"/v1.0/devices/{ZIGBEE}/door-lock/temp-passwords/{code.remote_id}/record"
    )
    assert await gateway.list_pins(door_of(code)) == []


async def test_an_empty_lock_on_which_nothing_should_be_is_as_wanted(
    bench: Workbench, prompt: Control
) -> None:
    await factories.add_listing(bench.db, "apt-7", {ZIGBEE: "zigbee"})
    await look(bench)
    assert found(bench) == {"as_wanted": 1}
    assert await factories.rows(bench.db, LOCK, id=ZIGBEE) == [{"read": True, "fault": None}]
    assert 530 < await due_in(bench.db) <= 600


@pytest.mark.parametrize("fault", ["http_502_html", "empty", "truncated", "code"])
async def test_a_list_that_is_not_read_whole_changes_nothing_and_is_asked_for_once_more(
    bench: Workbench, prompt: Control, fault: str
) -> None:
    await put_on_door(bench, prompt)
    await remove_in_app(bench)
    prompt.fault(fault, LIST, times=2)
    await look(bench)
    (lock,) = await factories.rows(bench.db, LOCK, id=ZIGBEE)
    assert lock["fault"].startswith("its list was not read: ")
    assert 0 < await due_in(bench.db) <= 60
    await look(bench)
    assert 530 < await due_in(bench.db) <= 600, "then when it is its turn"
    await look(bench)
    assert await events(bench.db) == ["lock:unread", "lock:as_wanted"]
    assert (await code_of(bench)).missing_since is not None, "not before a list was read"


async def test_a_cloud_that_asks_for_patience_has_it(bench: Workbench, prompt: Control) -> None:
    await factories.add_listing(bench.db, "apt-7", {ZIGBEE: "zigbee"})
    prompt.fault("http_429", LIST, seconds=120)
    await look(bench)
    assert 100 < await due_in(bench.db) <= 120


async def test_what_is_under_way_is_not_missed(bench: Workbench, prompt: Control) -> None:
    """A PIN that is about to come off, and one whose window is being changed."""
    await put_on_door(bench, prompt)
    await remove_in_app(bench)
    await cancel(bench)
    await look(bench)
    await look(bench)
    assert await events(bench.db) == []


async def test_what_was_taken_off_while_the_list_was_read_is_no_stray(
    bench: Workbench, prompt: Control
) -> None:
    await put_on_door(bench, prompt)

    class SlowToAnswer(TuyaGateway):
        async def list_pins(self, door: Door) -> Sequence[RemotePin]:
            listed = await bench.gateway.list_pins(door)
            await cancel(bench)
            assert await ring(bench, "revoke") is None
            return listed

    slow = SlowToAnswer.__new__(SlowToAnswer)
    await execute(bench.db, "UPDATE locks SET patrol_at = now()")
    assert await patrol.look_at_next(bench.db, slow, EVERY, bench.metrics)
    assert (held(prompt), (await code_of(bench)).state) == ([], "revoked")
    assert await events(bench.db) == []


async def test_a_create_in_doubt_has_its_lock_looked_at_after_twice_the_grace(
    bench: Workbench, prompt: Control
) -> None:
    await bring_to(bench, prompt, "scheduled")
    prompt.fault("reset_before", CREATE)
    await ring(bench, "generate")
    await ring(bench, "generate")
    grace = bench.grace.total_seconds()
    assert grace < await due_in(bench.db) <= 2 * grace


async def test_a_lock_is_looked_at_by_one_worker_and_the_longest_unseen_first(
    benches: tuple[Workbench, Workbench], prompt: Control
) -> None:
    a, b = benches
    await factories.add_listing(a.db, "apt-7", {ZIGBEE: "zigbee", WIFI: "wifi"})
    await execute(a.db, "UPDATE locks SET patrol_at = now() - interval '1 h'")
    await execute(
        a.db, "UPDATE locks SET patrol_at = now() - interval '2 h' WHERE id = 'sim-wifi-1'"
    )
    looks = [
        await patrol.look_at_next(bench.db, bench.gateway, EVERY, bench.metrics)
        for bench in (a, b, a)
    ]
    assert looks == [True, True, False]
    asked = [entry["device"] for entry in prompt.log() if entry["path"].endswith("temp-passwords")]
    assert asked == [WIFI, ZIGBEE]


async def test_endpoints_are_told_of_what_was_missing_and_what_was_stray(
    bench: Workbench, prompt: Control
) -> None:
    await execute(
        bench.db,
        "INSERT INTO endpoints (id, url, secret, events) VALUES ('desk', 'http://127.0.0.1:9/',"
        " 'sealed', '{code.missing,code.stray}')",
    )
    await stray(bench, prompt)
    await look(bench)
    told = await factories.rows(bench.db, "SELECT type, body FROM deliveries")
    assert [(one["type"], one["body"]["data"]["state"]) for one in told] == [
        ("code.stray", "revoked")
    ]
