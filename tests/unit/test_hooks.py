"""Hooks: whatever one of them does, the next event and the other hooks get their turn."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import structlog
from structlog.testing import LogCapture

from pinqueue import hooks
from pinqueue.errors import ConfigInvalid
from pinqueue.hooks import Hooks
from tests.serving import until

pytestmark = pytest.mark.anyio

EVENT: dict[str, Any] = {"type": "code.active", "timestamp": "", "data": {"lock_id": "front"}}


class Heard:
    """Collects what a hook is told."""

    def __init__(self) -> None:
        self.events: list[Mapping[str, Any]] = []
        self.threads: set[int] = set()

    def plain(self, event: Mapping[str, Any]) -> None:
        self.threads.add(threading.get_ident())
        self.events.append(event)

    def wait_for(self, number: int) -> None:
        until(lambda: len(self.events) == number, f"{number} events")

    async def awaited(self, event: Mapping[str, Any]) -> None:
        await asyncio.sleep(0)
        self.plain(event)


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> LogCapture:
    capture = LogCapture()
    monkeypatch.setattr(hooks, "log", structlog.wrap_logger(None, processors=[capture]))
    return capture


def lines(logged: LogCapture, event: str) -> list[str]:
    """The names of the hooks that log lines of this event tell of."""
    return [line["hook"] for line in logged.entries if line["event"] == event]


@pytest.mark.parametrize("kind", ["plain", "awaited"])
async def test_a_hook_is_told_every_event_in_order_on_one_thread_that_is_not_ours(
    heard: Heard, kind: str
) -> None:
    told = Hooks([("one", getattr(heard, kind))])
    for number in range(50):
        told.tell({**EVENT, "data": {"number": number}})
    await told.close()
    assert [event["data"]["number"] for event in heard.events] == list(range(50))
    assert len(heard.threads - {threading.get_ident()}) == 1


async def test_an_async_hook_keeps_its_event_loop_from_call_to_call() -> None:
    loops: list[asyncio.AbstractEventLoop] = []

    async def hook(event: Mapping[str, Any]) -> None:
        loops.append(asyncio.get_running_loop())

    told = Hooks([("one", hook)])
    told.tell(EVENT)
    told.tell(EVENT)
    await told.close()
    assert loops[0] is loops[1]
    assert loops[0] is not asyncio.get_running_loop()


async def test_what_one_hook_does_to_an_event_no_other_sees(heard: Heard) -> None:
    told = Hooks([("spoiler", lambda event: event["data"].clear()), ("two", heard.plain)])
    event = {**EVENT, "data": {"lock_id": "front"}}
    told.tell(event)
    await told.close()
    assert heard.events == [EVENT]
    assert event == EVENT


@pytest.mark.parametrize(
    "error", [ValueError("broken"), SystemExit(3), asyncio.CancelledError(), KeyboardInterrupt()]
)
async def test_what_a_hook_raises_is_logged_by_its_name_and_the_next_event_comes(
    heard: Heard, logged: LogCapture, error: BaseException
) -> None:
    def breaks_at_first(event: Mapping[str, Any]) -> None:
        heard.plain(event)
        if len(heard.events) == 1:
            raise error

    told = Hooks([("desk", breaks_at_first)])
    told.tell(EVENT)
    told.tell(EVENT)
    await told.close()
    assert len(heard.events) == 2
    assert lines(logged, "hook-failed") == ["desk"]


async def test_an_async_hook_that_takes_too_long_is_cancelled_and_logged(
    heard: Heard, logged: LogCapture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hooks, "WITHIN", 0.1)
    ended = threading.Event()

    async def hangs_at_first(event: Mapping[str, Any]) -> None:
        await heard.awaited(event)
        if len(heard.events) == 1:
            try:
                await asyncio.sleep(60)
            finally:
                ended.set()

    told = Hooks([("desk", hangs_at_first)])
    told.tell(EVENT)
    told.tell(EVENT)
    assert await asyncio.to_thread(ended.wait, 10)
    monkeypatch.setattr(hooks, "WITHIN", 10.0)
    await told.close()
    assert len(heard.events) == 2
    assert lines(logged, "hook-cancelled") == ["desk"]


async def test_a_time_out_of_the_hooks_own_is_a_failure_like_any_other(
    logged: LogCapture,
) -> None:
    async def times_out(event: Mapping[str, Any]) -> None:
        raise TimeoutError("a server of its own")

    told = Hooks([("desk", times_out)])
    told.tell(EVENT)
    await told.close()
    assert lines(logged, "hook-failed") == ["desk"]


async def test_a_plain_hook_that_hangs_is_logged_holds_up_no_other_and_not_the_end(
    heard: Heard, logged: LogCapture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hooks, "WITHIN", 0.1)
    monkeypatch.setattr(hooks, "MOST_WAITING", 2)
    free, begun = threading.Event(), threading.Event()

    def hangs(event: Mapping[str, Any]) -> None:
        begun.set()
        free.wait(30)

    told = Hooks([("stuck", hangs), ("two", heard.plain)])
    told.tell(EVENT)
    assert await asyncio.to_thread(begun.wait, 10)
    for number in range(2, 5):
        told.tell(EVENT)
        await asyncio.to_thread(heard.wait_for, number)
    await told.close()
    try:
        assert len(heard.events) == 4
        assert lines(logged, "hook-slow") == ["stuck"]
        assert lines(logged, "hook-missed-event") == ["stuck"]
        assert lines(logged, "hook-abandoned") == ["stuck"]
    finally:
        free.set()


def install(folder: Path, value: str) -> None:
    """A distribution that has one hook, as an installer leaves it."""
    metadata = folder / "desk-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: desk\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[pinqueue.hooks]\ntell-desk = {value}\n")
    (folder / "desk_hook.py").write_text("tell = print\nnumber = 7\n")
    (folder / "desk_broken.py").write_text("raise RuntimeError('no licence')\n")


async def test_the_hooks_of_installed_packages_are_loaded(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    logged: LogCapture,
) -> None:
    install(tmp_path, "desk_hook:tell")
    monkeypatch.syspath_prepend(tmp_path)
    told = hooks.load()
    told.tell(EVENT)
    await told.close()
    assert capsys.readouterr().out == f"{EVENT}\n"


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("desk_missing:tell", "cannot be imported: ModuleNotFoundError"),
        ("desk_hook:absent", "cannot be imported: AttributeError"),
        ("desk_broken:tell", "cannot be imported: RuntimeError: no licence"),
        ("desk_hook:number", "is not a function"),
    ],
)
def test_a_hook_that_cannot_be_had_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str, why: str
) -> None:
    install(tmp_path, value)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigInvalid, match=rf"the hook tell-desk \({value}\) {why}"):
        hooks.load()
