"""The health answer: what it tells, and that it comes within a second whatever hangs."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pinqueue import health, mutex, sweep
from pinqueue.config import Settings
from pinqueue.db import Database
from pinqueue.lines import WEB_LIMITS
from pinqueue.locks import tuya_endpoint
from pinqueue.locks.tuya_requests import Writer
from pinqueue.operations import Workbench
from pinqueue.patience import SCHEDULER
from pinqueue.processes import free_port
from pinqueue.simulator import Control
from tests.conftest import PYTHON
from tests.locking import hold
from tests.operating import a_worker, book, bring_to, cancel, execute, until
from tests.wires import Wire

pytestmark = pytest.mark.anyio

NOBODY = "no worker is alive: start `pinqueue worker`"
NO_CLOUD = "the cloud of the locks cannot be reached: no PIN is put on or taken off a door"


@pytest.fixture
def silent() -> Iterator[int]:
    """A port where somebody takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield listener.getsockname()[1]


def elsewhere(settings: Settings, **values: object) -> Settings:
    return settings.model_copy(update=values)


@asynccontextmanager
async def asked(settings: Settings, url: str) -> AsyncIterator[Callable[[], Awaitable[Any]]]:
    """Asks as a web process does, with connections it keeps, and looks at the clock."""
    db = Database(url, limits=WEB_LIMITS, pool_size=3, name="pinqueue-web")

    async def ask() -> dict[str, Any]:
        started = time.monotonic()
        report = await health.report(settings, db)
        assert time.monotonic() - started < 1.0
        return report

    yield ask
    await db.close()


async def test_all_is_well_while_a_worker_lives_and_nothing_is_late(
    settings: Settings, database_url: str
) -> None:
    async with a_worker(settings), asked(settings, database_url) as ask:

        async def well() -> bool:
            return bool((await ask())["healthy"])

        await until(well)
        report = await ask()
    assert (report["problems"], report["warnings"]) == ([], [])
    assert (report["database"], report["lock_cloud"]) == ("ok", "reachable")
    assert report["schema"]["current"] == report["schema"]["expected"]
    (worker,) = report["workers"]
    assert worker["heartbeat_age_seconds"] < 30
    assert report["queues"]["generate_pin"] == dict.fromkeys(report["queues"]["revoke_pin"], 0)


async def test_without_a_worker_it_is_not_healthy(settings: Settings, database_url: str) -> None:
    async with asked(settings, database_url) as ask:
        assert (await ask())["problems"] == [NOBODY]


async def test_a_worker_that_gave_no_sign_for_30_seconds_counts_for_nothing(
    settings: Settings, database_url: str, db: Database
) -> None:
    await execute(
        db,
        "INSERT INTO procrastinate_workers (last_heartbeat) VALUES (now() - interval '31 seconds')",
    )
    async with asked(settings, database_url) as ask:
        report = await ask()
    assert report["problems"] == [NOBODY]
    assert len(report["workers"]) == 1


async def test_an_operation_that_is_due_for_long_is_told(
    settings: Settings, database_url: str, bench: Workbench
) -> None:
    await book(bench)
    await execute(bench.db, "UPDATE operations SET next_at = now() - interval '3 minutes'")
    async with asked(settings, database_url) as ask:
        (_, late) = (await ask())["problems"]
    assert late == "an operation has been due for 0:03:00 and nobody has done it"


async def test_a_pin_that_is_overdue_on_a_door_is_a_warning(
    settings: Settings, database_url: str, bench: Workbench
) -> None:
    await book(bench)
    await execute(
        bench.db,
        "UPDATE access_codes SET state = 'revoking', remote_id = 1, pin_hash = 'h',"
        " starts_at = now() - interval '2 days', ends_at = now() - interval '1 minute'",
    )
    async with asked(settings, database_url) as ask:
        report = await ask()
    assert report["overdue_pins"] == 1
    assert report["problems"] == [NOBODY]
    assert "audit overdue_pins" in report["warnings"][0]


