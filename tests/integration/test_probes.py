"""What an orchestrator asks a web process: whether it lives, and whether it can take a webhook."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.serving import Answer, Web, serving
from tests.wires import Wire


@pytest.fixture
def wired(wire: Wire, database_url: str) -> Iterator[Web]:
    with serving(database_url, through=wire.url) as web:
        yield web


def probe(web: Web, path: str) -> Answer:
    return web.post(b"", {}, path, "GET")


@pytest.mark.parametrize("outage", [Wire.cut, Wire.fall_silent], ids=["gone", "silent"])
def test_without_its_database_a_process_lives_and_says_within_a_second_that_it_is_not_ready(
    wire: Wire, wired: Web, outage: Callable[[Wire], None]
) -> None:
    assert probe(wired, "/readyz").status == 200
    outage(wire)
    answer = probe(wired, "/readyz")
    assert (answer.status, answer.json()) == (503, {"status": "unavailable", "reason": "database"})
    assert answer.seconds < 1.5  # 1.0, on a machine with nothing else to do
    assert probe(wired, "/healthz").status == 200
    wire.mend()
    assert probe(wired, "/readyz").status == 200
