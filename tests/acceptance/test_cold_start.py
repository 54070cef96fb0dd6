"""How soon a web process that is started can take a webhook."""

from __future__ import annotations

import time

from tests.acceptance.processes import House

AT_MOST = 3.0
"""Seconds by the clock, from nothing until /readyz answers 200."""


def test_a_web_process_is_ready_within_3_seconds_of_its_start(house: House) -> None:
    """The best of five starts: others have the processor meanwhile."""
    took: list[float] = []
    while len(took) < 5 and min(took, default=AT_MOST) >= AT_MOST:
        begun = time.monotonic()
        _, web = house.web()
        took.append(time.monotonic() - begun)
        web.kill()
    assert min(took) < AT_MOST, took
