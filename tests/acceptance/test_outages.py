"""The database goes away under web and worker: both go on by themselves, and all is done once."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from pinqueue import migrating
from pinqueue.embedded import EmbeddedPostgres
from pinqueue.simulator import Control
from tests.acceptance.processes import House, Shell, answers, post, stay, until
from tests.conftest import environment_of, settings_values

LOCKS = {"sim-zigbee-1": "zigbee", "sim-zigbee-2": "zigbee"}


@pytest.fixture
def own_server() -> Iterator[EmbeddedPostgres]:
    """A PostgreSQL server of this test's own, to be stopped and killed."""
    with tempfile.TemporaryDirectory(prefix="pinqueue-test-", dir="/tmp") as folder:
        server = EmbeddedPostgres(Path(folder) / "data", settings={"fsync": "off"})
        try:
            yield server
        finally:
            server.stop()


@pytest.fixture
def house_on_it(
    own_server: EmbeddedPostgres, tuya: str, tmp_path: Path, shell: Shell
) -> Iterator[House]:
    url = own_server.start()
    migrating.migrate(url)
    environment = environment_of({**settings_values(url, tuya), "tuya_grace": "2s"})
    house = House(environment, tmp_path, shell)
    yield house
    house.end()


def stop(server: EmbeddedPostgres) -> None:
    """As an administrator stops it, for an upgrade."""
    server.stop()


def kill(server: EmbeddedPostgres) -> None:
    """As the kernel does when memory runs out: the data is to be recovered."""
    pid_file = server.data_dir / "postgres" / "postmaster.pid"
    os.kill(int(pid_file.read_text().splitlines()[0]), signal.SIGKILL)
    server.stop()


@pytest.mark.parametrize(
    ("end", "seconds"),
    [
        pytest.param(stop, 1, id="restarted within the worker's patience"),
        pytest.param(kill, 12, id="killed, and away for longer", marks=pytest.mark.slow),
    ],
)
def test_web_and_worker_go_on_after_the_database_was(
    end: Callable[[EmbeddedPostgres], None],
    seconds: float,
    own_server: EmbeddedPostgres,
    house_on_it: House,
    doors: Control,
) -> None:
    house = house_on_it
    house.set_up(LOCKS)
    doors.settings(zigbee_seconds=0)
    url, web = house.web()
    worker = house.worker()
    assert post(url, stay("res-leaving", -3600, 6)).status_code == 200
    house.reach("active", "res-leaving")

    # In the middle of the calls that put one stay on the doors, before another's are due to go.
    doors.settings(latency_ms=400)
    assert post(url, stay("res-coming", -60, 3600)).status_code == 200
    until(
        lambda: len(house.ask("SELECT FROM access_codes WHERE create_in_doubt_since < now()")), ""
    )
    end(own_server)
    assert post(url, stay("res-late", -60, 3600)).status_code == 503
    time.sleep(seconds)
    own_server.start()

    answers(f"{url}/readyz", web)
    assert post(url, stay("res-late", -60, 3600)).status_code == 200
    house.reach("active", "res-late")
    house.reach("active", "res-coming", within=60)
    house.reach("revoked", "res-leaving", within=60)
    assert worker.alive()
    assert web.alive()
    names = [entry["name"] for entry in doors.ledger()]
    assert len(names) == len(set(names)) == 6
    held = {pin["name"] for device in LOCKS for pin in doors.pins(device)}
    wanted = house.ask("SELECT remote_name FROM access_codes WHERE state = 'active'")
    assert held == {row["remote_name"] for row in wanted}
    assert house.ask("SELECT FROM operations WHERE state = 'failed'") == []


SLOW_TO_END = """
CREATE FUNCTION take_long() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_sleep(30); RETURN NEW; END $$;
CREATE TRIGGER slow_to_end BEFORE UPDATE ON procrastinate_jobs FOR EACH ROW
    WHEN (OLD.status = 'doing' AND NEW.status = 'todo') EXECUTE FUNCTION take_long();
"""
WRITING = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'PgSleep'"


def test_a_job_whose_end_could_not_be_written_down_rings_again(
    house: House, doors: Control
) -> None:
    """The worker lives, and nothing else is wrong: only this one connection breaks, just then."""
    house.set_up({"sim-zigbee-1": "zigbee"})
    url, _ = house.web()
    house.worker()
    with psycopg.connect(house.database_url, autocommit=True) as connection:
        connection.execute(SLOW_TO_END)
        assert post(url, stay("res-1", -60, 3600)).status_code == 200
        until(lambda: house.ask(WRITING), "a job that is to ring again is written down")
        connection.execute(f"SELECT pg_terminate_backend(pid) FROM ({WRITING}) w".encode())
        connection.execute("DROP TRIGGER slow_to_end ON procrastinate_jobs")
    house.reach("active")
    assert len(doors.ledger()) == 1
