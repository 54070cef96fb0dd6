"""`pinqueue demo`: its exit code tells the truth, and whatever happens it leaves nothing behind."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.processes import House, Running, command_of, processes_naming, until


@pytest.fixture
def room() -> Iterator[Path]:
    """The temporary folder that the demo, and nobody else, uses."""
    with tempfile.TemporaryDirectory(prefix="pinqueue-test-", dir="/tmp") as folder:
        yield Path(folder)


def began(house: House, room: Path) -> Running:
    """A demo on its stage. The settings around it name a database that it must not touch."""
    demo = house.start("demo", settings={"TMPDIR": str(room)})
    demo.logged("web and worker started in")
    return demo


def left_by_it(room: Path) -> tuple[list[Path], list[str]]:
    return list(room.iterdir()), [command_of(pid) for pid in processes_naming(str(room))]


def test_the_demo_shows_three_stays_in_a_minute_and_leaves_nothing(
    house: House, room: Path
) -> None:
    started = time.monotonic()
    demo = house.start("demo", settings={"TMPDIR": str(room)})
    assert demo.code(within=75) == 0, demo.log()
    assert time.monotonic() - started < 60
    shown = demo.log()
    assert "Every PIN worked when it should, and only then" in " ".join(shown.split())
    assert shown.count("✓ opens after check-in") == 4
    assert shown.count("✓ refused afterwards") == 4
    assert "✗" not in shown
    assert left_by_it(room) == ([], [])
    assert house.ask("SELECT FROM locks") == []


@pytest.mark.parametrize("part", ["worker", "web"])
def test_the_demo_says_which_of_its_processes_was_killed_and_leaves_nothing(
    part: str, house: House, room: Path
) -> None:
    demo = began(house, room)
    (pid,) = [p for p in processes_naming(str(room)) if f"pinqueue {part}" in command_of(p)]
    os.kill(pid, signal.SIGKILL)
    assert demo.code() == 1
    assert "The demo failed:" in demo.log()
    assert f"`pinqueue {part}` exited in the middle" in demo.log()
    assert "Traceback" not in demo.log()
    assert left_by_it(room) == ([], [])


def test_the_demo_stopped_by_ctrl_c_leaves_nothing(house: House, room: Path) -> None:
    demo = began(house, room)
    demo.process.send_signal(signal.SIGINT)
    assert demo.code() == 130
    assert "Traceback" not in demo.log()
    assert left_by_it(room) == ([], [])


def test_the_demo_told_to_stop_while_it_starts_leaves_nothing(house: House, room: Path) -> None:
    demo = house.start("demo", settings={"TMPDIR": str(room)})
    # Its folder first: only then does it listen for signals, and not still import.
    until(lambda: [*room.glob("pinqueue-demo-*")], "its folder is made")
    until(lambda: processes_naming(str(room))[1:], "its first process runs")
    demo.ask_to_stop()
    assert demo.code() == 130
    assert "Traceback" not in demo.log()
    assert left_by_it(room) == ([], [])
