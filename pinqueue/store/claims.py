"""What a worker writes as an operation rings: for many operations in one statement each.

A code is locked before its operations, as everywhere. One that somebody else holds is left out, so
that no other waits for it; it is asked for again alone, and then waited for (`patient`).
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from enum import Enum
from typing import Any, Final, TypeAlias, TypeVar

from pinqueue.db import Row, Run
from pinqueue.errors import StateChanged
from pinqueue.lifecycle import CodeState, EventType, OperationKind, sources_of
from pinqueue.store.claiming import Claimed, ClaimedCode, ClaimedOperation

T = TypeVar("T")


class Elsewhere(Enum):
    """Somebody else holds the code: nothing of what was asked has been done."""

    HELD = "held"


HELD: Final = Elsewhere.HELD
Answers: TypeAlias = Sequence[T | Exception | Elsewhere]
"""In the order of what was asked."""


_OPERATION, _CODE = (
    [column.name for column in fields(kind)] for kind in (ClaimedOperation, ClaimedCode)
)
_ROWS = ", ".join(
    [f"operation.{column}" for column in _OPERATION]
    + [f"code.{column}" for column in _CODE]
    + ["lock.device_id", "lock.protocol"]
)


def _statements(query: str) -> dict[bool, str]:
    """A statement that is patient, and one that is not: by that."""
    skips = {True: "", False: "SKIP LOCKED"}
    return {
        patient: query.replace("{skip}", skip).replace("{rows}", _ROWS)
        for patient, skip in skips.items()
    }


def _array(values: Iterable[object]) -> str:
    """Numbers, or moments, as PostgreSQL reads them: told as such one by one they cost a worker
    more than all else in a statement."""
    return f"{{{','.join(['NULL' if value is None else str(value) for value in values])}}}"


def _moments(values: Iterable[datetime]) -> str:
    return _array(value.isoformat() for value in values)


# Claiming


@dataclass(frozen=True)
class Due:
    """An operation that is open and due."""

    id: int
    access_code_id: int
    rescues: int
    alone: bool
    """Whether the session that asked has the lock of its access code now, or had it before."""


_DUE = """
WITH due AS MATERIALIZED (
    SELECT id, access_code_id, rescues
    FROM unnest(%(ids)s::bigint[]) asked (id) JOIN operations USING (id)
    WHERE state || '' IN ('waiting', 'active') AND next_at <= now()
)
SELECT *, pg_try_advisory_lock(%(namespace)s + access_code_id) FROM due
"""


async def due(run: Run, operation_ids: Sequence[int], *, namespace: int) -> list[Due | None]:
    """None where an alarm has nothing (more) to do. The locks of the other access codes are taken,
    by their ids in that `namespace`, each as often as it is asked for: for a session of
    `mutex.Mutex`, which sees to it that they are freed."""
    rows = await run(_DUE, {"ids": _array(operation_ids), "namespace": namespace})
    found: dict[int, list[Due]] = {id_: [] for id_ in operation_ids}
    for row in rows:
        found[row[0]].append(Due(*row))
    return [found[id_].pop() if found[id_] else None for id_ in operation_ids]


@dataclass(frozen=True)
class Ask:
    """To claim an operation for the job that rang."""

    operation_id: int
    job_id: int | None


_NEARER = """(
        SELECT nearer.id
        FROM operations waiting JOIN access_codes nearer ON nearer.id = waiting.access_code_id
        -- As expressions they fit no index but that of the few that wait for room.
        WHERE waiting.waits_for_room AND waiting.state || '' IN ('waiting', 'active')
          AND waiting.kind || '' = 'generate'
          AND nearer.lock_id = {code}.lock_id AND nearer.remote_id IS NULL
          AND nearer.ends_at > now() AND (nearer.starts_at, nearer.id) < ({code}.starts_at, {id})
        ORDER BY nearer.starts_at, nearer.id LIMIT 1
    )"""
"""The access code whose guest arrives before another's, and which waits for a place on its lock."""
_CLAIM = _statements(
    """
WITH asked AS MATERIALIZED (
    SELECT operation.id, operation.access_code_id, asked.job_id
    FROM unnest(%(operation_ids)s::bigint[], %(job_ids)s::bigint[]) asked (id, job_id)
    JOIN operations operation USING (id)
), code AS MATERIALIZED (
    SELECT * FROM access_codes
    WHERE id = ANY(ARRAY(SELECT access_code_id FROM asked))
    ORDER BY id FOR NO KEY UPDATE {skip}
), operation AS MATERIALIZED (
    SELECT * FROM operations
    WHERE id = ANY(%(operation_ids)s::bigint[]) AND access_code_id = ANY(ARRAY(SELECT id FROM code))
    FOR NO KEY UPDATE
), ready AS MATERIALIZED (
    SELECT operation.id, operation.kind, operation.epoch + 1 AS epoch, code.id AS code_id,
           code.state AS code_state, code.reservation_id, code.lock_id, asked.job_id,
           operation.state IN ('waiting', 'active') AND operation.next_at <= now()
           AND (operation.kind = 'generate'
                OR code.state = ANY(%(revocable)s::text[]) AND NOT EXISTS (
                    SELECT FROM operations other
                    WHERE other.access_code_id = code.id AND other.kind = 'generate'
                      AND other.state IN ('waiting', 'active'))) AS so,
           operation.kind = 'generate' AND code.state = 'scheduled' AND code.pin_hash IS NOT NULL
           AND code.remote_id IS NULL AND code.create_in_doubt_since IS NULL
           AND {nearer} IS NULL AS intends
    FROM operation JOIN code ON code.id = operation.access_code_id
    JOIN asked ON asked.id = operation.id
), claimed AS (
    UPDATE operations
    SET state = 'active', epoch = ready.epoch, claimed_at = now(),
        first_claimed_at = coalesce(first_claimed_at, now())
    FROM ready WHERE operations.id = ready.id AND ready.so
), begun AS (
    UPDATE access_codes
    SET state = CASE kind WHEN 'generate' THEN 'generating' ELSE 'revoking' END, failed_at = NULL,
        create_in_doubt_since = CASE WHEN intends THEN now() ELSE create_in_doubt_since END
    FROM ready
    WHERE access_codes.id = ready.code_id AND ready.so
      AND (kind = 'generate' AND code_state IN ('scheduled', 'failed')
           OR kind = 'revoke' AND code_state <> 'revoking')
), rescued AS (
    UPDATE tries SET outcome = 'rescued', finished_at = now()
    FROM ready WHERE tries.operation_id = ready.id AND ready.so AND tries.outcome IS NULL
), tried AS (
    INSERT INTO tries (operation_id, epoch, job_id)
    SELECT id, epoch, job_id FROM ready WHERE so
), told AS (
    INSERT INTO audit_events
        (actor, event, reservation_id, access_code_id, operation_id, lock_id, detail)
    SELECT 'worker', kind || ':started', reservation_id, code_id, id, lock_id,
           jsonb_build_object('epoch', epoch)
    FROM ready WHERE so
)
SELECT asked.id AS asked_id, ready.id IS NULL AS elsewhere, ready.so, ready.intends, now(), {rows}
FROM asked
LEFT JOIN ready ON ready.id = asked.id
LEFT JOIN operation ON operation.id = asked.id
LEFT JOIN code ON code.id = ready.code_id
LEFT JOIN locks lock ON lock.id = code.lock_id
""".replace("{nearer}", _NEARER.format(code="code", id="code.id"))
)


