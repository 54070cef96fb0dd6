"""The database is gone, silent, busy or slow: a 503 within two seconds, and the next try."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from pinqueue import web as web_module
from tests import factories
from tests.serving import Answer, Web, serving, until
from tests.wires import Wire

SLOW_COMMIT = """
CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN PERFORM pg_sleep(3); RETURN NEW; END $$;
CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON webhook_events DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION slow()
"""


@pytest.fixture
def wired(wire: Wire, database_url: str) -> Iterator[Web]:
    """A web application that reaches its database by the wire."""
    with serving(database_url, through=wire.url) as web:
        web.set_up()
        yield web


def is_asked_to_come_again(answer: Answer) -> None:
    assert (answer.status, answer.headers["retry-after"]) == (503, "30")
    assert answer.json()["error"]["code"] == "unavailable"
    assert answer.seconds < 2.5  # 1.5, on a machine with nothing else to do


def test_53_connections_that_died_while_idle_cost_no_event(wire: Wire, wired: Web) -> None:
    assert wired.tell(factories.event("res-1")).status == 200
    wire.cut()
    wire.mend()
    assert wired.tell(factories.event("res-2")).status == 200


def test_53_a_database_that_falls_silent_is_not_waited_for(wire: Wire, wired: Web) -> None:
    assert wired.tell(factories.event("res-1")).status == 200
    wire.fall_silent()
    events = [factories.event(f"res-{n}") for n in range(2, 22)]
    with ThreadPoolExecutor(20) as senders:
        for answer in senders.map(wired.tell, events):
            is_asked_to_come_again(answer)
    wire.mend()
    assert [wired.tell(event).outcome for event in events] == ["accepted"] * 20


def test_53_an_answer_to_commit_that_is_lost_is_no_200_and_the_retry_is_a_duplicate(
    wire: Wire, wired: Web
) -> None:
    event = factories.event()
    wire.silent_after, wire.silent_for = b"COMMIT\0", b"pinqueue-web"
    is_asked_to_come_again(wired.tell(event, event_id="msg_1"))
    until(lambda: wired.counts()["webhook_events"] == 1, "it is committed all the same")
    wire.mend()
    assert wired.tell(event, event_id="msg_1").outcome == "duplicate"
    assert wired.counts()["procrastinate_jobs"] == 2


def test_a_slow_commit_is_not_waited_for_and_the_retry_is_a_duplicate(web: Web) -> None:
    event = factories.event()
    web.execute(SLOW_COMMIT)
    is_asked_to_come_again(web.tell(event, event_id="msg_1"))
    web.execute("DROP FUNCTION slow CASCADE")  # waits for the transaction, which ends by itself
    assert web.tell(event, event_id="msg_1").outcome == "duplicate"
    assert web.counts()["procrastinate_jobs"] == 2


def test_53_when_every_connection_is_taken_the_sender_is_asked_to_come_again(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web_module, "POOL_SIZE", 1)
    with serving(database_url) as web, ThreadPoolExecutor(1) as other:
        web.set_up()
        web.execute(
            "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN PERFORM pg_sleep(1.3); RETURN NEW; END $$"
        )
        web.execute(
            "CREATE TRIGGER slow BEFORE INSERT ON webhook_events"
            " FOR EACH ROW WHEN (NEW.event_id = 'msg_slow') EXECUTE FUNCTION slow()"
        )
        assert web.tell(factories.event("res-1")).outcome == "accepted"
        first = other.submit(web.tell, factories.event("res-1"), event_id="msg_slow")
        sleeping = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
        until(lambda: web.value(sleeping), "the only connection is taken")
        is_asked_to_come_again(web.tell(factories.event("res-2"), event_id="msg_2"))
        first.result()
        assert web.tell(factories.event("res-2"), event_id="msg_2").outcome == "accepted"


def test_53_time_outs_leave_no_connection_taken(web: Web) -> None:
    with psycopg.connect(web.database_url) as holder:
        holder.execute("LOCK TABLE webhook_events")
        events = [factories.event(f"res-{n}") for n in range(30)]
        with ThreadPoolExecutor(30) as senders:
            for answer in senders.map(web.tell, events):
                is_asked_to_come_again(answer)
    # More than there are connections. One at a time: twenty at once for one listing wait for each
    # other, which a slow machine does not do within the limit.
    assert [web.tell(event).status for event in events] == [200] * 30
    busy = (
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pinqueue-web'"
        " AND datname = current_database() AND state <> 'idle'"
    )
    until(lambda: web.value(busy) == 0, "every connection is back")


def test_a_duplicate_waits_for_the_first_only_so_long(web: Web) -> None:
    event = factories.event()
    with psycopg.connect(web.database_url) as first:
        first.execute(
            "INSERT INTO webhook_events (source_id, event_id, body_sha256, type, body, outcome)"
            " VALUES ('main', 'msg_1', '', 'x', '{}', 'ignored')"
        )
        answer = web.tell(event, event_id="msg_1")
        is_asked_to_come_again(answer)
        assert answer.seconds > 0.9  # it did wait: the first might have committed
    assert web.counts()["webhook_events"] == 1  # the first, now committed


def test_a_stay_that_somebody_holds_is_waited_for_only_so_long(web: Web) -> None:
    web.tell(factories.event("res-1"))
    before = web.counts()
    with psycopg.connect(web.database_url) as worker:
        worker.execute("SELECT * FROM reservations FOR UPDATE")
        is_asked_to_come_again(web.tell(factories.event("res-1", "reservation.cancelled")))
    assert web.counts() == before
