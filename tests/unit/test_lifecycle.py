"""Which states there are, which moves between them are allowed, and that no other is."""

from __future__ import annotations

import inspect

import pytest

from pinqueue import lifecycle
from pinqueue.lifecycle import (
    CODE_ENDED,
    CODE_MOVES,
    OPERATION_OPEN,
    CodeState,
    OperationKind,
    OperationState,
    ReservationStatus,
    sources_of,
)

STATES = list(CodeState)

# A row goes from, a column to. `x` is allowed, `.` is forbidden.
TABLE = """
              scheduled generating sent active revoking revoked cancelled failed
  scheduled       .         x       .     .       .        .        x       x
  generating      .         .       x     .       x        .        .       x
  sent            .         x       .     x       x        .        .       x
  active          .         x       x     .       x        .        .       x
  revoking        .         .       .     .       .        x        .       .
  revoked         .         .       .     .       .        .        .       .
  cancelled       .         .       .     .       .        .        .       .
  failed          .         x       .     .       x        .        .       .
"""
_head, *_lines = (line.split() for line in TABLE.strip().splitlines())
ALLOWED = {
    (CodeState(source), CodeState(target)): mark == "x"
    for source, *marks in _lines
    for target, mark in zip(_head, marks, strict=True)
}


def test_the_table_speaks_of_every_pair_of_states() -> None:
    assert set(ALLOWED) == {(source, target) for source in STATES for target in STATES}


@pytest.mark.parametrize(
    ("source", "target"), ALLOWED, ids=lambda state: state.value if state else None
)
def test_a_move_is_allowed_exactly_where_the_table_says_so(
    source: CodeState, target: CodeState
) -> None:
    assert (target in CODE_MOVES[source]) is ALLOWED[source, target]
    assert (source in sources_of(target)) is ALLOWED[source, target]


def test_an_ended_code_has_no_way_out_and_every_other_has_one() -> None:
    assert {state for state in STATES if not CODE_MOVES[state]} == CODE_ENDED
    assert {CodeState.REVOKED, CodeState.CANCELLED} == CODE_ENDED


def test_whatever_may_be_on_a_door_can_be_revoked_and_ends_only_seen_to_be_off() -> None:
    maybe_on_door = set(STATES) - CODE_ENDED - {CodeState.SCHEDULED, CodeState.REVOKING}
    assert set(sources_of(CodeState.REVOKING)) == maybe_on_door
    assert sources_of(CodeState.REVOKED) == (CodeState.REVOKING,)


def test_only_what_was_never_begun_is_cancelled() -> None:
    assert sources_of(CodeState.CANCELLED) == (CodeState.SCHEDULED,)


def test_a_pin_is_on_the_door_only_after_it_was_accepted() -> None:
    assert sources_of(CodeState.ACTIVE) == (CodeState.SENT,)


def test_a_code_begins_scheduled_and_nothing_leads_back_there() -> None:
    assert sources_of(CodeState.SCHEDULED) == ()


@pytest.mark.parametrize("state", STATES)
def test_every_state_can_be_reached_and_can_end(state: CodeState) -> None:
    assert state in _reachable(CodeState.SCHEDULED)
    assert _reachable(state) & CODE_ENDED


def _reachable(start: CodeState) -> set[CodeState]:
    found, new = set[CodeState](), {start}
    while new:
        found |= new
        new = {target for state in new for target in CODE_MOVES[state]} - found
    return found


def test_an_operation_is_open_while_it_waits_and_while_a_worker_is_at_it() -> None:
    assert {OperationState.WAITING, OperationState.ACTIVE} == OPERATION_OPEN


@pytest.mark.parametrize("state", STATES)
def test_the_diagram_shows_every_state(state: CodeState) -> None:
    assert state.value in (lifecycle.__doc__ or "").split()


@pytest.mark.parametrize("kind", [CodeState, OperationState])
def test_every_state_says_what_it_means(kind: type[CodeState | OperationState]) -> None:
    lines = inspect.getsource(kind).splitlines()
    for state in kind:
        (at,) = (n for n, line in enumerate(lines) if line.strip().startswith(f"{state.name} = "))
        assert lines[at + 1].strip().startswith('"""'), state


def test_the_words_stored_in_rows_never_change() -> None:
    assert [s.value for s in OperationState] == [
        *("waiting", "active", "completed", "failed", "cancelled")
    ]
    assert [k.value for k in OperationKind] == ["generate", "revoke"]
    assert [s.value for s in ReservationStatus] == ["pending", "confirmed", "blocked", "cancelled"]
