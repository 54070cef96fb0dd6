"""Through PgBouncer: web and commands work, and what needs a session of its own says so."""

from __future__ import annotations

import subprocess
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from pinqueue import lines
from pinqueue.errors import ConfigInvalid
from tests import factories
from tests.conftest import PYTHON
from tests.poolers import pooling
from tests.serving import serving

TAKES_NO_OPTIONS: dict[str, object] = {}
DROPS_OPTIONS: dict[str, object] = {"ignore_startup_parameters": "options"}


@pytest.mark.parametrize("command", ["worker", "migrate"])
def test_what_needs_a_session_of_its_own_is_refused_through_a_pooler_in_transaction_mode(
    command: str, database_url: str, environment: dict[str, str]
) -> None:
    with pooling(database_url, "transaction") as url:
        done = subprocess.run(
            [PYTHON, "-m", "pinqueue", command],
            env={**environment, "PINQUEUE_DATABASE_URL": url},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 2, done.stderr
    assert "PINQUEUE_DATABASE_URL leads through a pooler in transaction mode" in done.stderr
    assert "name PostgreSQL itself there, or set pool_mode = session" in done.stderr


def test_it_is_refused_however_busy_the_pooler_is(database_url: str) -> None:
    with pooling(database_url, "transaction") as url, ThreadPoolExecutor(4) as others:
        asking = [others.submit(_ask, url, times=150) for _ in range(4)]
        for _ in range(10):
            with pytest.raises(ConfigInvalid, match="pooler in transaction mode"):
                lines.insist_own_session(url)
        for one in asking:
            one.result()


def _ask(url: str, times: int) -> None:
    with psycopg.connect(url, autocommit=True, prepare_threshold=None) as connection:
        for _ in range(times):
            connection.execute("SELECT pg_sleep(0.002)")


def test_a_pooler_in_session_mode_and_none_at_all_are_as_good(database_url: str) -> None:
    lines.insist_own_session(database_url)
    with pooling(database_url, "session") as url:
        lines.insist_own_session(url)


@pytest.mark.parametrize("settings", [TAKES_NO_OPTIONS, DROPS_OPTIONS], ids=["refuses", "drops"])
def test_webhooks_are_taken_through_a_pooler_that_passes_no_options_on(
    settings: dict[str, object], database_url: str
) -> None:
    """More senders than sessions, so that each is everybody's: no prepared statement is missed."""
    with (
        pooling(database_url, "transaction", default_pool_size=3, **settings) as url,
        serving(database_url, through=url) as web,
    ):
        web.set_up()
        events = [factories.event(f"res-{number}") for number in range(60)]
        with ThreadPoolExecutor(8) as senders:
            answers = list(senders.map(web.tell, events))
        assert {answer.outcome for answer in answers} == {"accepted"}
        assert web.counts()["procrastinate_jobs"] == 2 * len(events)


@pytest.mark.parametrize("settings", [TAKES_NO_OPTIONS, DROPS_OPTIONS], ids=["refuses", "drops"])
def test_a_sender_waits_through_a_pooler_no_longer_than_without(
    settings: dict[str, object], database_url: str
) -> None:
    """The limits of a web process hold in each transaction, and for nobody else."""
    with (
        pooling(database_url, "transaction", default_pool_size=1, **settings) as url,
        serving(database_url, through=url) as web,
    ):
        web.set_up()
        assert web.tell(factories.event("res-1")).outcome == "accepted"
        with psycopg.connect(database_url) as holder:
            holder.execute("LOCK TABLE webhook_events")
            answer = web.tell(factories.event("res-2"))
            assert answer.status == 503
            # Its session is free again: the server gave up waiting, not only we.
            with psycopg.connect(url, autocommit=True, connect_timeout=5) as other:
                shown = other.execute("SHOW lock_timeout").fetchone()
        assert shown == ("0",)
        assert web.tell(factories.event("res-2")).outcome == "accepted"
