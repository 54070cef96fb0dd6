"""openapi.json is true, and the examples of /docs are: each is tried on the served application."""

from __future__ import annotations

import html
import json
import os
import re
import shlex
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest

from pinqueue.web import TABLE
from tests import factories
from tests.calling import Client, client, stay
from tests.conftest import PYTHON
from tests.serving import Web

TESTS = Path(__file__).parents[1]


@pytest.fixture
def admin(web: Web) -> Client:
    """Somebody who may do all, where the things that the examples name exist."""
    who = client(web)
    web.do(lambda db, planner: factories.add_source(db, planner.sealer, "my-site"))
    url = "https://desk.example.com/pins"
    web.do(lambda db, planner: factories.add_endpoint(db, planner.sealer, url))
    # Nobody works here, but somebody lives: health is good.
    web.execute("INSERT INTO procrastinate_workers (last_heartbeat) VALUES (now() + '1 hour')")
    web.execute("ALTER SEQUENCE access_codes_id_seq RESTART 7")
    web.execute("ALTER SEQUENCE deliveries_id_seq RESTART 17")
    web.execute("ALTER SEQUENCE procrastinate_jobs_id_seq RESTART 42")
    street = {"id": "street-door", "device_id": "d-street", "protocol": "wifi"}
    who.told(201, "POST", "/api/locks", street)
    who.told(201, "PUT", "/api/reservations/res-123", stay())
    web.execute("UPDATE procrastinate_jobs SET status = 'failed' WHERE id = 42")
    return who


def test_every_answer_is_as_openapi_json_says_whatever_schemathesis_asks(
    admin: Client, tmp_path: Path
) -> None:
    calls = tmp_path / "calls"
    ended = subprocess.run(
        [
            *(PYTHON, "-c", "from schemathesis.cli import schemathesis; schemathesis()"),
            *(f"--config-file={TESTS / 'schemathesis.toml'}", "--no-color", "run"),
            *("-H", f"Authorization: Bearer {admin.key}", "--continue-on-failure"),
            f"http://127.0.0.1:{admin.web.port}/openapi.json",
        ],
        env={**os.environ, "CALLS": str(calls), "PYTHONPATH": str(TESTS.parent)},
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=150,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    answered: dict[str, set[int]] = defaultdict(set)
    for line in calls.read_text().splitlines():
        label, method, status = json.loads(line)
        if method == label.partition(" ")[0]:
            answered[label].add(status)
    assert never_good(answered) == set()


def test_every_example_of_docs_is_taken_as_it_is_written(admin: Client) -> None:
    answer = admin.call("GET", "/docs")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    examples = re.findall(r"<pre>(curl .*?)</pre>", answer.body.decode())
    assert len(examples) == len([one for one in TABLE if not one.path.startswith("/webhooks")])
    for example in examples:
        assert run(admin, html.unescape(example)) in (200, 201, 404, 409), example


def run(who: Client, example: str) -> int:
    """The status that a curl command would show."""
    words = shlex.split(example)
    method = words[words.index("-X") + 1] if "-X" in words else "GET"
    (path,) = [word.removeprefix("$PINQUEUE") for word in words if word.startswith("$PINQUEUE")]
    body = words[words.index("-d") + 1].encode() if "-d" in words else None
    assert ("Authorization: Bearer $KEY" in words) == path.startswith("/api/")
    return who.call(method, path, body).status


def never_good(answered: dict[str, set[int]]) -> set[str]:
    """What was never answered as it is when all is well: then nothing was learnt of it."""
    labels = {f"{one.method} {one.path}" for one in TABLE}
    return {label for label in labels if not answered[label] & {200, 201}}
