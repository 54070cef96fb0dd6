"""A webhook's transaction, broken at every step: no row, no job, and the sender may come again."""

from __future__ import annotations

import threading

import psycopg
import pytest

from tests import factories
from tests.serving import WRITTEN, Web

BREAKS = {
    "an-error": ("RAISE EXCEPTION 'broken by the test'", 500),
    "a-connection-ended": ("PERFORM pg_terminate_backend(pg_backend_pid())", 503),
    "a-full-disk": ("RAISE EXCEPTION 'broken' USING ERRCODE = 'disk_full'", 503),
    "a-serialization-failure": ("RAISE EXCEPTION 'b' USING ERRCODE = '40001'", 503),
    "a-slow-statement": ("PERFORM pg_sleep(5)", 503),
}
WHENS = {
    "before": "TRIGGER broken BEFORE INSERT",
    "at-commit": "CONSTRAINT TRIGGER broken AFTER INSERT",
}
STEPS = [
    *((table, "before", how) for table in WRITTEN for how in ("an-error", "a-connection-ended")),
    *(("webhook_events", "before", how) for how in BREAKS),
    *(("procrastinate_jobs", "before", how) for how in BREAKS),
    *(("webhook_events", "at-commit", how) for how in BREAKS if how != "a-slow-statement"),
]


def break_inserts(web: Web, table: str, when: str, how: str) -> None:
    what, _ = BREAKS[how]
    deferred = "DEFERRABLE INITIALLY DEFERRED" if when == "at-commit" else ""
    web.execute(
        f"CREATE FUNCTION break() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$ BEGIN {what}; RETURN NEW; END $$"
    )
    web.execute(f"CREATE {WHENS[when]} ON {table} {deferred} FOR EACH ROW EXECUTE FUNCTION break()")


@pytest.mark.parametrize(("table", "when", "how"), dict.fromkeys(STEPS))
def test_a_break_leaves_nothing_and_the_retry_is_taken(
    shared_web: Web, table: str, when: str, how: str
) -> None:
    web, event = shared_web, factories.event(f"res-{table}-{when}-{how}")
    before = web.counts()
    break_inserts(web, table, when, how)
    try:
        answer = web.tell(event, event_id=f"msg_{table}-{when}-{how}")
    finally:
        web.execute("DROP FUNCTION break CASCADE")
    assert answer.status == BREAKS[how][1]
    assert len(answer.headers["x-request-id"]) == 16
    if answer.status == 503:
        assert answer.headers["retry-after"] == "30"
    assert answer.seconds < 2.5
    assert web.counts() == before
    assert web.tell(event, event_id=f"msg_{table}-{when}-{how}").outcome == "accepted"
    assert web.counts()["procrastinate_jobs"] == before["procrastinate_jobs"] + 2


def test_a_backend_ended_from_outside_in_mid_transaction_leaves_nothing(web: Web) -> None:
    before = web.counts()
    answers = []
    with psycopg.connect(web.database_url) as holder:
        holder.execute("LOCK TABLE procrastinate_jobs IN SHARE MODE")
        sender = threading.Thread(target=lambda: answers.append(web.tell(factories.event())))
        sender.start()
        web.wait_for_lock()
        ended = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname ="
        assert web.value(ended + " current_database() AND wait_event_type = 'Lock'") == 1
        sender.join()
    assert (answers[0].status, answers[0].headers["retry-after"]) == (503, "30")
    assert web.counts() == before


def test_nobody_sees_a_row_before_all_are_committed(web: Web) -> None:
    before = web.counts()
    answers = []
    with psycopg.connect(web.database_url) as holder:
        holder.execute("LOCK TABLE audit_events IN SHARE MODE")  # what is written last waits
        sender = threading.Thread(target=lambda: answers.append(web.tell(factories.event())))
        sender.start()
        web.wait_for_lock()
        assert web.counts() == before
        assert not answers
        holder.rollback()
        sender.join()
    assert answers[0].outcome == "accepted"
    assert web.counts()["procrastinate_jobs"] == 2
