"""What many operations write down at once: in few transactions, each for itself, by its own row."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, replace
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from sqlalchemy import text

from pinqueue.bench import crowd
from pinqueue.config import Settings
from pinqueue.db import Database, Row, driver_connection
from pinqueue.errors import DatabaseUnavailable, PinQueueError, StateChanged
from pinqueue.ledger import Ledger
from pinqueue.operations import Workbench
from pinqueue.store import access_codes, claiming
from pinqueue.store.claiming import Claimed
from pinqueue.store.claims import Accepted, Intent, Seen
from tests import factories
from tests.operating import book, cancel, code_of, execute, operation_of, until

pytestmark = pytest.mark.anyio

DOORS = 12


@pytest.fixture
async def ledger(bench: Workbench) -> Ledger:
    """Of a worker with a dozen stays that are due, each on a lock of its own."""
    for number in range(DOORS):
        await book(bench, f"lock{number}", f"res-{number}")
    return bench.ledger


async def generates(bench: Workbench) -> list[int]:
    rows = await factories.rows(
        bench.db, "SELECT id FROM operations WHERE kind = 'generate' ORDER BY id"
    )
    return [row["id"] for row in rows]


async def claimed(bench: Workbench) -> list[Claimed]:
    found = await asyncio.gather(*(bench.ledger.claim(id_, None) for id_ in await generates(bench)))
    return [claim for claim in found if claim is not None]


async def transactions(db: Database, table: str) -> int:
    """How many wrote the rows as they are."""
    count: int = await factories.value(db, f"SELECT count(DISTINCT xmin::text) FROM {table}")
    return count


@asynccontextmanager
async def held_by_another(bench: Workbench, reservation_id: str) -> AsyncIterator[None]:
    """Somebody else's transaction has that stay's code, for the block."""
    code = await code_of(bench, reservation_id)
    async with bench.db.transaction() as session:
        await access_codes.code_for_update(session, code.id)
        yield


async def test_a_dozen_claimed_at_once_are_written_down_in_two_transactions(
    bench: Workbench, ledger: Ledger
) -> None:
    claims = await claimed(bench)
    assert len(claims) == DOORS
    assert await transactions(bench.db, "tries") <= 2


async def test_a_claim_gives_the_rows_as_they_are_in_the_database(
    bench: Workbench, ledger: Ledger
) -> None:
    (first, *_) = await claimed(bench)
    async with bench.db.transaction() as session:
        operation, code = await claiming.hold_claim(session, first)
        intended = {"create_in_doubt_since": first.now}  # as `intends` tells
        for given, kept in (
            (asdict(first.operation), operation),
            (asdict(first.code) | intended, code),
        ):
            assert given == {name: getattr(kept, name) for name in given}
    assert first.intends


async def test_who_finds_a_code_in_other_hands_waits_for_it_and_nobody_else_does(
    bench: Workbench, ledger: Ledger
) -> None:
    mine, other = await generates(bench), await operation_of(bench, "generate", "res-3")
    async with held_by_another(bench, "res-3"):
        waiting = asyncio.create_task(ledger.claim(other.id, None))
        others = [ledger.claim(id_, None) for id_ in mine if id_ != other.id]
        assert None not in await asyncio.gather(*others)
        assert not waiting.done()
    assert await waiting is not None


async def test_what_is_closed_or_not_due_yet_is_not_claimed(
    bench: Workbench, ledger: Ledger
) -> None:
    await cancel(bench, "res-0", "lock0")
    closed = await operation_of(bench, "generate", "res-0")
    ahead = await operation_of(bench, "revoke", "res-1")
    assert [await ledger.claim(one.id, None) for one in (closed, ahead)] == [None, None]
    assert [await ledger.due(one.id) for one in (closed, ahead)] == [None, None]
    assert await factories.rows(bench.db, "SELECT FROM tries") == []


async def test_a_revoke_that_has_a_generate_to_cancel_is_left_to_who_does_that(
    bench: Workbench, ledger: Ledger
) -> None:
    await claimed(bench)
    revoke = await operation_of(bench, "revoke", "res-0")
    await execute(bench.db, "UPDATE operations SET next_at = now() WHERE id = :id", id=revoke.id)
    assert await ledger.claim(revoke.id, None) is None
    assert (await operation_of(bench, "revoke", "res-0")).state == "waiting"


@pytest.mark.parametrize("step", ["intend", "accept", "complete"])
async def test_whose_claim_is_spent_records_nothing_and_the_others_do(
    step: str, bench: Workbench, ledger: Ledger
) -> None:
    mine = await claimed(bench)
    spent = mine[4]
    assert await ledger.claim(spent.operation.id, None) is not None, "by another worker"
    answers = await asyncio.gather(
        *(written(ledger, step, claim) for claim in mine), return_exceptions=True
    )
    assert [isinstance(answer, StateChanged) for answer in answers] == [
        claim is spent for claim in mine
    ]


async def test_what_cannot_be_written_breaks_none_of_those_it_came_with(
    bench: Workbench, ledger: Ledger
) -> None:
    mine = await claimed(bench)
    await asyncio.gather(*(ledger.intend(Intent(claim, claim.now, "hash")) for claim in mine))
    entries = [Accepted(claim, claim.now, 17) for claim in mine]
    entries[4] = replace(entries[4], remote_id=2**63)  # one more than its column holds
    asked = [ledger.accept(entry).written() for entry in entries]
    answers: list[object] = await asyncio.gather(*asked, return_exceptions=True)
    broken = [number for number, answer in enumerate(answers) if answer is not None]
    assert broken == [4]
    assert not isinstance(answers[4], PinQueueError)
    states = await factories.rows(bench.db, "SELECT state FROM access_codes ORDER BY id")
    assert [row["state"] for row in states].count("sent") == DOORS - 1


async def test_who_waits_in_vain_for_a_row_takes_none_of_the_others_down(
    settings: Settings, bench: Workbench, ledger: Ledger
) -> None:
    """As when somebody holds an operation in psql, without its code."""
    mine, theirs = await generates(bench), await operation_of(bench, "generate", "res-3")
    hasty = Database(settings.database_url, limits={"lock_timeout": "300ms"})
    async with bench.db.transaction() as session:
        await session.execute(
            text("SELECT FROM operations WHERE id = :id FOR UPDATE"), {"id": theirs.id}
        )
        its = Ledger(hasty, bench.mutex)
        answers = await asyncio.gather(
            *(its.claim(id_, None) for id_ in mine), return_exceptions=True
        )
    await hasty.close()
    assert [isinstance(answer, Claimed) for answer in answers] == [id_ != theirs.id for id_ in mine]
    assert isinstance(answers[mine.index(theirs.id)], DatabaseUnavailable)


async def test_a_window_that_was_moved_is_not_taken_for_the_one_that_was_seen(
    bench: Workbench, ledger: Ledger
) -> None:
    (claim, *_) = await claimed(bench)
    await ledger.intend(Intent(claim, claim.now, "hash"))
    await ledger.accept(Accepted(claim, claim.now, 17)).written()
    later = {"id": claim.code.id, "ends_at": claim.code.ends_at + timedelta(hours=2)}
    await execute(bench.db, "UPDATE access_codes SET ends_at = :ends_at WHERE id = :id", **later)
    assert await ledger.complete(Seen(claim, claim.now)) is False
    assert (await code_of(bench, "res-0")).state == "sent"


SEEN = "SELECT state, remote_id, create_in_doubt_since, sent_at, active_at FROM access_codes"
TOLD = """
    SELECT event FROM audit_events WHERE event IN ('code:sent', 'code:active')
    ORDER BY access_code_id, id