async def test_a_pin_that_failed_is_a_warning_until_its_stay_is_over(
    settings: Settings, database_url: str, bench: Workbench, doors: Control
) -> None:
    code = await bring_to(bench, doors, "failed")
    async with asked(settings, database_url) as ask:
        report = await ask()
        past = "UPDATE access_codes SET ends_at = now(), starts_at = starts_at - interval '9 days'"
        await execute(bench.db, f"{past} WHERE id = :id", id=code.id)
        assert (await ask())["failed_pins"] == 0
    assert report["failed_pins"] == 1
    assert report["problems"] == [NOBODY]
    assert report["warnings"] == ["1 PINs have failed and need a person: `pinqueue audit failed`"]


async def test_an_operation_that_threatens_its_deadline_is_a_warning(
    settings: Settings, database_url: str, bench: Workbench
) -> None:
    await book(bench)
    await execute(bench.db, "UPDATE operations SET due_at = due_at - interval '6 minutes'")
    async with asked(settings, database_url) as ask:
        assert (await ask())["warnings"] == []
        await sweep.tell_late(bench.db)
        report = await ask()
        await cancel(bench)
        assert (await ask())["late_operations"] == 0
    assert report["late_operations"] == 1
    assert report["problems"] == [NOBODY]
    assert report["warnings"] == ["1 operations threaten their deadline: `pinqueue audit late`"]


async def test_who_holds_a_lock_is_told_with_for_how_long(
    settings: Settings, database_url: str, bench: Workbench
) -> None:
    code = await book(bench)
    await execute(
        bench.db,
        "UPDATE operations SET state = 'active', claimed_at = now() - interval '5 seconds'"
        " WHERE kind = 'generate'",
    )
    held = mutex.Mutex(database_url)
    async with hold(held, code.id), asked(settings, database_url) as ask:
        (told,) = (await ask())["locks_held"]
    await held.close()
    assert (told["lock_id"], told["kind"], told["holder"]) == (
        code.lock_id,
        "generate",
        "pinqueue-mutex",
    )
    assert 5 <= told["held_seconds"] < 15


async def test_a_database_of_another_schema_is_told_and_asked_nothing_more(
    settings: Settings, empty_database_url: str
) -> None:
    async with asked(settings, empty_database_url) as ask:
        report = await ask()
    assert report["problems"] == [
        "the database holds no PinQueue schema yet: run `pinqueue migrate`"
    ]
    assert (report["database"], report["queues"], report["workers"]) == ("ok", None, None)


async def test_a_database_that_is_down_is_told_at_once(settings: Settings) -> None:
    async with asked(settings, f"postgresql://nobody@127.0.0.1:{free_port()}/x") as ask:
        report = await ask()
    assert report["database"] == "unreachable"
    assert "Connection refused" in report["problems"][0]
    assert report["queues"] is None


async def test_a_database_that_takes_connections_and_says_nothing_is_told_within_a_second(
    settings: Settings, silent: int
) -> None:
    async with asked(settings, f"postgresql://nobody@127.0.0.1:{silent}/x") as ask:
        for _ in range(5):  # none of them keeps a connection from the next
            report = await ask()
            assert report["problems"] == ["the database gave no answer within 0.7 s"]


async def test_a_connection_that_is_half_open_is_told_within_a_second_and_then_left(
    settings: Settings, wire: Wire
) -> None:
    async with asked(settings, wire.url) as ask:
        assert (await ask())["database"] == "ok"
        wire.fall_silent()
        for _ in range(5):
            assert (await ask())["database"] == "unreachable"
        wire.mend()
        assert (await ask())["database"] == "ok"


async def test_a_table_that_somebody_holds_is_told_within_a_second(
    settings: Settings, database_url: str
) -> None:
    with psycopg.connect(database_url) as holder:
        holder.execute("LOCK TABLE procrastinate_jobs")
        async with asked(settings, database_url) as ask:
            assert (await ask())["database"] == "unreachable"
            holder.rollback()
            assert (await ask())["database"] == "ok"


async def test_a_lock_cloud_that_is_down_is_told(settings: Settings, database_url: str) -> None:
    away = elsewhere(settings, tuya_url=f"http://127.0.0.1:{free_port()}")
    async with asked(away, database_url) as ask:
        report = await ask()
    assert report["lock_cloud"] == "unreachable"
    assert report["problems"] == [NOBODY, NO_CLOUD]


