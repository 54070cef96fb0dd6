"""`GET /metrics` of a web process."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import pytest

from pinqueue.config import Settings
from pinqueue.db import Database
from pinqueue.lifecycle import OperationKind
from pinqueue.locks.tuya_errors import label_of
from pinqueue.metrics import COUNTED, FINDINGS, GAUGES, METHODS, OUTCOMES
from pinqueue.monitoring import Monitor
from pinqueue.operations import Workbench
from pinqueue.reservations import Planner
from pinqueue.simulator import Control
from pinqueue.store.queue import STATES
from pinqueue.web import TABLE
from tests import factories
from tests.exposition import Exposition
from tests.leaks import leaks
from tests.operating import LIST, a_workbench, book, cancel, digits, ring
from tests.serving import Answer, Web, serving
from tests.wires import Wire

ANSWERS = "pinqueue_webhook_answers_total"
REQUESTS = "pinqueue_http_requests_total"
OPERATIONS = "pinqueue_operations_total"


def get(web: Web, path: str = "/metrics", method: str = "GET", **headers: str) -> Answer:
    return web.post(b"", headers, path, method)


def scraped(web: Web) -> Exposition:
    answer = get(web)
    assert answer.status == 200
    return Exposition(answer.body.decode())


# Webhooks and requests


def test_each_answer_to_a_webhook_is_counted_by_what_became_of_it(web: Web) -> None:
    raw, headers = factories.signed(factories.event("res-1"))
    web.post(raw, headers)
    web.post(raw, headers)
    web.tell(factories.event("res-2", listing_id="apt-unknown"))
    web.post(raw, {**headers, "webhook-signature": "v1,AAAA"})
    web.post(raw, headers, "/webhooks/nobody")
    web.post(raw, {**headers, "content-type": "text/plain"})
    assert scraped(web).counted(ANSWERS) == {
        # kind, outcome, status
        ("pinqueue", "accepted", "200"): 1,
        ("pinqueue", "duplicate", "200"): 1,
        ("pinqueue", "unmapped", "200"): 1,
        ("pinqueue", "unauthorized", "401"): 1,
        ("unknown", "unknown_source", "404"): 1,
        ("unknown", "unsupported_media_type", "415"): 1,
    }


def test_a_webhook_that_breaks_something_is_counted_as_internal(web: Web) -> None:
    web.execute("ALTER TABLE webhook_events RENAME COLUMN body TO corpse")
    assert web.tell(factories.event()).status == 500
    found = scraped(web)
    assert found.counted(ANSWERS) == {("pinqueue", "internal", "500"): 1}
    assert found.counted(REQUESTS)[("POST", "/webhooks/{source}", "500")] == 1


def test_requests_are_counted_by_the_template_of_their_route(web: Web) -> None:
    for source in ("main", "other", "x" * 64):
        web.post(b"{}", {}, f"/webhooks/{source}")
    get(web, "/healthz")
    get(web, "/healthz", "HEAD")
    get(web, "/healthz", "PROPFIND")
    get(web, "/webhooks/main")
    get(web, "/wp-login.php")
    assert scraped(web).counted(REQUESTS) == {
        ("POST", "/webhooks/{source}", "415"): 3,
        ("GET", "/healthz", "200"): 1,
        ("HEAD", "/healthz", "200"): 1,
        ("other", "/healthz", "405"): 1,
        ("GET", "/webhooks/{source}", "405"): 1,
        ("GET", "other", "404"): 1,
    }


def test_the_answer_is_of_the_type_prometheus_reads(web: Web) -> None:
    assert get(web).headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    accept = "application/openmetrics-text;version=1.0.0"
    answer = get(web, accept=accept)
    assert answer.headers["content-type"].startswith(accept.partition(";")[0])


def test_every_web_process_tells_what_all_of_them_counted(web: Web) -> None:
    with serving(web.database_url) as other:
        other.tell(factories.event("res-1"))
        web.tell(factories.event("res-2"))
        scraped(web)
        assert scraped(other).value(ANSWERS, kind="pinqueue", status=200, outcome="accepted") == 2
    with serving(web.database_url) as new:
        assert scraped(new).value(ANSWERS, kind="pinqueue", status=200, outcome="accepted") == 2


# Gauges


def test_the_queues_are_told_by_state(web: Web) -> None:
    web.tell(factories.event())
    web.execute(
        "UPDATE procrastinate_jobs SET scheduled_at = now() - interval '1 s'"
        " WHERE queue_name = 'generate_pin'"
    )
    found = scraped(web)
    assert found.counted("pinqueue_jobs") == {
        ("generate_pin", "waiting"): 1,
        ("revoke_pin", "delayed"): 1,
    }
    assert found.value("pinqueue_jobs", queue="revoke_pin", state="failed") == 0


def test_the_oldest_overdue_operation_is_told_in_seconds(web: Web) -> None:
    assert scraped(web).value("pinqueue_oldest_overdue_seconds") == 0
    web.tell(factories.event())
    web.execute("UPDATE operations SET next_at = now() - interval '5 min' WHERE kind = 'generate'")
    told = scraped(web).value("pinqueue_oldest_overdue_seconds")
    assert told == pytest.approx(300, abs=30)


def test_a_pin_that_is_on_a_door_past_its_end_is_told(web: Web) -> None:
    assert scraped(web).value("pinqueue_overdue_pins") == 0
    web.tell(factories.event())
    web.execute(
        "UPDATE access_codes SET state = 'generating', starts_at = now() - interval '2 days',"
        " ends_at = now() - interval '1 hour', create_in_doubt_since = now()"
    )
    assert scraped(web).value("pinqueue_overdue_pins") == 1


def test_workers_that_gave_no_sign_of_life_are_not_counted(web: Web) -> None:
    web.execute(
        "INSERT INTO procrastinate_workers (last_heartbeat)"
        " VALUES (now()), (now() - interval '20 s'), (now() - interval '40 s')"
    )
    assert scraped(web).value("pinqueue_workers") == 2


# Outages


@pytest.mark.parametrize("outage", [Wire.cut, Wire.fall_silent], ids=["gone", "silent"])
def test_without_its_database_a_scrape_is_answered_within_a_second(
    wire: Wire, database_url: str, outage: Callable[[Wire], None]
) -> None:
    with serving(database_url, through=wire.url) as web:
        web.set_up()
        web.tell(factories.event("res-1"))
        before = scraped(web)
        assert before.value("pinqueue_database_up") == 1
        outage(wire)
        assert web.tell(factories.event("res-2")).status == 503
        answer = get(web)
        assert answer.status == 200
        assert answer.seconds < 1.5  # 0.8, on a machine with nothing else to do
        during = Exposition(answer.body.decode())
        assert during.value("pinqueue_database_up") == 0
        assert during.counted(ANSWERS)[("pinqueue", "accepted", "200")] == 1
        # Of a kind that is known only where its source was looked up a moment ago.
        told = [(kind, "unavailable", "503") for kind in ("pinqueue", "unknown")]
        assert sum(during.counted(ANSWERS).get(series, 0) for series in told) == 1
        wire.mend()
        after = scraped(web)
        assert after.value("pinqueue_database_up") == 1
        for series, value in during.counted(ANSWERS).items():
            assert after.counted(ANSWERS)[series] == value


def test_a_web_process_stops_in_time_without_its_database(wire: Wire, database_url: str) -> None:
    with serving(database_url, through=wire.url) as web:
        web.set_up()
        web.tell(factories.event("res-1"))
        wire.fall_silent()
        asked_at = time.monotonic()
    assert time.monotonic() - asked_at < 8  # each of its last two tries is given 2 s


# Bounds

WORD = re.compile(r"[a-z][a-z_]*")
BOUNDS = {
    "found": set(FINDINGS),
    "kind": {*OperationKind, "pinqueue", "unknown"},
    "queue": {"generate_pin", "revoke_pin"},
    "state": set(STATES),
    "call": {"token", "ticket", "list", "create", "change", "delete"},
    "route": {*(one.path for one in TABLE), "/webhooks/{source}/{secret}", "other"},
    "method": {*METHODS, "other"},
}


def bounded(name: str, label: str, text: str) -> bool:
    if label == "outcome":
        return text in OUTCOMES if name == OPERATIONS else bool(WORD.fullmatch(text))
    if label == "error":
        return text.startswith(("Lock", "Pin", "Name"))
    if label == "code":
        return text in ("none", "other") or label_of(text) == text
    if label == "status":
        return bool(re.fullmatch(r"[1-5]\d\d", text))
    if label in ("le", "version"):
        return True
    return text in BOUNDS[label]


async def live(bench: Workbench, doors: Control) -> set[str]:
    """A stay that comes and goes, one that fails, and one that has to wait; returns their PINs."""
    pins = set()
    for fault, reservation in ((None, "res-11"), (28841105, "res-12"), (7777777, "res-13")):
        pins.add(digits(bench, await book(bench, reservation_id=reservation)))
        if fault is not None:
            doors.fault("code", LIST, code=fault)
        await ring(bench, "generate", reservation)
    await cancel(bench, "res-11")
    await ring(bench, "revoke", "res-11")
    return pins


def test_every_label_is_of_a_bounded_set_and_no_id_or_pin_is_told(
    web: Web, settings: Settings, prompt: Control
) -> None:
    async def work(db: Database, planner: Planner) -> set[str]:
        async with a_workbench(settings, db, planner) as bench:
            pins = await live(bench, prompt)
            await Monitor(db, bench.metrics).add_up()
            return pins

    pins = web.do(work)
    web.tell(factories.event("res-14"))
    web.tell({"neither": "shape"})
    paths = ("webhooks/somebody", "api/reservations/res-14", "doors/res-14", "metrics?door=res-14")
    for path in (f"/{path}" for path in paths):
        get(web, path)
    found = scraped(web)
    assert found.counted(OPERATIONS) == {
        ("generate", "completed"): 1,
        ("generate", "failed"): 1,
        ("generate", "later"): 1,
        ("revoke", "completed"): 1,
    }
    assert set(found.families) == {one.name.removesuffix("_total") for one in (*COUNTED, *GAUGES)}
    unbounded = {
        (sample.name, label, text)
        for sample in found.samples
        for label, text in sample.labels.items()
        if not bounded(sample.name, label, text)
    }
    assert unbounded == set()
    for name in ("res-1", "sim-zigbee-1", "apt-7", "main", "Ana", "somebody"):
        assert name not in found.text
    assert leaks(found.text, pins) == set()
