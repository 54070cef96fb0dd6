"""What a sender might post on its worst day: its real events, spoiled in their shape or bytes."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Sequence
from typing import Any

from hypothesis import strategies as st

JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=5)
    ),
    max_leaves=12,
)
"""Anything that JSON can hold."""
TELLING = st.sampled_from(
    [
        *("", " ", "0", "-1", "null", "yes", "16:00", "25:61", "a" * 200, "Ñ" * 300, "\u202e"),
        *("2027-02-30", "0001-01-01", "9999-12-31", "2027-06-01", "2027-06-01T15:00:00"),
        *("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00", "2027-06-01T15:00:00Z"),
        *("confirmed", "Booked", "booked", "accepted", "cancelled", "canceled", "Declined"),
        *(0, -1, 2**31, 2**63, 10**40, 1e300, 1611758157.431234, True, None),
    ]
)
"""What means something somewhere, or nearly does."""


@st.composite
def spoiled(draw: st.DrawFn, events: Sequence[dict[str, Any]]) -> bytes:
    """One of these events with up to four changes to its shape, and now and then to its bytes."""
    event = copy.deepcopy(draw(st.sampled_from(events)))
    for _ in range(draw(st.integers(0, 4))):
        found = list(places(event))
        if found:
            _spoil(draw, *draw(st.sampled_from(found)))
    raw = json.dumps(event).encode()
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 3]))):
        at, gone = draw(st.integers(0, len(raw))), draw(st.integers(0, 3))
        raw = raw[:at] + draw(st.binary(max_size=3)) + raw[at + gone :]
    return raw


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in it: what holds it, and its key there."""
    if isinstance(value, dict | list):
        inside = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in list(inside):
            yield value, key
            yield from places(inner)


def _spoil(draw: st.DrawFn, holder: Any, key: Any) -> None:
    how = draw(st.sampled_from(["junk", "telling", "gone", "twice", "swapped"]))
    if how == "gone":
        del holder[key]
    elif how == "twice" and isinstance(holder, dict):
        holder[draw(st.text(max_size=8)) + str(key)] = copy.deepcopy(holder[key])
    elif how == "swapped":
        keys = list(holder) if isinstance(holder, dict) else range(len(holder))
        other = draw(st.sampled_from(keys))
        holder[key], holder[other] = holder[other], holder[key]
    else:
        holder[key] = draw(JUNK if how == "junk" else TELLING)
