"""The audit views: the columns people were promised, and what they say of every kind of end."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import psycopg
import pytest
from psycopg import sql

from pinqueue.audit import VIEWS
from pinqueue.db import Database
from pinqueue.operations import Workbench
from pinqueue.simulator import Control
from tests import factories
from tests.operating import (
    LIST,
    WIFI,
    book,
    cancel,
    code_of,
    execute,
    operation_of,
    put_on_door,
    ring,
    tell,
)

pytestmark = pytest.mark.anyio

COLUMNS = {
    "audit_jobs": """job_id queue task operation_id access_code_id reservation_id lock_id state
        attempts scheduled_at started_at finished_at late_by ran_for last_error""",
    "audit_timeline": "reservation_id at actor event detail",
}


async def view(bench: Workbench, name: str, where: str = "true") -> list[dict[str, Any]]:
    return await factories.rows(bench.db, f"SELECT * FROM {name} WHERE {where}")


async def one(bench: Workbench, name: str, where: str = "true") -> dict[str, Any]:
    (row,) = await view(bench, name, where)
    return row


async def finish_job(bench: Workbench, kind: str, status: str) -> None:
    """End the operation's job as the worker would."""
    operation = await operation_of(bench, kind)
    await execute(
        bench.db,
        "UPDATE procrastinate_jobs SET status = CAST(:status AS procrastinate_job_status)"
        " WHERE id = :id",
        status=status,
        id=operation.job_id,
    )


async def shift(bench: Workbench, kind: str, by: str) -> None:
    """As though the operation had been due that much earlier."""
    await execute(
        bench.db,
        "UPDATE operations SET due_at = due_at - CAST(:by AS interval) WHERE kind = :kind",
        by=by,
        kind=kind,
    )
    await execute(
        bench.db,
        "UPDATE job_records SET scheduled_at = scheduled_at - CAST(:by AS interval)"
        " WHERE queue = :queue",
        by=by,
        queue=f"{kind}_pin",
    )


@pytest.mark.parametrize("name", COLUMNS)
async def test_a_view_has_the_columns_it_promises_in_that_order(db: Database, name: str) -> None:
    columns = await factories.rows(
        db,
        "SELECT column_name FROM information_schema.columns WHERE table_name = :name"
        " ORDER BY ordinal_position",
        name=name,
    )
    assert [row["column_name"] for row in columns] == COLUMNS[name].split()


async def test_durations_are_intervals_and_detail_is_json(db: Database) -> None:
    types = await factories.rows(
        db,
        "SELECT table_name, column_name, data_type FROM information_schema.columns"
        " WHERE table_name LIKE 'audit%' AND column_name IN ('late_by', 'ran_for', 'detail')",
    )
    found = {(t["table_name"], t["column_name"]): t["data_type"] for t in types}
    assert found["audit_jobs", "late_by"] == found["audit_jobs", "ran_for"] == "interval"
    assert found["audit_timeline", "detail"] == "jsonb"


async def test_every_view_says_what_it_is_for(db: Database) -> None:
    said = await factories.rows(
        db,
        "SELECT relname, obj_description(oid) AS said FROM pg_class"
        " WHERE relkind = 'v' AND relname LIKE 'audit%'",
    )
    assert {row["relname"] for row in said if row["said"]} == set(VIEWS)


async def test_a_plain_role_that_may_read_the_views_reads_them_and_nothing_else(
    bench: Workbench, database_url: str, prompt: Control
) -> None:
    await put_on_door(bench, prompt)
    role = sql.Identifier(f"pinqueue_reader_{database_url.split('pinqueue_test_')[1][:12]}")
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE ROLE {}").format(role))
        try:
            for name in VIEWS:
                grant = sql.SQL("GRANT SELECT ON {} TO {}").format(sql.Identifier(name), role)
                connection.execute(grant)
            connection.execute(sql.SQL("SET ROLE {}").format(role))
            for name in VIEWS:
                connection.execute(sql.SQL("SELECT * FROM {}").format(sql.Identifier(name)))
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute("SELECT * FROM access_codes")
            connection.execute("RESET ROLE")
        finally:
            connection.execute("RESET ROLE")
            connection.execute(sql.SQL("DROP OWNED BY {}").format(role))
            connection.execute(sql.SQL("DROP ROLE {}").format(role))


