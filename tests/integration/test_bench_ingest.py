"""The transaction that is typed into pgbench is the one that a webhook is."""

from __future__ import annotations

import json
import subprocess
from datetime import UTC, datetime
from importlib.resources import as_file, files

from pinqueue import embedded, inventory
from pinqueue.bench import ingest
from tests.serving import PLANNED, Web


def test_pgbench_writes_the_rows_of_an_accepted_webhook(web: Web) -> None:
    secret = web.do(lambda db, planner: ingest.set_up(db, planner.sealer))
    before, audited = web.counts(), len(web.ask("SELECT FROM audit_events"))
    (request,) = ingest.signed(1, secret)
    assert web.exchange(request).outcome == "accepted"
    assert web.added(before) == PLANNED
    by_webhook = web.ask("SELECT event FROM audit_events ORDER BY id OFFSET %s", audited)

    before, audited = web.counts(), len(web.ask("SELECT FROM audit_events"))
    with as_file(files("pinqueue.bench") / "ingest.sql") as script:
        options = ("--no-vacuum", "--protocol=prepared", "--transactions=1", f"--file={script}")
        subprocess.run(
            [embedded.programs() / "pgbench", *options, web.database_url],
            check=True,
            capture_output=True,
        )
    assert web.added(before) == PLANNED
    assert web.ask("SELECT event FROM audit_events ORDER BY id OFFSET %s", audited) == by_webhook


def test_the_stays_that_are_told_of_one_listing_follow_each_other() -> None:
    now, listings = datetime.now(UTC), ingest.LISTINGS
    first, second = (ingest.dates(number, now) for number in (7, 7 + listings))
    assert first[0] < first[1] < second[0] < second[1]


def test_a_stay_is_told_and_signed_when_it_is_asked_for() -> None:
    events = ingest.signed(2, inventory.new_webhook_secret())
    next(events)
    before = datetime.now(UTC)
    _, body = next(events).split(b"\r\n\r\n")
    assert datetime.fromisoformat(json.loads(body)["timestamp"]) >= before
