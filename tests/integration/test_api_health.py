"""Health over HTTP: truthful, and in time whatever the database does."""

from __future__ import annotations

from threading import Thread

import psycopg
import pytest

from tests.calling import Client, client, new_key, stay
from tests.serving import Web, serving
from tests.wires import Wire

WORKER = "INSERT INTO procrastinate_workers (last_heartbeat) VALUES (now())"


def test_it_is_good_while_a_worker_lives_and_nothing_is_overdue(web: Web) -> None:
    who = client(web, "operate")
    who.told(201, "PUT", "/api/reservations/res-1", stay())
    told = who.told(503, "GET", "/api/health")
    assert (told["healthy"], told["workers"]) == (False, [])
    web.execute(WORKER)
    told = who.get("/api/health")
    assert (told["healthy"], told["database"], told["lock_cloud"]) == (True, "ok", "not set")
    assert told["schema"]["current"] == told["schema"]["expected"]
    assert (told["problems"], told["warnings"]) == ([], [])
    assert [one["active_jobs"] for one in told["workers"]] == [0]
    assert told["queues"]["generate_pin"]["delayed"] == 1
    assert (told["oldest_overdue_seconds"], told["overdue_pins"]) == (0, 0)


def test_a_due_operation_that_nobody_takes_up_is_told(web: Web) -> None:
    who = client(web, "operate")
    who.told(201, "PUT", "/api/reservations/res-1", stay())
    web.execute(WORKER)
    web.execute("UPDATE operations SET next_at = now() - interval '5 min' WHERE kind = 'generate'")
    told = who.told(503, "GET", "/api/health")
    assert told["oldest_overdue_seconds"] > 299


def test_another_schema_is_told(web: Web) -> None:
    who = client(web, "read")
    web.execute(WORKER)
    web.execute("UPDATE alembic_version SET version_num = '0003'")
    told = who.told(503, "GET", "/api/health")
    assert (told["healthy"], told["schema"]["current"]) == (False, "0003")
    assert "run `pinqueue migrate`" in told["problems"][0]


def test_it_is_told_while_other_calls_hold_every_connection(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pinqueue.web.POOL_SIZE", 1)
    with serving(database_url) as web, psycopg.connect(database_url) as holding:
        web.set_up()
        web.execute(WORKER)
        who = client(web, "operate")
        who.told(201, "PUT", "/api/reservations/res-1", stay())
        holding.execute("SELECT FROM reservations WHERE id = 'res-1' FOR UPDATE")
        confirming = Thread(target=who.call, args=("POST", "/api/reservations/res-1/confirm"))
        confirming.start()
        web.wait_for_lock()
        answer = who.call("GET", "/api/health")
        holding.rollback()
        confirming.join()
    assert (answer.status, answer.json()["database"]) == (200, "ok")
    assert answer.seconds < 1


@pytest.mark.parametrize("how", ["cut", "fall_silent"])
def test_without_a_database_it_answers_within_a_second(
    database_url: str, wire: Wire, how: str
) -> None:
    with serving(database_url, wire.url) as web:
        who = Client(web, new_key(web, "read"))
        who.told(503, "GET", "/api/health")
        getattr(wire, how)()
        answer = who.call("GET", "/api/health")
        assert (answer.status, answer.json()["database"]) == (503, "unreachable")
        assert answer.seconds < 1
        wire.mend()