async def test_a_completed_job(bench: Workbench, prompt: Control) -> None:
    code = await put_on_door(bench, prompt)
    await finish_job(bench, "generate", "succeeded")
    job = await one(bench, "audit_jobs", "queue = 'generate_pin'")
    operation = await operation_of(bench, "generate")
    assert (job["state"], job["attempts"], job["task"]) == ("completed", 1, "generate_pin")
    assert (job["operation_id"], job["job_id"]) == (operation.id, operation.job_id)
    assert (job["access_code_id"], job["reservation_id"], job["lock_id"]) == (
        code.id,
        "res-1",
        code.lock_id,
    )
    assert job["scheduled_at"] <= job["started_at"] < job["finished_at"]
    assert job["late_by"] == job["started_at"] - job["scheduled_at"]
    assert timedelta(0) < job["ran_for"] < timedelta(seconds=10)
    assert job["last_error"] is None


async def test_a_job_that_was_tried_several_times_counts_them_and_keeps_the_last_error(
    bench: Workbench, prompt: Control
) -> None:
    await book(bench)
    prompt.fault("code", LIST, code=2312)
    prompt.fault("code", LIST, code=1199)
    for _ in range(3):
        await ring(bench, "generate")
    job = await one(bench, "audit_jobs", "queue = 'generate_pin'")
    assert (job["attempts"], "slower pace" in job["last_error"]) == (3, True)


async def test_a_failed_job_and_operation(bench: Workbench, prompt: Control) -> None:
    await book(bench)
    prompt.fault("code", LIST, code=28841105)
    await ring(bench, "generate")
    await finish_job(bench, "generate", "failed")
    job = await one(bench, "audit_jobs", "queue = 'generate_pin'")
    assert (job["state"], "28841105" in job["last_error"]) == ("failed", True)
    assert job["finished_at"] is not None
    failed = await one(bench, "audit_failed")
    assert (failed["kind"], failed["state"], failed["code_state"]) == (
        "generate",
        "failed",
        "failed",
    )
    assert "28841105" in failed["last_error"]


async def test_cancelled_jobs_and_operations_are_not_late(bench: Workbench) -> None:
    await book(bench)
    await cancel(bench)
    await shift(bench, "generate", "2 hours")
    await execute(bench.db, "UPDATE access_codes SET starts_at = now() - interval '1 hour'")
    assert {job["state"] for job in await view(bench, "audit_jobs")} == {"cancelled"}
    assert {job["attempts"] for job in await view(bench, "audit_jobs")} == {0}
    operations = await view(bench, "audit_operations")
    assert {(o["state"], o["late_by"]) for o in operations} == {("cancelled", None)}
    assert await view(bench, "audit_late") == []


async def test_a_job_ahead_is_delayed_and_one_that_is_due_waits(bench: Workbench) -> None:
    await book(bench)
    states = {job["queue"]: job["state"] for job in await view(bench, "audit_jobs")}
    assert states == {"generate_pin": "waiting", "revoke_pin": "delayed"}
    await finish_job(bench, "generate", "doing")
    job = await one(bench, "audit_jobs", "queue = 'generate_pin'")
    assert (job["state"], job["finished_at"]) == ("active", None)


async def test_a_job_whose_row_somebody_deleted_is_lost(bench: Workbench) -> None:
    await book(bench)
    await execute(bench.db, "DELETE FROM procrastinate_jobs")
    assert {job["state"] for job in await view(bench, "audit_jobs")} == {"lost"}


async def test_an_operation_that_nobody_took_in_time_is_late(
    bench: Workbench, prompt: Control
) -> None:
    await book(bench)
    await shift(bench, "generate", "2 minutes")
    late = await one(bench, "audit_late")
    assert (late["kind"], late["late_by"] > timedelta(minutes=2)) == ("generate", True)
    assert "more than a minute" in late["why"]
    await ring(bench, "generate")
    taken = await one(bench, "audit_late")
    assert taken["state"] == "completed", "what was late stays on record"


