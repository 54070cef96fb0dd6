"""How often Python looks for garbage that reference counts do not free."""

from __future__ import annotations

import gc


def look_seldom() -> None:
    """What imports make is never garbage, and to look for it took a tenth of each start; what an
    operation or a webhook makes goes by itself, and to look for more took a tenth of each."""
    gc.set_threshold(50_000, 20, 50)
