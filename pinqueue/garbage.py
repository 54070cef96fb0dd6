"""How often Python looks for garbage that reference counts do not free."""

from __future__ import annotations

import gc


def look_hardly() -> None:
    """While a process starts: what imports make, 200,000 objects for a worker, is never garbage,
    and to look for it took a tenth of each start."""
    gc.set_threshold(300_000, 20, 50)


def look_seldom() -> None:
    """Once it works: what an operation or a webhook makes goes by itself, and to look for more took
    a tenth of each. What is there by now stays, and is not looked at again."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