async def test_f2_a_pin_not_confirmed_when_the_stay_began_is_late(
    bench: Workbench, doors: Control
) -> None:
    await book(bench, WIFI)
    await ring(bench, "generate")
    await execute(bench.db, "UPDATE access_codes SET starts_at = now() - interval '1 second'")
    await shift(bench, "generate", "30 seconds")
    late = await one(bench, "audit_late")
    assert "when the stay began" in late["why"]


async def test_what_is_in_time_is_not_late(bench: Workbench, prompt: Control) -> None:
    await put_on_door(bench, prompt)
    assert await view(bench, "audit_late") == []


async def test_live_pins_are_confirmed_only_when_seen_on_the_door(
    bench: Workbench, doors: Control
) -> None:
    await book(bench, WIFI)
    assert await view(bench, "audit_live_pins") == []
    await ring(bench, "generate")
    assert [p["confirmed"] for p in await view(bench, "audit_live_pins")] == [False]
    doors.wake(WIFI)
    await ring(bench, "generate")
    code = await code_of(bench)
    live = await one(bench, "audit_live_pins")
    assert (live["confirmed"], live["lock_id"], live["ends_at"]) == (True, WIFI, code.ends_at)
    await cancel(bench, lock=WIFI)
    assert [p["state"] for p in await view(bench, "audit_live_pins")] == ["revoking"]
    await ring(bench, "revoke")
    doors.wake(WIFI)
    await ring(bench, "revoke")
    assert await view(bench, "audit_live_pins") == []


async def test_a_create_in_doubt_may_be_on_the_door_and_is_listed_as_live(
    bench: Workbench, prompt: Control
) -> None:
    await book(bench)
    prompt.fault("reset_after", {"method": "POST", "path": "temp-password"})
    await ring(bench, "generate")
    live = await one(bench, "audit_live_pins")
    assert (live["state"], live["confirmed"]) == ("generating", False)


async def test_overdue_pins_say_by_how_long(bench: Workbench, prompt: Control) -> None:
    await put_on_door(bench, prompt)
    await execute(bench.db, "UPDATE access_codes SET starts_at = now() - interval '2 days'")
    assert await view(bench, "audit_overdue_pins") == []
    await execute(bench.db, "UPDATE access_codes SET ends_at = now() - interval '10 minutes'")
    overdue = await one(bench, "audit_overdue_pins")
    assert overdue["overdue_by"] == pytest.approx(timedelta(minutes=10), abs=timedelta(seconds=5))


async def test_a_timeline_tells_a_whole_stay_in_order(bench: Workbench, prompt: Control) -> None:
    code = await put_on_door(bench, prompt)
    await tell(bench, lasts=timedelta(days=4))
    await ring(bench, "generate")
    await cancel(bench)
    await ring(bench, "revoke")
    told = await view(bench, "audit_timeline", "reservation_id = 'res-1'")
    events = [row["event"] for row in told if not row["event"].endswith(":started")]
    assert events == [
        "reservation:confirmed",
        "code:scheduled",
        "code:sent",
        "code:active",
        "reservation:confirmed",
        "code:moved",
        "code:sent",
        "code:active",
        "reservation:cancelled",
        "code:withdrawn",
        "code:revoked",
    ]
    assert [row["at"] for row in told] == sorted(row["at"] for row in told)
    assert {row["actor"] for row in told} == {"api", "worker"}
    of_the_code = [row["detail"] for row in told if row["event"].startswith("code:")]
    assert {d["access_code_id"] for d in of_the_code} == {code.id}
    assert {d["lock_id"] for d in of_the_code} == {code.lock_id}


async def test_a_day_counts_its_operations_by_end(bench: Workbench, prompt: Control) -> None:
    await put_on_door(bench, prompt)
    prompt.fault("code", LIST, code=28841105)
    await book(bench, "sim-zigbee-2", "res-2")
    await ring(bench, "generate", "res-2")
    await execute(bench.db, "UPDATE operations SET due_at = now() WHERE kind = 'generate'")
    day = await one(bench, "audit_daily", "kind = 'generate'")
    assert (day["completed"], day["failed"], day["cancelled"], day["open"]) == (1, 1, 0, 0)
    assert day["late_p50"] <= day["late_p99"] <= day["late_max"]
    assert await view(bench, "audit_daily", "kind = 'revoke'") == [], "not due yet"
