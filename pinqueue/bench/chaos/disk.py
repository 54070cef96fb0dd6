"""A small disk for the database alone, that can be filled to the last byte."""

from __future__ import annotations

import errno
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

FULL_DISK = "disk-full"
SIZE = "1g"
PIECE = bytes(1 << 20)


def no_disk() -> str | None:
    """Why no disk of its own can be given to the database here, None where it can."""
    try:
        with small_disk():
            return None
    except (OSError, subprocess.CalledProcessError):
        return "needs the right to mount a file system: be root, and outside a plain container"


@dataclass(frozen=True)
class Disk:
    folder: Path

    @property
    def _ballast(self) -> Path:
        return self.folder / "ballast"

    def fill(self) -> None:
        """To the last byte."""
        with self._ballast.open("wb", buffering=0) as ballast:
            try:
                while True:
                    ballast.write(PIECE)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise

    def make_room(self) -> None:
        self._ballast.unlink()


@contextmanager
def small_disk() -> Iterator[Disk]:
    """In memory; gone when the block ends."""
    with tempfile.TemporaryDirectory(prefix="pinqueue-disk-") as folder:
        mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=0755", "tmpfs", folder]
        subprocess.run(mount, check=True, capture_output=True)
        try:
            yield Disk(Path(folder))
        finally:
            # Also where a process has not let go of a file yet.
            subprocess.run(["umount", "--lazy", folder], check=True)
