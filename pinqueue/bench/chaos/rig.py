"""How the processes are started so that they can be struck: with clocks that jump, a poison that
kills them, another version of PinQueue in their place."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

DEPLOY, JUMP_CLOCK, POISON = "deploy", "jump-clock", "poison"
FAKE_CLOCK = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)


def no_clocks() -> str | None:
    """Why no process can have a clock of its own here, None where it can."""
    return None if FAKE_CLOCK else "needs libfaketime: apt install faketime"


@dataclass
class Rig:
    """What all of them share."""

    folder: Path
    chosen: Sequence[str]
    """The faults they are to be struck with."""
    beside: Path | None = None
    """A checkout of another version."""
    _replaced: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._poison.mkdir(parents=True)
        shutil.copy(Path(__file__).with_name("poison.py"), self._poison / "sitecustomize.py")

    @property
    def _poison(self) -> Path:
        return self.folder / "poison"

    def environment(self, process: str, *, works: bool) -> dict[str, str]:
        """Of that process when it is started next; `works` says whether it is a worker."""
        made: dict[str, str] = {}
        path = [str(self.beside)] if process in self._replaced else []
        if JUMP_CLOCK in self.chosen:
            made |= {
                "LD_PRELOAD": str(FAKE_CLOCK),
                "FAKETIME_TIMESTAMP_FILE": str(self._clock(process)),
                "FAKETIME_CACHE_DURATION": "1",  # seconds until a jump is noticed
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",  # it counts, and is never set
                "DONT_FAKE_MONOTONIC": "1",
            }
            if not self._clock(process).exists():
                self.set_clock(process, 0)
        if POISON in self.chosen and works:
            path.insert(0, str(self._poison))
        if path:
            # Not the folder we are in first, which may hold a PinQueue as well.
            made |= {"PYTHONPATH": os.pathsep.join(path), "PYTHONSAFEPATH": "1"}
        return made

    def replace(self, process: str) -> None:
        """With the other version, or back with ours."""
        if self.beside is not None:
            self._replaced ^= {process}

    def set_clock(self, process: str, seconds: int) -> None:
        """Wrong by that from now on."""
        self._clock(process).write_text(f"{seconds:+d}\n")

    def poison(self, door: str) -> None:
        """Whatever is put on that door next kills who does it, each time."""
        (self._poison / door).touch()

    def antidote(self) -> None:
        """What was poison is so no more."""
        for file in self._poison.iterdir():
            if file.is_file() and file.stat().st_size == 0:
                file.unlink()

    def _clock(self, process: str) -> Path:
        return self.folder / f"{process}.clock"
