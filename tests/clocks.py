"""The clock that PinQueue decides by, which is PostgreSQL's, and that of the doors: moved about."""

from __future__ import annotations

from datetime import UTC, datetime

import psycopg

from pinqueue.simulator import Control

MOVABLE = """
CREATE SCHEMA clock;
CREATE TABLE clock.ahead AS SELECT interval '0' AS of_the_real_one;
CREATE FUNCTION clock.now() RETURNS timestamptz LANGUAGE sql STABLE AS
    'SELECT pg_catalog.now() + of_the_real_one FROM clock.ahead';
DO $$ BEGIN
    EXECUTE format('ALTER DATABASE %I SET search_path = clock, pg_catalog, public',
                   current_database());
END $$;
"""
"""From then on, on every new connection, `now()` in any statement is the one that can be moved."""


class Clock:
    def __init__(self, database_url: str, doors: Control) -> None:
        """To be made before anybody else is connected to the database."""
        self._database_url, self._doors = database_url, doors
        self._execute(MOVABLE)
        self.moved_to = datetime.now(UTC)

    def move_to(self, instant: datetime) -> None:
        self.moved_to = instant
        self._execute(
            "UPDATE clock.ahead SET of_the_real_one ="
            " make_interval(secs => extract(epoch FROM %s - pg_catalog.now()))",
            instant,
        )
        self._doors.set_clock(instant.astimezone(UTC))

    def _execute(self, statement: str, *parameters: object) -> None:
        with psycopg.connect(self._database_url, autocommit=True) as connection:
            connection.execute(statement.encode(), parameters or None)