"""


async def test_what_is_accepted_and_seen_at_once_is_written_down_as_one_after_the_other(
    bench: Workbench, ledger: Ledger
) -> None:
    one, other, *_ = await claimed(bench)
    accepted = [Accepted(claim, one.now + timedelta(seconds=1), 17) for claim in (one, other)]
    seen_at = one.now + timedelta(seconds=2)
    await asyncio.gather(*(ledger.intend(Intent(claim, one.now, "hash")) for claim in (one, other)))
    assert await ledger.complete(Seen(one, seen_at, accepted[0]))
    await ledger.accept(accepted[1]).written()
    assert await ledger.complete(Seen(other, seen_at))
    rows = await factories.rows(bench.db, SEEN + " WHERE state = 'active'")
    assert rows == [rows[0]] * 2
    wanted = {"state": "active", "remote_id": 17, "create_in_doubt_since": None}
    assert {**rows[0], **wanted} == rows[0]
    assert (rows[0]["sent_at"], rows[0]["active_at"]) == (accepted[0].at, seen_at)
    told = [row["event"] for row in await factories.rows(bench.db, TOLD)]
    assert told == ["code:sent", "code:active"] * 2


async def test_where_the_window_was_moved_its_acceptance_is_not_written_down_with_its_end_either(
    bench: Workbench, ledger: Ledger
) -> None:
    (claim, *_) = await claimed(bench)
    await ledger.intend(Intent(claim, claim.now, "hash"))
    moved = "UPDATE access_codes SET ends_at = ends_at + interval '1 hour' WHERE id = :id"
    await execute(bench.db, moved, id=claim.code.id)
    assert await ledger.complete(Seen(claim, claim.now, Accepted(claim, claim.now, 17))) is False
    code = await code_of(bench, "res-0")
    assert (code.state, code.remote_id) == ("generating", None)


async def test_what_was_withdrawn_meanwhile_is_not_completed_by_its_acceptance(
    bench: Workbench, ledger: Ledger
) -> None:
    (claim, *_) = await claimed(bench)
    await execute(bench.db, "UPDATE access_codes SET state = 'revoking'")
    with pytest.raises(StateChanged):
        await ledger.complete(Seen(claim, claim.now, Accepted(claim, claim.now, 17)))


# What the statements read


async def written(ledger: Ledger, step: str, claim: Claimed) -> object:
    now = claim.now
    if step == "claim":
        return await ledger.claim(claim.operation.id, None)
    if step == "intend":
        return await ledger.intend(Intent(claim, now, "hash"))
    if step == "accept":
        await ledger.accept(Accepted(claim, now, 17)).written()
        return None
    return await ledger.complete(Seen(claim, now))


@contextmanager
def overheard(db: Database) -> Iterator[list[tuple[str, Any]]]:
    """The statements that are run meanwhile, each at once, with their parameters."""
    heard: list[tuple[str, Any]] = []
    run = db.at_once

    async def hear(statement: str, parameters: Mapping[str, Any]) -> list[Row]:
        heard.append((statement, parameters))
        return await run(statement, parameters)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(db, "at_once", hear)
        yield heard


async def pages(db: Database, statement: str, parameters: Any) -> int:
    """How many it looks at when it is run again; it leaves nothing behind."""
    async with db.transaction() as session:
        connection = await driver_connection(session)
        explain = b"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + statement.encode()
        row = await (await connection.execute(explain, parameters)).fetchone()
        await session.rollback()
    assert row is not None
    plan: dict[str, int] = row[0][0]["Plan"]
    return plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]


PAGES_A_STEP = 40
"""For each operation: its row, its code's, a try, an audit event, and the indexes of each."""