async def claim(run: Run, asked: Sequence[Ask], *, patient: bool) -> Answers[Claimed | None]:
    """Take operations, each with a new epoch, and move their codes to where they are worked on.
    Whoever held one with an older epoch can from now on record nothing.

    With the first try of a code that is hashed, and before whom nobody waits for a place on the
    lock, its create is intended: nothing is to be written down between the look and the create.

    None for one that is closed, or not due any more; and for a revoke that has to cancel a generate
    operation first, or whose code was never begun: `claiming.claim_operation` is for that.
    """
    asked_on = time.monotonic()
    rows = await run(
        _CLAIM[patient],
        {
            "operation_ids": _array(one.operation_id for one in asked),
            "job_ids": _array(one.job_id for one in asked),
            "revocable": _array([*sources_of(CodeState.REVOKING), CodeState.REVOKING]),
        },
    )
    found = {row[0]: _claimed(asked_on, *row[1:]) for row in rows}
    return [found.get(one.operation_id) for one in asked]


def _claimed(
    asked_on: float, elsewhere: bool, so: bool, intends: bool, now: datetime, *columns: Any
) -> Claimed | Elsewhere | None:
    """The rows, which were read and locked before they were written, as they are now."""
    if elsewhere:
        return HELD
    if not so:
        return None
    operation = ClaimedOperation(*columns[: len(_OPERATION)])
    code = ClaimedCode(*columns[len(_OPERATION) : -2])
    operation.epoch += 1
    operation.first_claimed_at = operation.first_claimed_at or now
    if operation.kind == OperationKind.REVOKE:
        code.state = CodeState.REVOKING
    elif code.state in (CodeState.SCHEDULED, CodeState.FAILED):
        code.state = CodeState.GENERATING
    device_id, protocol = columns[-2:]
    return Claimed(operation, code, device_id, protocol, now, intends, asked_on)


