"""Floods: who proves nothing is held off, and who proves himself is served meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from pinqueue.webhooks import limits
from tests import factories
from tests.serving import Answer, Web, serving, sign, until

OTHER_SECRET = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
FAILURES, EVENTS = 10, 60
"""What may come at once, at one a second."""


@pytest.fixture
def strict(database_url: str) -> Iterator[Web]:
    """A web application that takes one a second of anybody."""
    with serving(database_url, source_rate=1, stranger_rate=1) as web:
        web.set_up()
        web.do(lambda db, planner: factories.add_source(db, planner.sealer, "other", OTHER_SECRET))
        yield web


def unproven(web: Web, path: str = "/webhooks/main") -> Answer:
    raw = b"{}"
    return web.post(raw, sign(raw, secret=OTHER_SECRET), path)


def statuses(answers: list[Answer]) -> list[int]:
    return [answer.status for answer in answers]


def test_an_address_that_fails_too_often_is_asked_to_wait(strict: Web) -> None:
    answers = [unproven(strict) for _ in range(FAILURES + 5)]
    assert statuses(answers[:FAILURES]) == [401] * FAILURES
    assert answers[-1].outcome == "too_many_requests"
    assert int(answers[-1].headers["retry-after"]) == 1
    assert strict.counts()["webhook_events"] == 0
    until(lambda: unproven(strict).status == 401, "the wait is over")


def test_of_many_that_fail_at_once_no_more_are_answered(strict: Web) -> None:
    with ThreadPoolExecutor(30) as strangers:
        answers = list(strangers.map(lambda _: unproven(strict), range(60)))
    assert FAILURES <= statuses(answers).count(401) <= FAILURES + 5  # one a second more


def test_of_many_that_prove_themselves_at_once_all_are_taken(strict: Web) -> None:
    events = [factories.event(f"res-{n}") for n in range(3 * FAILURES)]
    with ThreadPoolExecutor(len(events)) as senders:
        answers = list(senders.map(strict.tell, events))
    assert 429 not in statuses(answers)


def test_sources_that_are_not_there_count_too(strict: Web) -> None:
    answers = [unproven(strict, f"/webhooks/nobody-{n}") for n in range(FAILURES + 5)]
    assert statuses(answers[:FAILURES]) == [404] * FAILURES
    assert answers[-1].status == 429


def test_who_proves_himself_is_taken_from_the_very_address_that_is_held_off(strict: Web) -> None:
    for n in range(FAILURES + 20):
        unproven(strict)
        if n % 5 == 0:
            assert strict.tell(factories.event(f"res-{n}")).outcome == "accepted"
    assert unproven(strict).status == 429


def test_a_secret_that_was_changed_in_the_flood_is_believed_soon(strict: Web) -> None:
    while unproven(strict).status != 429:
        pass
    web, event = strict, factories.event()
    web.do(lambda db, planner: factories.add_source(db, planner.sealer, "new", OTHER_SECRET))
    raw, headers = factories.signed(event, secret=OTHER_SECRET)
    until(lambda: web.post(raw, headers, "/webhooks/new").status == 200, "it is believed")


def test_a_flood_asks_nothing_of_the_database(strict: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LOOK_EVERY", 600.0)
    while unproven(strict).status != 429:
        pass
    with psycopg.connect(strict.database_url) as holder:
        holder.execute("LOCK TABLE sources IN ACCESS EXCLUSIVE MODE")
        paths = ["main", "nobody", "other/with-a-secret"]
        answers = [unproven(strict, f"/webhooks/{path}") for path in paths * 3]
    # Each second one more may fail: it asks, and waits for the lock in vain.
    assert statuses(answers).count(429) >= len(answers) - 2


def test_a_source_that_sends_too_much_is_asked_to_wait_and_no_other(strict: Web) -> None:
    body = {"type": "something.else"}
    answers = [strict.tell(body) for _ in range(EVENTS + 10)]
    assert statuses(answers[:EVENTS]) == [200] * EVENTS
    assert answers[-1].status == 429
    assert int(answers[-1].headers["retry-after"]) == 1
    taken = statuses(answers).count(200)
    assert strict.counts()["webhook_events"] == taken
    raw, headers = factories.signed(factories.event(), secret=OTHER_SECRET)
    assert strict.post(raw, headers, "/webhooks/other").outcome == "accepted"
    raw, headers = factories.signed(factories.event("res-2"), event_id="msg_again")
    until(lambda: strict.post(raw, headers).outcome == "accepted", "its next one is taken")


def test_a_source_that_is_switched_off_is_no_stranger(strict: Web) -> None:
    strict.execute("UPDATE sources SET enabled = false")
    answers = [strict.tell(factories.event()) for _ in range(FAILURES + 5)]
    assert statuses(answers) == [503] * len(answers)
