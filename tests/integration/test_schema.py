"""The migrations: what they build, that the models agree, and who refuses to run without."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from alembic.script import ScriptDirectory
from procrastinate.schema import SchemaManager
from psycopg import sql
from sqlalchemy import URL, Engine, create_engine, event, make_url
from sqlalchemy.pool import NullPool

from pinqueue import migrating, schema
from pinqueue.db import sqlalchemy_url
from pinqueue.errors import SchemaWrong
from pinqueue.models import Base
from tests.acceptance.processes import Shell
from tests.conftest import PYTHON, SECRETS, Server, environment_of
from tests.pages import blocks, filled

CHECKOUT = Path(schema.__file__).parents[1]

COLUMNS = """
    SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity,
           pg_get_expr(d.adbin, d.adrelid), col_description(c.oid, a.attnum)
    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
    LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r'
      AND a.attnum > 0 AND NOT a.attisdropped
"""
INDEXES = """
    SELECT c.relname, pg_get_indexdef(i.indexrelid) FROM pg_index i
    JOIN pg_class c ON c.oid = i.indrelid WHERE c.relnamespace = 'public'::regnamespace
"""
CONSTRAINTS = """
    SELECT c.relname, k.conname, pg_get_constraintdef(k.oid) FROM pg_constraint k
    JOIN pg_class c ON c.oid = k.conrelid
    WHERE c.relnamespace = 'public'::regnamespace AND k.contype IN ('c', 'f', 'p', 'u', 'x')
"""
FUNCTIONS = """
    SELECT p.proname, pg_get_functiondef(p.oid) FROM pg_proc p
    WHERE p.pronamespace = 'public'::regnamespace
"""
TRIGGERS = """
    SELECT c.relname, pg_get_triggerdef(t.oid) FROM pg_trigger t
    JOIN pg_class c ON c.oid = t.tgrelid
    WHERE c.relnamespace = 'public'::regnamespace AND NOT t.tgisinternal
"""
ENUMS = """
    SELECT t.typname, array_agg(e.enumlabel ORDER BY e.enumsortorder)::text FROM pg_enum e
    JOIN pg_type t ON t.oid = e.enumtypid WHERE t.typnamespace = 'public'::regnamespace
    GROUP BY t.typname
"""
TYPES = """
    SELECT t.typname, a.attname, format_type(a.atttypid, a.atttypmod)
    FROM pg_type t JOIN pg_class c ON c.oid = t.typrelid AND c.relkind = 'c'
    JOIN pg_attribute a ON a.attrelid = c.oid
    WHERE t.typnamespace = 'public'::regnamespace
"""
EVERYTHING = """
    SELECT 'relation', relname::text FROM pg_class WHERE relnamespace = 'public'::regnamespace
    UNION ALL
    SELECT 'function', proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace
    UNION ALL
    SELECT 'type', typname FROM pg_type WHERE typnamespace = 'public'::regnamespace
      AND typname NOT LIKE '%%alembic_version'
"""


def ask(url: str, query: str) -> set[tuple[object, ...]]:
    with psycopg.connect(url) as connection:
        return set(connection.execute(query.encode()).fetchall())


def catalog(url: str, *, procrastinates: bool, queries: tuple[str, ...]) -> set[tuple[object, ...]]:
    """What the queries find of Procrastinate's objects, or of all others."""
    found = {row for query in queries for row in ask(url, query)}
    return {
        row
        for row in found
        if str(row[0]).startswith("procrastinate_") is procrastinates
        and row[0] != "alembic_version"
    }


def environment(url: str) -> dict[str, str]:
    lock_cloud = {"tuya_region": "eu", "tuya_access_id": "id", "tuya_access_secret": "s" * 32}
    return environment_of({**SECRETS, **lock_cloud, "database_url": url})