# Recording what came of a claim, while it is ours


@dataclass(frozen=True)
class Intent:
    """To be written down before a create: should no answer come, whoever looks next knows of it."""

    claim: Claimed
    at: datetime
    pin_hash: str


@dataclass(frozen=True)
class Intended:
    """The code's window as it is now, and whether the intent was written down."""

    starts_at: datetime
    ends_at: datetime
    nearer_arrival: int | None
    """It was not: the lock was full, and this access code is for a guest who arrives earlier."""


@dataclass(frozen=True)
class Accepted:
    """The lock's cloud has the PIN, or its latest change."""

    claim: Claimed
    at: datetime
    remote_id: int


@dataclass(frozen=True)
class Seen:
    """The PIN was seen on its door, with the window that its code had when it was claimed, or when
    the create was intended."""

    claim: Claimed
    at: datetime
    accepted: Accepted | None = None
    """What is to be written down with it, where it has not been yet."""


@dataclass(frozen=True)
class Completed:
    fits: bool
    """Whether the code still has that window: else nothing was written down."""
    wanted: bool
    """Whether an endpoint wants to be told of it."""


def _of_mine(query: str, **columns: str) -> dict[bool, str]:
    """A statement on `mine`, each of which has these columns besides, of these types."""
    more = ", ".join(f"%({name})s::{type_}[]" for name, type_ in columns.items())
    return _statements(_MINE.format(skip="{skip}", more=more, named=", ".join(columns)) + query)


_MINE = """
WITH code AS MATERIALIZED (
    SELECT * FROM access_codes WHERE id = ANY(%(code_ids)s::bigint[])
    ORDER BY id FOR NO KEY UPDATE {skip}
), operation AS MATERIALIZED (
    SELECT id, state, epoch FROM operations
    WHERE id = ANY(%(ids)s::bigint[]) AND access_code_id = ANY(ARRAY(SELECT id FROM code))
    FOR NO KEY UPDATE
), mine AS MATERIALIZED (
    SELECT asked.*, code.state, code.reservation_id, code.lock_id, code.starts_at, code.ends_at,
           operation.state = 'active' AND operation.epoch = asked.epoch AS ours
    FROM unnest(%(ids)s::bigint[], %(epochs)s::bigint[], %(code_ids)s::bigint[],
                %(ats)s::timestamptz[], {more}) asked (id, epoch, code_id, at, {named})
    JOIN code ON code.id = asked.code_id JOIN operation ON operation.id = asked.id
)
"""
_INTEND = _of_mine(
    """
, turn AS MATERIALIZED (
    SELECT mine.*, {nearer} AS nearer_arrival
    FROM mine
), wrote AS (
    UPDATE access_codes SET pin_hash = turn.pin_hash, create_in_doubt_since = turn.at
    FROM turn
    WHERE access_codes.id = turn.code_id AND turn.ours AND turn.nearer_arrival IS NULL
)
SELECT code_id, ours, starts_at, ends_at, nearer_arrival FROM turn
""".replace("{nearer}", _NEARER.format(code="mine", id="mine.code_id")),
    pin_hash="text",
)
_ACCEPT = _of_mine(
    """
, sent AS MATERIALIZED (
    SELECT *, ours AND state = ANY(%(sendable)s::text[]) AS so FROM mine
), wrote AS (
    UPDATE access_codes
    SET remote_id = sent.remote_id, create_in_doubt_since = NULL, state = 'sent',
        sent_at = CASE sent.state WHEN 'sent' THEN sent_at ELSE sent.at END
    FROM sent WHERE access_codes.id = sent.code_id AND sent.so
), told AS (
    INSERT INTO audit_events (actor, event, reservation_id, access_code_id, operation_id, lock_id)
    SELECT 'worker', 'code:sent', reservation_id, code_id, id, lock_id FROM sent WHERE so
)
SELECT code_id, so AS ours FROM sent
""",
    remote_id="bigint",
)
_COMPLETE = _of_mine(
    """
, looked AS MATERIALIZED (
    SELECT mine.*, remote_id IS NOT NULL AS sends,
           ours AND (remote_id IS NULL OR state = ANY(%(sendable)s::text[])) AS may,
           starts_at = told_starts_at AND ends_at = told_ends_at AS fits,
           EXISTS (SELECT FROM endpoints WHERE enabled AND %(event)s = ANY(events)) AS wanted
    FROM mine
), seen AS MATERIALIZED (
    SELECT *, may AND fits AND (%(telling)s OR NOT wanted) AS so FROM looked
), active AS (
    UPDATE access_codes code
    SET state = 'active', active_at = seen.at,
        remote_id = CASE WHEN sends THEN seen.remote_id ELSE code.remote_id END,
        create_in_doubt_since = CASE WHEN NOT sends THEN code.create_in_doubt_since END,
        sent_at = CASE WHEN sends AND seen.state <> 'sent' THEN sent_by ELSE code.sent_at END
    FROM seen WHERE code.id = seen.code_id AND seen.so AND (seen.state = 'sent' OR sends)
), completed AS (
    UPDATE operations
    SET state = 'completed', claimed_at = NULL, finished_at = now(), last_error = NULL
    FROM seen WHERE operations.id = seen.id AND seen.so
), tried AS (
    UPDATE tries SET outcome = 'completed', finished_at = clock_timestamp()
    FROM seen
    WHERE tries.operation_id = seen.id AND tries.epoch = seen.epoch AND seen.so
      AND tries.outcome IS NULL
), told AS (
    INSERT INTO audit_events (actor, event, reservation_id, access_code_id, operation_id, lock_id)
    SELECT 'worker', event, reservation_id, code_id, id, lock_id
    FROM seen, (VALUES ('code:sent', 1), ('code:active', 2)) step (event, place)
    WHERE so AND (sends OR event = 'code:active') ORDER BY id, place
)
SELECT code_id, may AS ours, fits, wanted FROM seen
""",
    told_starts_at="timestamptz",
    told_ends_at="timestamptz",
    remote_id="bigint",
    sent_by="timestamptz",
)


