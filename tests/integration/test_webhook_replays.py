"""The bad-input catalogue, rows 1 to 25: who is believed, and that once is once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from pinqueue import inventory
from pinqueue.db import Database
from pinqueue.reservations import Planner
from tests import factories
from tests.serving import PLANNED, Web

OTHER_SECRET = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="


def test_1_a_good_event_plans_the_stay(web: Web) -> None:
    before = web.counts()
    answer = web.tell(factories.event())
    assert (answer.status, answer.json()) == (200, {"status": "accepted"})
    assert web.added(before) == PLANNED


def test_2_an_exact_replay_is_a_duplicate(web: Web) -> None:
    raw, headers = factories.signed(factories.event())
    web.post(raw, headers)
    before = web.counts()
    answer = web.post(raw, headers)
    assert (answer.status, answer.outcome) == (200, "duplicate")
    assert web.counts() == before


def test_3_a_retry_with_a_fresh_signature_is_a_duplicate(web: Web) -> None:
    event = factories.event()
    minutes_ago = datetime.now(UTC) - timedelta(minutes=4)
    first = web.tell(event, event_id="msg_1", at=minutes_ago)
    before = web.counts()
    again = web.tell(event, event_id="msg_1")
    assert (first.outcome, again.status, again.outcome) == ("accepted", 200, "duplicate")
    assert web.counts() == before


def test_4_the_same_id_with_another_body_is_refused_and_audited(web: Web) -> None:
    web.tell(factories.event("res-1"), event_id="msg_1")
    before = web.counts()
    answer = web.tell(factories.event("res-2"), event_id="msg_1")
    assert (answer.status, answer.outcome) == (409, "event_id_reused")
    assert web.added(before) == {}
    (alert,) = web.audited("webhook:refused")
    assert alert["event_id"] == "msg_1"


def test_5_one_event_sent_100_times_over_8_connections_has_one_effect(web: Web) -> None:
    web.execute("INSERT INTO locks (id, device_id, protocol) VALUES ('second', 'd2', 'wifi')")
    web.execute("INSERT INTO listing_locks VALUES ('apt-7', 'second')")
    event = factories.event()

    def send(_: int) -> tuple[int, str]:
        answer = web.tell(event, event_id="msg_1")  # each attempt is signed afresh
        return answer.status, answer.outcome

    with ThreadPoolExecutor(8) as senders:
        answers = list(senders.map(send, range(100)))
    assert sorted(answers) == [(200, "accepted")] + [(200, "duplicate")] * 99
    assert web.counts()["webhook_events"] == 1
    assert web.counts()["reservations"] == 1
    jobs = web.ask(
        "SELECT lock_id, task_name, count(*) FROM procrastinate_jobs"
        " JOIN operations ON operations.id = (args->>'operation_id')::bigint"
        " JOIN access_codes ON access_codes.id = access_code_id"
        " GROUP BY lock_id, task_name ORDER BY lock_id, task_name"
    )
    assert [tuple(row.values()) for row in jobs] == [
        ("second", "generate_pin", 1),
        ("second", "revoke_pin", 1),
        ("sim-zigbee-1", "generate_pin", 1),
        ("sim-zigbee-1", "revoke_pin", 1),
    ]


@pytest.mark.parametrize(
    "content_type",
    ["application/json;charset=UTF-8", 'Application/JSON; charset="utf-8"', "application/json;"],
)
def test_9_json_in_utf_8_may_be_announced_in_several_ways(
    shared_web: Web, content_type: str
) -> None:
    raw, headers = factories.signed(factories.event(f"res-{uuid4().hex}"))
    assert shared_web.post(raw, {**headers, "content-type": content_type}).status == 200


@pytest.mark.parametrize("seconds", [-298, 298])
def test_21_a_clock_that_is_almost_five_minutes_off_is_good_enough(
    shared_web: Web, seconds: int
) -> None:
    at = datetime.now(UTC) + timedelta(seconds=seconds)
    assert shared_web.tell(factories.event(f"res-{uuid4().hex}"), at=at).status == 200


@pytest.mark.parametrize(
    "around",
    [
        "v1,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc= v2,{good} {signature} v1,Ceo5qEr07ixe2NLp",
        "junk ,, v1 v1,a,b v1,!!!! {signature}",
        "v1,AAAA " * 9 + "{signature}",
        "{signature} {signature}",
    ],
)
def test_23_a_good_signature_is_found_among_others(shared_web: Web, around: str) -> None:
    raw, headers = factories.signed(factories.event(f"res-{uuid4().hex}"))
    good = headers["webhook-signature"]
    signature = around.format(signature=good, good=good.removeprefix("v1,"))
    assert shared_web.post(raw, {**headers, "webhook-signature": signature}).status == 200


def rotate(web: Web, keep_old: timedelta) -> None:
    async def do(db: Database, planner: Planner) -> None:
        async with db.transaction() as session:
            await inventory.rotate_source(
                session, planner.sealer, "test", "main", OTHER_SECRET, keep_old
            )

    web.do(do)


def test_25_while_a_secret_is_changed_both_are_good(web: Web) -> None:
    rotate(web, keep_old=timedelta(hours=1))
    assert web.tell(factories.event("res-1")).status == 200
    assert web.tell(factories.event("res-2"), secret=OTHER_SECRET).status == 200


def test_25_the_old_secret_is_worthless_when_its_time_is_over(web: Web) -> None:
    rotate(web, keep_old=timedelta(0))
    assert web.tell(factories.event("res-1")).status == 401
    assert web.tell(factories.event("res-2"), secret=OTHER_SECRET).status == 200
