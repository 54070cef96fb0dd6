"""What of Procrastinate we replace, and what that stands on: a release that changes any of it fails
here, and the test says what to look at."""

from __future__ import annotations

import hashlib
import inspect
from importlib.metadata import version
from typing import Any

import pytest
from procrastinate import sql
from procrastinate.manager import JobManager
from procrastinate.psycopg_connector import PsycopgConnector
from procrastinate.schema import SchemaManager
from procrastinate.worker import Worker

SCHEMA = (
    "a revision has to apply its new migration files; does it notify of jobs months away still, and"
    " read every job that waits to find one that is due? Does it write the same events? See"
    " revisions 0005, 0018 and 0026, ringing.FETCH"
)
FETCH = (
    "ringing.FETCH takes its place: are its conditions the same? If it walks an index in due order,"
    " and takes several jobs, FETCH is no longer needed"
)
FINISH = "ringing.FINISH takes its place: does it write the same, and allow the same states?"
LOOP = (
    "Ringer.fetch_job stands on this: a slot is taken before each call, the next call follows at"
    " once until one gives None, and what rings during a call is forgotten"
)
STOP = "Ringer gives back what it fetched and did not hand out when these end"
LISTEN = "Ringer.listen_for_jobs rings through the same callback, in the same words"
DEFER = (
    "store.arrivals calls the same function of its schema: has a job to defer the same parts in the"
    " same order, and do its ids come back in the order of the jobs?"
)
UNCOUNTED = "UncountedRinger leaves it out"

KNOWN: list[tuple[Any, str, str]] = [
    (SchemaManager.get_schema, "c70ec4b400a6", SCHEMA),
    (sql.queries["defer_jobs"], "9866d38e4359", DEFER),
    (sql.queries["fetch_job"], "cdfaf3640359", FETCH),
    (JobManager.fetch_job, "eb92906b55c1", FETCH),
    (sql.queries["finish_job"], "46012253eb46", FINISH),
    (JobManager.finish_job, "eeb7dbb92f90", FINISH),
    (JobManager.finish_job_by_id_async, "37c39de96933", FINISH),
    (JobManager.retry_job, "8914e96080e0", "Ringer.retry_job hands its arguments on"),
    (JobManager.listen_for_jobs, "357ae708778f", LISTEN),
    (JobManager.register_worker, "611f376fe38f", UNCOUNTED),
    (JobManager.unregister_worker, "087d3ab9c74a", STOP),
    (JobManager.update_heartbeat, "91a7b7aa717e", UNCOUNTED),
    (Worker._fetch_and_process_jobs, "2963aa354dfd", LOOP),
    (Worker._run_loop, "c92ccad5fa07", LOOP),
    (Worker._handle_notification, "3f1ca288aafc", LISTEN),
    (Worker._persist_job_status, "821921c86130", "a slot counts as free when it has written"),
    (Worker._start_side_tasks, "2623df64cb23", STOP),
    (Worker._shutdown, "7e40cbd5efe3", STOP),
    (PsycopgConnector._create_pool, "33693de57a73", "ringing.app hands it the pool's arguments"),
    (
        PsycopgConnector._get_standalone_connection,
        "59f56e0823ec",
        "it listens with the arguments of the pool, and calls ringing.app's `configure`",
    ),
]


def _names() -> list[str]:
    queries = {text: f"its query {name}" for name, text in sql.queries.items()}
    return [queries[part] if isinstance(part, str) else part.__qualname__ for part, *_ in KNOWN]


@pytest.mark.parametrize(("part", "known", "look_at"), KNOWN, ids=_names())
def test_what_we_replace_and_stand_on_is_as_we_know_it(part: Any, known: str, look_at: str) -> None:
    source = part if isinstance(part, str) else inspect.getsource(part)
    if part == SchemaManager.get_schema:
        source = SchemaManager.get_schema()
    found = hashlib.sha256(source.encode()).hexdigest()[:12]
    assert found == known, (
        f"this is another in Procrastinate {version('procrastinate')}: {look_at}. "
        f"When that is done, write {found} here"
    )
