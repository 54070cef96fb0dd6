"""The primary dies and its standby takes over: both processes find it, and nothing is lost."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pinqueue import migrating
from pinqueue.bench.chaos.failover import Pair
from pinqueue.simulator import Control
from tests.acceptance.processes import House, Shell, answers, post, stay, until
from tests.conftest import environment_of, settings_values

LOCKS = {"sim-zigbee-1": "zigbee", "sim-zigbee-2": "zigbee"}


@pytest.fixture
def pair() -> Iterator[Pair]:
    with tempfile.TemporaryDirectory(prefix="pinqueue-test-", dir="/tmp") as folder:
        pair = Pair(Path(folder) / "data", settings={"fsync": "off"})
        try:
            yield pair
        finally:
            pair.stop()


@pytest.fixture
def house_on_pair(pair: Pair, tuya: str, tmp_path: Path, shell: Shell) -> Iterator[House]:
    url = pair.start()
    migrating.migrate(url)
    environment = environment_of({**settings_values(url, tuya), "tuya_grace": "2s"})
    house = House(environment, tmp_path, shell)
    yield house
    house.end()


def test_r9_after_a_failover_web_and_worker_go_on_and_what_was_taken_is_done_once(
    pair: Pair, house_on_pair: House, doors: Control
) -> None:
    house = house_on_pair
    house.set_up(LOCKS)
    doors.settings(zigbee_seconds=0, latency_ms=300)
    checked = house.run("check", "--json")
    assert checked.returncode == 0, checked.stderr
    url, web = house.web()
    worker = house.worker()
    assert post(url, stay("res-coming", -60, 3600)).status_code == 200
    until(
        lambda: len(house.ask("SELECT FROM access_codes WHERE create_in_doubt_since < now()")), ""
    )
    pair.fail_over()  # in the middle of the calls that put it on the doors

    taken_over_at = time.monotonic()
    answers(f"{url}/readyz", web, within=30)
    assert post(url, stay("res-late", -60, 3600)).status_code == 200
    house.reach("active", "res-late", within=30)
    house.reach("active", "res-coming", within=60)
    assert time.monotonic() - taken_over_at < 60
    assert worker.alive()
    names = [entry["name"] for entry in doors.ledger()]
    assert len(names) == len(set(names)) == 4
    assert house.ask("SELECT FROM operations WHERE state = 'failed'") == []


CUT_OFF = "ALTER SYSTEM SET primary_conninfo = ''"


def test_r1_an_event_that_the_standby_does_not_have_yet_is_not_answered_2xx(
    pair: Pair, house_on_pair: House
) -> None:
    """The standby hears nothing any more, then takes over: what was answered 2xx must be there."""
    house = house_on_pair
    house.set_up(LOCKS)
    url, web = house.web()
    first, event = stay("res-0", 3600, 7200), stay("res-1", 3600, 7200)
    assert post(url, first, "msg_0").status_code == 200
    standby = pair.standby
    standby.run(CUT_OFF)
    standby.run("SELECT pg_reload_conf()")
    until(lambda: not house.ask("SELECT FROM pg_stat_replication"), "nobody follows")
    assert {post(url, event, "msg_1").status_code for _ in range(5)} == {503}
    assert house.ask("SELECT FROM reservations WHERE id = 'res-1'") == []
    pair.fail_over()
    answers(f"{url}/readyz", web, within=30)
    assert house.ask("SELECT id FROM reservations") == [{"id": "res-0"}]
    assert post(url, event, "msg_1").json() == {"status": "accepted"}
