"""Ten thousand webhooks in ten seconds, on a real web process: rows 51 and 52 of the bad inputs."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from pinqueue.bench import ingest
from pinqueue.bench.client import request
from tests import factories
from tests.acceptance.processes import House, port_of

pytestmark = pytest.mark.slow

FLOOD, SENDERS = 10_000, 64
OTHER_SECRET = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
STRANGERS_AT_ONCE = 200
"""Ten seconds' worth of PINQUEUE_STRANGER_RATE."""


@dataclass(frozen=True)
class Answer:
    status: int
    retry_after: str | None


async def flood(port: int, requests: Iterator[bytes]) -> list[Answer]:
    """What is answered when so many senders at once post as fast as they are answered."""
    answers: list[Answer] = []

    async def send() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for sent in requests:
            writer.write(sent)
            head, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = dict(line.lower().split(": ", 1) for line in lines if line)
            await reader.readexactly(int(headers["content-length"]))
            answers.append(Answer(int(head.split()[1]), headers.get("retry-after")))
        writer.close()

    await asyncio.gather(*(send() for _ in range(SENDERS)))
    return answers


def posted(event: dict[str, Any], **signing: Any) -> bytes:
    raw, headers = factories.signed(event, **signing)
    del headers["content-type"]  # which `request` gives
    return request("/webhooks/main", raw, headers)


def told(answers: list[Answer]) -> Counter[int]:
    """How many have each status; those that ask to wait all say how long."""
    assert all(int(one.retry_after or 0) >= 1 for one in answers if one.status == 429)
    return Counter(one.status for one in answers)


@pytest.mark.parametrize(
    ("rate", "taken_at_least"),
    [pytest.param("1000", FLOOD, id="as it comes"), pytest.param("10", 600, id="ten a second")],
)
def test_b51_of_ten_thousand_valid_events_each_is_taken_whole_or_asked_to_come_again(
    rate: str, taken_at_least: int, house: House
) -> None:
    house.environment["PINQUEUE_SOURCE_RATE"] = rate
    secret = house.with_database(lambda db: ingest.set_up(db, house.planner().sealer))
    url, _ = house.web()
    statuses = told(asyncio.run(flood(port_of(url), ingest.signed(FLOOD, secret))))
    assert statuses.keys() <= {200, 429}
    assert statuses[200] >= taken_at_least
    for table, each in (("webhook_events", 1), ("reservations", 1), ("procrastinate_jobs", 2)):
        assert house.value(f"SELECT count(*) FROM {table}") == each * statuses[200], table


def test_b52_of_ten_thousand_that_prove_nothing_few_are_looked_at_and_who_proves_himself_is_taken(
    house: House,
) -> None:
    house.environment["PINQUEUE_STRANGER_RATE"] = "20"
    house.set_up({"front": "zigbee"})
    url, _ = house.web()
    proven = {FLOOD // 20 * number for number in range(20)}

    def requests() -> Iterator[bytes]:
        for number in range(FLOOD):
            secret = factories.SECRET if number in proven else OTHER_SECRET
            yield posted(factories.event(f"res-{number}"), secret=secret)

    statuses = told(asyncio.run(flood(port_of(url), requests())))
    assert statuses.keys() == {200, 401, 429}
    assert statuses[200] == len(proven) == house.value("SELECT count(*) FROM reservations")
    assert STRANGERS_AT_ONCE <= statuses[401] < statuses[429]
