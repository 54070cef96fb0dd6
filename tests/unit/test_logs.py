"""Log lines: one JSON object each, and nothing secret in it, at any level."""

from __future__ import annotations

import ast
import json
import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from pinqueue import logs
from pinqueue.errors import ConfigInvalid
from pinqueue.pins import Pin

LEVELS = ("debug", "info", "warning", "error", "exception", "critical")
Lines = Callable[[], list[dict[str, Any]]]
QUIET = [
    *("httpx2", "httpcore2.http11", "httpcore2.connection", "urllib3.connectionpool"),
    *("tinytuya.core.core", "tinytuya.core.XenonDevice", "asyncio"),
    *("procrastinate.blueprints", "procrastinate.jobs", "procrastinate.periodic"),
    *("sqlalchemy.engine.Engine", "psycopg.pool"),
]


@pytest.fixture(autouse=True)
def lines(capsys: pytest.CaptureFixture[str]) -> Iterator[Lines]:
    """What was logged since, read from standard error; logging is as before afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    quiet = {name: logging.getLogger(name).level for name in ["psycopg", *logs._QUIET]}
    yield lambda: [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, before in quiet.items():
        logging.getLogger(name).setLevel(before)
    structlog.reset_defaults()


def _log() -> Any:
    return structlog.get_logger("pinqueue.test")


def test_a_line_is_one_json_object_with_event_level_logger_time_and_ids(lines: Lines) -> None:
    logs.set_up()
    logs.get("pinqueue.test").info("code-sent", access_code_id=7, text="two\nlines")
    (line,) = lines()
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "code-sent",
        "level": "info",
        "logger": "pinqueue.test",
        "access_code_id": 7,
        "text": "two\nlines",
    }


def calls_of(path: Path) -> Iterator[ast.Call]:
    """What a module calls of a logger."""
    for node in ast.walk(ast.parse(path.read_text())):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in LEVELS
            and ast.unparse(node.func.value) in ("log", "note")
        ):
            yield node


def test_every_event_of_ours_has_a_name_that_never_changes() -> None:
    package = Path(logs.__file__).parent
    events = [call.args[0] for path in package.rglob("*.py") for call in calls_of(path)]
    assert len(events) > 40
    changing = [
        ast.unparse(event)
        for event in events
        if not (isinstance(event, ast.Constant) and re.fullmatch(r"[a-z-]+", str(event.value)))
    ]
    assert changing == []


def test_a_line_of_a_library_is_json_too(lines: Lines) -> None:
    logs.set_up()
    logging.getLogger("procrastinate.worker").info("Starting %s", "job")
    (line,) = lines()
    assert (line["event"], line["logger"]) == ("Starting job", "procrastinate.worker")


def test_the_level_is_kept_by_our_lines_and_by_libraries(lines: Lines) -> None:
    logs.set_up(level="warning")
    for name in ("pinqueue.test", "procrastinate.worker"):
        logging.getLogger(name).info("hidden")
        logging.getLogger(name).warning("shown")
    _log().info("hidden")
    _log().warning("shown")
    assert [line["event"] for line in lines()] == ["shown"] * 3


def test_an_unknown_level_is_a_clear_error() -> None:
    with pytest.raises(ConfigInvalid, match=r"^--log-level: there is no level LOUD"):
        logs.set_up(level="LOUD")


def test_setting_up_twice_does_not_log_twice(lines: Lines) -> None:
    logs.set_up()
    logs.set_up()
    _log().info("once")
    assert len(lines()) == 1


# Secrets


@pytest.mark.parametrize(
    "key",
    [
        *("pin", "PIN", "guest_pin", "pin_sealed", "pin-hash", "pins", "password", "db_password"),
        *("secret", "secret_keys", "access_token", "ticket_key", "pin_pepper", "Authorization"),
        *("webhook-signature", "ciphertext"),
    ],
)
@pytest.mark.parametrize(
    "wrap",
    [
        lambda found: found,
        lambda found: {"details": found},
        lambda found: {"details": {"deeper": {"deepest": found}}},
        lambda found: {"many": [{"inside": (found,)}]},
        lambda found: {"by_number": {1: found}},
    ],
)
def test_the_value_of_a_key_that_names_a_secret_is_masked_at_any_depth(
    key: str, wrap: Callable[[dict[str, Any]], dict[str, Any]], lines: Lines
) -> None:
    logs.set_up()
    _log().info("told", **wrap({key: "canary", "other": "kept"}))
    text = json.dumps(lines())
    assert "***" in text
    assert "canary" not in text
    assert "kept" in text


@pytest.mark.parametrize("key", ["spinner", "pinned", "pinqueue", "reservation_id", "opinion"])
def test_a_key_that_names_no_secret_keeps_its_value(key: str, lines: Lines) -> None:
    logs.set_up()
    _log().info("told", **{key: "kept"})
    assert lines()[0][key] == "kept"


def test_masking_leaves_the_callers_own_objects_alone() -> None:
    logs.set_up()
    details = {"password": "canary", "inner": {"pin": "canary"}}
    _log().info("told", details=details)
    assert details == {"password": "canary", "inner": {"pin": "canary"}}


def test_a_pin_in_a_line_is_three_stars_wherever_it_stands(lines: Lines) -> None:
    logs.set_up(level="DEBUG")
    pin = Pin("4809173")
    _log().info("told", code=pin, codes=[pin], by={"x": pin}, text=f"{pin}")
    _log().warning("%s told", pin)
    logging.getLogger("library").error("%s %r %s", pin, pin, [pin])
    told = lines()
    assert told[0]["code"] == "***"
    assert told[0]["codes"] == ["***"]
    assert "4809173" not in json.dumps(told)


@pytest.mark.parametrize("name", QUIET)
def test_a_library_that_would_tell_secrets_or_nothing_is_quiet_at_debug_but_may_warn(
    name: str, lines: Lines
) -> None:
    logs.set_up(level="DEBUG")
    logging.getLogger(name).debug("canary")
    logging.getLogger(name).info("canary")
    logging.getLogger(name).warning("shown")
    assert [line["event"] for line in lines()] == ["shown"]


def test_a_quiet_library_is_no_louder_than_the_rest(lines: Lines) -> None:
    logs.set_up(level="ERROR")
    logging.getLogger("httpx2").warning("hidden")
    assert lines() == []


# Exceptions


def test_an_exception_is_told_in_its_line(lines: Lines) -> None:
    logs.set_up()
    try:
        raise RuntimeError("the door is stuck")
    except RuntimeError as error:
        _log().exception("broke", part="worker")
        logging.getLogger("library").exception("broke")
        caught = error
    for found in (caught, (type(caught), caught, caught.__traceback__)):
        _log().error("broke", exc_info=found)
        logging.getLogger("library").error("broke", exc_info=found)
    told = lines()
    assert len(told) == 6
    for line in told:
        assert line["event"] == "broke"
        assert "Traceback" in line["exception"]
        assert "RuntimeError: the door is stuck" in line["exception"]


def test_a_traceback_does_not_tell_what_the_variables_held(lines: Lines) -> None:
    logs.set_up(level="DEBUG")
    digits = "48" + "09173"
    try:
        raise RuntimeError("the door is stuck")
    except RuntimeError:
        _log().exception("broke")
    assert digits not in json.dumps(lines())