async def test_a_lock_cloud_that_hangs_is_told_within_a_second_beside_a_database_that_hangs(
    settings: Settings, silent: int
) -> None:
    away = elsewhere(settings, tuya_url=f"http://127.0.0.1:{silent}")
    async with asked(away, f"postgresql://nobody@127.0.0.1:{silent}/x") as ask:
        report = await ask()
    assert (report["database"], report["lock_cloud"]) == ("unreachable", "unreachable")


async def test_a_deployment_without_a_lock_cloud_is_not_sick_of_it(
    settings: Settings, database_url: str
) -> None:
    async with asked(elsewhere(settings, tuya_region=""), database_url) as ask:
        report = await ask()
    assert report["lock_cloud"] == "not set"
    assert report["problems"] == [NOBODY]


async def test_the_lock_cloud_is_sent_no_credentials(settings: Settings) -> None:
    heard: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 500 Sorry\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        assert await tuya_endpoint.answers(f"http://127.0.0.1:{port}")  # any answer will do
    (request,) = heard
    assert request.startswith(b"HEAD / HTTP/1.1\r\n")
    assert settings.tuya_access_id.encode() not in request
    assert b"sign" not in request.lower()


async def test_who_stops_asking_leaves_nothing_behind(settings: Settings, silent: int) -> None:
    async with asked(settings, f"postgresql://nobody@127.0.0.1:{silent}/x") as ask:
        before = asyncio.all_tasks()
        asking = asyncio.ensure_future(ask())
        await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert asyncio.all_tasks() == before


@pytest.mark.parametrize("region", tuya_endpoint.HOSTS)
def test_the_endpoints_are_those_that_tinytuya_calls(region: str) -> None:
    host = Writer(region, "id", "s" * 32).host
    assert tuya_endpoint.endpoint(region) == f"https://{host}"


ASK = """
import asyncio, os
from pinqueue import health, jobs, schema
from pinqueue.config import read_settings
from pinqueue.db import Database

async def main():
    settings = read_settings()
    db = Database(settings.database_url)
    os.nice(15)
    print((await health.report(settings, db))["database"])
    os._exit(0)

asyncio.run(main())
"""


@pytest.mark.skipif(not SCHEDULER.exists(), reason="only Linux tells who had the processor")
def test_a_machine_too_busy_to_run_us_is_not_a_dead_database(environment: dict[str, str]) -> None:
    hog = [PYTHON, "-c", "while True: pass"]
    hogs = [subprocess.Popen(hog) for _ in range(os.cpu_count() or 1)]
    try:
        asked = subprocess.run(
            [PYTHON, "-c", ASK], env=environment, capture_output=True, timeout=120
        )
    finally:
        for process in hogs:
            process.kill()
            process.wait()
    assert asked.stdout == b"ok\n", asked.stderr


@pytest.mark.parametrize("state", ["down", "silent"])
def test_the_command_ends_within_a_second_of_its_start(
    state: str, environment: dict[str, str], silent: int
) -> None:
    port = silent if state == "silent" else free_port()
    away = {
        **environment,
        "PINQUEUE_DATABASE_URL": f"postgresql://nobody@127.0.0.1:{port}/x",
        "PINQUEUE_TUYA_URL": f"http://127.0.0.1:{silent}",
    }
    took: list[float] = []
    while not took or (min(took) > 1.0 and len(took) < 5):
        seconds, code, output, errors = timed([PYTHON, "-m", "pinqueue", "health", "--json"], away)
        took.append(seconds)
        assert (code, errors) == (1, b"")
        assert json.loads(output)["database"] == "unreachable"
    assert min(took) <= 1.0


def timed(command: list[str], environment: dict[str, str]) -> tuple[float, int, bytes, bytes]:
    """Seconds, but for those in which others kept it from the processor; exit code and output."""
    started = time.monotonic()
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        seconds = time.monotonic() - started
        with suppress(OSError):  # not on every system
            waited = Path(f"/proc/{process.pid}/schedstat").read_text().split()[1]
            seconds -= int(waited) / 1e9
        output, errors = process.communicate(timeout=30)
    return seconds, process.returncode, output, errors