_SENDABLE = _array([*sources_of(CodeState.SENT), CodeState.SENT])


async def intend(run: Run, asked: Sequence[Intent], *, patient: bool) -> Answers[Intended]:
    answers = await _write(run, _INTEND[patient], asked, pin_hash=[one.pin_hash for one in asked])
    return [Intended(*row) if isinstance(row, tuple) else row for row in answers]


async def accept(run: Run, asked: Sequence[Accepted], *, patient: bool) -> Answers[None]:
    """generating or active → sent."""
    answers = await _write(
        run,
        _ACCEPT[patient],
        asked,
        remote_id=_array(one.remote_id for one in asked),
        sendable=_SENDABLE,
    )
    return [None if isinstance(row, tuple) else row for row in answers]


async def complete(
    run: Run, asked: Sequence[Seen], *, patient: bool, telling: bool
) -> Answers[Completed]:
    """sent → active, and the operation completed; before that, as `accept` does, what is told to
    have been accepted. Unless the caller is `telling` whoever wants to
    be told in the same transaction, nothing is written down of what somebody wants to be told."""
    answers = await _write(
        run,
        _COMPLETE[patient],
        asked,
        told_starts_at=_moments(one.claim.code.starts_at for one in asked),
        told_ends_at=_moments(one.claim.code.ends_at for one in asked),
        remote_id=_array(one.accepted and one.accepted.remote_id for one in asked),
        sent_by=_array(one.accepted and one.accepted.at.isoformat() for one in asked),
        sendable=_SENDABLE,
        event=EventType.CODE_ACTIVE,
        telling=telling,
    )
    return [Completed(*row) if isinstance(row, tuple) else row for row in answers]


async def _write(
    run: Run,
    statement: str,
    asked: Sequence[Intent] | Sequence[Accepted] | Sequence[Seen],
    **parameters: object,
) -> list[Row | Exception | Elsewhere]:
    """For each that was asked: what the statement says of it, HELD, or StateChanged where the claim
    is not ours any more."""
    rows = await run(
        statement,
        {
            "ids": _array(one.claim.operation.id for one in asked),
            "epochs": _array(one.claim.operation.epoch for one in asked),
            "code_ids": _array(one.claim.code.id for one in asked),
            "ats": _moments(one.at for one in asked),
            **parameters,
        },
    )
    found = {row[0]: row[1:] for row in rows}
    return [_answer(found.get(one.claim.code.id), one.claim) for one in asked]


def _answer(row: Row | None, claim: Claimed) -> Row | Exception | Elsewhere:
    if row is None:
        return HELD
    ours, *found = row
    if not ours:
        what = f"operation {claim.operation.id} was taken over or is no longer wanted"
        return StateChanged(what)
    return tuple(found)