@pytest.mark.parametrize("analysed", [True, False], ids=["analysed", "analysed when empty"])
async def test_each_step_reads_its_own_rows_with_a_hundred_thousand_operations_open(
    analysed: bool, bench: Workbench, database_url: str
) -> None:
    """Told by old statistics that few are open, PostgreSQL would read an index of all that are."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        for table in ("operations", "access_codes", "tries"):
            connection.execute(f"ALTER TABLE {table} SET (autovacuum_enabled = off)".encode())
        connection.execute("ANALYZE")
    crowd.fill(database_url, 100_000, analyse=analysed)
    for number in range(DOORS):
        await book(bench, f"lock{number}", f"res-{number}")
    due = [(await operation_of(bench, "generate", f"res-{n}")).id for n in range(DOORS)]
    mine = [claim for id_ in due if (claim := await bench.ledger.claim(id_, None)) is not None]
    read = {}
    for step in ("claim", "intend", "accept", "complete"):
        with overheard(bench.db) as heard:
            await asyncio.gather(*(written(bench.ledger, step, claim) for claim in mine))
        read[step] = [await pages(bench.db, *asked) for asked in heard if "WITH" in asked[0]]
        if step == "claim":
            mine = [await claim_again(bench, claim) for claim in mine]
    assert max(max(counts) for counts in read.values()) <= DOORS * PAGES_A_STEP, read


STEPS = ("due", "claim", "intend", "accept", "complete")


async def blocks(bench: Workbench) -> int:
    """How many were looked at so far, by the sessions that keep their plans."""
    flush = "SELECT pg_stat_force_next_flush()"
    await bench.db.at_once(flush, {})
    await bench.mutex.ask(flush, {})
    count: int = await factories.value(
        bench.db,
        "SELECT sum(heap_blks_hit + heap_blks_read + idx_blks_hit + idx_blks_read)::bigint"
        " FROM pg_statio_user_tables WHERE relname NOT LIKE 'procrastinate%'",
    )
    return count


async def walk(bench: Workbench, reservation_id: str) -> dict[str, int]:
    """An operation from its ring to its end; how many blocks each step looked at."""
    id_ = (await operation_of(bench, "generate", reservation_id)).id
    read: dict[str, int] = {}
    claim: Claimed | None = None
    for step in STEPS:
        before = await blocks(bench)
        if step == "due":
            async with bench.mutex.hold(bench.ledger.due(id_)) as (_, alone):
                assert alone
        elif step == "claim":
            claim = await bench.ledger.claim(id_, None)
        elif claim:
            await written(bench.ledger, step, claim)
        read[step] = await blocks(bench) - before
    return read


async def test_a_plan_that_was_kept_since_the_tables_were_empty_reads_no_more_than_its_rows(
    bench: Workbench, ledger: Ledger, database_url: str
) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        for table in ("operations", "access_codes", "tries", "locks", "audit_events"):
            connection.execute(f"ALTER TABLE {table} SET (autovacuum_enabled = off)".encode())
    for number in range(DOORS - 1):  # a statement is prepared when it was run a few times
        before = await walk(bench, f"res-{number}")
    with psycopg.connect(database_url) as connection:
        connection.execute("SET LOCAL session_replication_role = replica")
        connection.execute(crowd.AHEAD.format(stays=50_000).encode())
    for ask in (bench.db.at_once, bench.mutex.ask):
        ((kept,),) = await ask("SELECT sum(generic_plans) FROM pg_prepared_statements", {})
        assert kept > 0
    after = await walk(bench, f"res-{DOORS - 1}")
    # Each index has grown by a level or two.
    assert max(after[step] - 3 * before[step] for step in STEPS) <= 10, (before, after)


async def claim_again(bench: Workbench, claim: Claimed) -> Claimed:
    again = await bench.ledger.claim(claim.operation.id, None)
    assert again is not None
    return again


async def test_pages_are_counted_with_eyes_that_see(bench: Workbench, database_url: str) -> None:
    crowd.fill(database_url, 100_000)
    every = "SELECT count(*) FROM operations WHERE last_error IS NULL"
    assert await pages(bench.db, every, None) > 1000


async def test_a_statement_that_is_cancelled_or_broken_does_not_keep_the_next_from_being_written(
    bench: Workbench,
) -> None:
    async def asleep() -> bool:
        query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
        return bool(await factories.value(bench.db, query))

    sleeping = asyncio.create_task(bench.db.at_once("SELECT pg_sleep(30)", {}))
    await until(asleep)
    sleeping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sleeping
    assert await bench.db.at_once("SELECT 1", {}) == [(1,)]
    with pytest.raises(DatabaseUnavailable):
        await bench.db.at_once("SELECT pg_terminate_backend(pg_backend_pid())", {})
    assert await bench.db.at_once("SELECT 1", {}) == [(1,)]
