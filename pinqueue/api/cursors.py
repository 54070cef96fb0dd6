"""Where the next page begins, in a form that nobody is tempted to make by hand."""

from __future__ import annotations

import base64

from pinqueue.errors import InputInvalid


def made(last: str) -> str:
    return base64.urlsafe_b64encode(last.encode()).decode().rstrip("=")


def read(cursor: str | None) -> str | None:
    """The last of the page before; raises InputInvalid."""
    if cursor is None:
        return None
    try:
        last = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        text = last.decode()
    except ValueError:
        text = ""
    if not text or not text.isprintable():
        raise InputInvalid("cursor", "must be the next_cursor of a page")
    return text
