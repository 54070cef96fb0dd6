"""Real processes of ours for each test that asks, ended whatever becomes of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.processes import House, Shell, until

CONNECTIONS = (
    "SELECT FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    " AND application_name LIKE 'pinqueue-%'"
)


@pytest.fixture(scope="session")
def shell() -> Iterator[Shell]:
    made = Shell()
    yield made
    made.close()


@pytest.fixture
def house(environment: dict[str, str], tmp_path: Path, shell: Shell) -> Iterator[House]:
    made = House({**environment, "PINQUEUE_TUYA_GRACE": "2s"}, tmp_path, shell)
    yield made
    made.end()
    # A backend notices a moment later that its client was killed; its locks go with it.
    until(lambda: made.ask(CONNECTIONS) == [], "the killed processes' connections are gone")