def begun(url: str, *command: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [PYTHON, "-m", *command],
        cwd=CHECKOUT,
        env=environment(url),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Exit code, output and errors."""
    with process:
        try:
            output, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    return process.returncode, output, errors


def alembic(url: str, *arguments: str) -> None:
    code, output, errors = ended(begun(url, "alembic", *arguments))
    assert code == 0, output + errors


def set_revision(url: str, revision: str, *, oldest: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("UPDATE alembic_version SET version_num = %s", [revision])
        connection.execute("UPDATE schema_support SET oldest_revision = %s", [oldest])


@pytest.fixture(scope="module")
def shell() -> Iterator[Shell]:
    made = Shell()
    yield made
    made.close()


@pytest.fixture
def plain_role(server: Server) -> Iterator[str]:
    """A role that may log in and nothing else. Ask for it before the database it uses."""
    name = f"pinqueue_plain_{uuid4().hex[:12]}"
    made = "CREATE ROLE {} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD 'plain'"
    server.connection.execute(sql.SQL(made).format(sql.Identifier(name)))
    yield name
    server.connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


def as_role(url: str | URL, role: str) -> str:
    seen = make_url(url).set(username=role, password="plain")
    return seen.render_as_string(hide_password=False)


REPLACED = (
    "procrastinate_jobs_notify_queue_job_inserted_v1",
    "procrastinate_trigger_status_events_update_v1",
)


def test_alembic_finds_nothing_that_the_migrations_lack(database_url: str) -> None:
    alembic(database_url, "check")


def test_the_models_build_the_same_tables_checks_and_indexes_as_the_migrations(
    database_url: str, empty_database_url: str
) -> None:
    """`alembic check` does not look at CHECK constraints nor at the WHERE of an index."""
    engine = create_engine(sqlalchemy_url(empty_database_url), poolclass=NullPool)
    Base.metadata.create_all(engine)
    queries = (COLUMNS, INDEXES, CONSTRAINTS)
    migrated = catalog(database_url, procrastinates=False, queries=queries)
    modelled = catalog(empty_database_url, procrastinates=False, queries=queries)
    assert migrated ^ modelled == set()
    assert len(modelled) > 100


def test_procrastinates_objects_are_those_of_the_schema_it_ships_beside_ours(
    database_url: str, empty_database_url: str
) -> None:
    with psycopg.connect(empty_database_url) as connection:
        connection.execute(SchemaManager.get_schema().encode())
    queries = (COLUMNS, INDEXES, CONSTRAINTS, FUNCTIONS, TRIGGERS, ENUMS, TYPES)
    migrated = catalog(database_url, procrastinates=True, queries=queries)
    shipped = catalog(empty_database_url, procrastinates=True, queries=queries)
    replaced = sorted(str(found) for found in shipped - migrated)
    for found, name in zip(replaced, REPLACED, strict=True):
        assert f"TRIGGER {name} " in found
    assert [found for found in migrated - shipped if " pinqueue_" not in str(found)] == []
    assert len(shipped) > 50


def test_every_file_procrastinate_ships_is_named_by_a_revision() -> None:
    shipped = {path.name for path in Path(SchemaManager.get_migrations_path()).glob("*.sql")}
    revisions = [path.read_text() for path in (CHECKOUT / "alembic" / "versions").glob("*.py")]
    assert {name for name in shipped if not any(name in text for text in revisions)} == set()


def test_down_leaves_nothing_behind_and_up_again_builds_the_same(empty_database_url: str) -> None:
    migrating.migrate(empty_database_url)
    built = ask(empty_database_url, EVERYTHING)
    assert len(built) > 100
    alembic(empty_database_url, "downgrade", "base")
    left = ask(empty_database_url, EVERYTHING)
    assert left == {("relation", "alembic_version"), ("relation", "alembic_version_pkc")}
    migrating.migrate(empty_database_url)
    assert ask(empty_database_url, EVERYTHING) == built


def test_the_revision_that_is_asked_for_is_the_last_of_the_migrations() -> None:
    scripts = ScriptDirectory(str(CHECKOUT / "alembic"))
    assert scripts.get_heads() == [schema.REVISION]


def test_processes_that_migrate_at_once_all_succeed(empty_database_url: str) -> None:
    together = [begun(empty_database_url, "pinqueue", "migrate") for _ in range(3)]
    for code, output, errors in [ended(process) for process in together]:
        assert code == 0, output + errors
        assert "revision" in output
    assert schema.check(empty_database_url) == schema.REVISION


@pytest.fixture
def managed(server: Server) -> Iterator[tuple[str, str]]:
    """A role, and the URL by which it reaches the database that it owns: as the page makes both."""
    (page,) = blocks("docs/install.md#a-managed-postgresql")
    name = f"pinqueue_managed_{uuid4().hex[:12]}"
    made = filled(page, {"pinqueue": name, "a password": "plain"})
    for statement in made.splitlines():
        server.connection.execute(statement.encode())
    yield name, as_role(make_url(server.url).set(database=name), name)
    for gone in ("DATABASE", "ROLE"):
        server.connection.execute(sql.SQL(f"DROP {gone} {{}}").format(sql.Identifier(name)))


def test_a_role_that_owns_the_database_and_nothing_else_can_migrate(
    managed: tuple[str, str],
) -> None:
    role, url = managed
    migrating.migrate(url)
    owners = ask(url, "SELECT tableowner FROM pg_tables WHERE schemaname = 'public'")
    assert owners == {(role,)}
    (may,) = ask(
        url,
        "SELECT rolsuper, rolcreaterole, rolcreatedb, rolreplication FROM pg_roles"
        " WHERE rolname = current_user",
    )
    assert may == (False, False, False, False)
    # Managed servers allow few extensions: none is asked for.
    assert ask(url, "SELECT extname FROM pg_extension") == {("plpgsql",)}


def test_migrate_says_so_when_the_role_may_not_create_tables(
    plain_role: str, empty_database_url: str
) -> None:
    with psycopg.connect(empty_database_url) as connection:
        connection.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    with pytest.raises(SchemaWrong, match="permission denied"):
        migrating.migrate(as_role(empty_database_url, plain_role))


COMMANDS = (("check",), ("web", "--port", "1"), ("worker",))


def refusals(shell: Shell, url: str, folder: Path) -> set[str]:
    """What check, web and worker say as they end, each on one line."""
    ended = [shell.run(command, environment(url), folder) for command in COMMANDS]
    assert [process.returncode for process in ended] == [1, 1, 1]
    said = [" ".join(process.stderr.split()) for process in ended]
    assert [text for text in said if "Traceback" in text] == []
    return {text.partition("pinqueue: ")[2] for text in said}


def test_check_web_and_worker_refuse_a_database_that_was_never_migrated(
    shell: Shell, empty_database_url: str, tmp_path: Path
) -> None:
    assert refusals(shell, empty_database_url, tmp_path) == {
        "the database holds no PinQueue schema yet: run `pinqueue migrate`"
    }


@pytest.mark.parametrize("revision", ["0003", "9999"], ids=["older", "newer"])
def test_check_web_and_worker_refuse_a_database_at_another_revision(
    revision: str, shell: Shell, database_url: str, tmp_path: Path
) -> None:
    set_revision(database_url, revision, oldest="9999")
    assert refusals(shell, database_url, tmp_path) == {
        f"the database is at revision {revision}, this PinQueue needs {schema.REVISION}: "
        "run `pinqueue migrate`, or install the version that fits"
    }


def test_migrate_refuses_a_database_of_a_newer_pinqueue_and_says_what_to_do(
    database_url: str,
) -> None:
    set_revision(database_url, "9999", oldest="9999")
    with pytest.raises(SchemaWrong, match=r"9999.*install the version"):
        migrating.migrate(database_url)


def test_r28_a_newer_database_that_says_it_serves_us_is_worked_with_and_left_as_it_is(
    shell: Shell, database_url: str, tmp_path: Path
) -> None:
    set_revision(database_url, "9999", oldest=schema.REVISION)
    for command in ("migrate", "check"):
        process = shell.run((command,), environment(database_url), tmp_path)
        assert process.returncode == 0, process.stderr
        assert "revision 9999" in process.stdout
    assert schema.check(database_url) == "9999"


TAKES_AWAY = re.compile(
    r"\b(DROP (TABLE|COLUMN|VIEW|FUNCTION|TYPE|TRIGGER(?!.*\bCREATE TRIGGER))|RENAME"
    r"|SET NOT NULL|ALTER COLUMN \S+ TYPE"
    r"|ADD COLUMN (?!.*\bDEFAULT\b).*\bNOT NULL)\b",
    re.IGNORECASE,
)
"""What a version that was written for the schema before may stumble over."""
SUPPORT = "UPDATE schema_support SET oldest_revision"


def statements_of_each_revision(url: str) -> Iterator[tuple[str, list[str]]]:
    """Migrates an empty database, and tells what each revision runs."""
    ran: list[str] = []
    scripts = ScriptDirectory(str(CHECKOUT / "alembic"))
    revisions = [script.revision for script in scripts.walk_revisions()]

    def note(*call: Any) -> None:
        ran.append(" ".join(str(call[2]).split()))

    event.listen(Engine, "before_cursor_execute", note)
    try:
        for revision in reversed(revisions):
            ran.clear()
            migrating.migrate(url, revision)
            yield revision, list(ran)
    finally:
        event.remove(Engine, "before_cursor_execute", note)


def test_r28_no_migration_takes_away_what_the_version_before_needs_unless_it_says_so(
    empty_database_url: str,
) -> None:
    taking = {
        revision
        for revision, ran in statements_of_each_revision(empty_database_url)
        if any(TAKES_AWAY.search(statement) for statement in ran)
        and not any(statement.startswith(SUPPORT) for statement in ran)
    }
    # Of the time before there was anybody to be served.
    assert {revision for revision in taking if revision <= "0025"} >= {"0012"}
    assert {revision for revision in taking if revision > "0025"} == set()


RENAMED = """
INSERT INTO endpoints (id, url, secret, events) VALUES
    ('all', 'https://example.com/', '\\x00',
     '{pin.generated,pin.revoked,pin.generate_failed,pin.revoke_failed}'),
    ('desk', 'https://example.com/', '\\x00',
     '{pin.generated,pin.generate_failed,pin.revoke_failed}');
INSERT INTO deliveries (endpoint_id, event_id, type, body)
SELECT 'desk', 'evt_' || name, name, jsonb_build_object('type', name, 'data', '{}'::jsonb)
FROM endpoints, unnest(events) name WHERE id = 'all';
"""
DELIVERIES = "SELECT event_id, type, body->>'type', body->'data'->>'kind' FROM deliveries"


def test_events_told_under_their_old_names_go_on_under_the_new_ones_and_back(
    database_url: str,
) -> None:
    alembic(database_url, "downgrade", "0008")
    with psycopg.connect(database_url) as connection:
        connection.execute(RENAMED.encode())
    before = ask(database_url, "SELECT id, array_to_string(events, ' ') FROM endpoints")
    alembic(database_url, "upgrade", "0009")
    assert ask(database_url, "SELECT id, array_to_string(events, ' ') FROM endpoints") == {
        ("all", "code.scheduled code.active code.changed code.failed code.revoked"),
        ("desk", "code.active code.failed"),
    }
    assert ask(database_url, DELIVERIES) == {
        ("evt_pin.generated", "code.active", "code.active", "generate"),
        ("evt_pin.revoked", "code.revoked", "code.revoked", "revoke"),
        ("evt_pin.generate_failed", "code.failed", "code.failed", "generate"),
        ("evt_pin.revoke_failed", "code.failed", "code.failed", "revoke"),
    }
    alembic(database_url, "downgrade", "0008")
    told = {(event_id, type_) for event_id, type_, _, _ in ask(database_url, DELIVERIES)}
    assert told == {(f"evt_{type_}", type_) for _, type_ in told}
    assert len(told) == 4
    kept = ask(database_url, "SELECT id, array_to_string(events, ' ') FROM endpoints")
    assert {(id_, frozenset(str(events).split())) for id_, events in kept} == {
        (id_, frozenset(str(events).split())) for id_, events in before
    }
