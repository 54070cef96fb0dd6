"""What the operations of a worker write down at the same time, written down in one statement.

An operation is claimed, its intent, its acceptance and its end are recorded, each committed before
it goes on. At check-in time a hundred do so at once: together they wait for the disk once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import replace
from functools import partial
from typing import Generic, Protocol, TypeVar

from pinqueue import outcomes
from pinqueue.db import Database, Run, is_away, run_in
from pinqueue.lifecycle import CodeState, EventType
from pinqueue.mutex import NAMESPACE, Mutex
from pinqueue.patience import cancel_once_more
from pinqueue.ringing import AT_ONCE
from pinqueue.store import claims
from pinqueue.store.claiming import Claimed
from pinqueue.store.claims import Answers
from pinqueue.together import Together

A = TypeVar("A")
B = TypeVar("B")
A_contra = TypeVar("A_contra", contravariant=True)
B_co = TypeVar("B_co", covariant=True)


DUE_AT_ONCE, QUIET_FOR = 16, 8
"""Procrastinate's worker begins one job in seven turns of the event loop, however many are there to
begin: each would ask alone, which took a quarter of a worker's time. Not all of them in one: the
first are at the door while the last begin."""


class Write(Protocol[A_contra, B_co]):
    """One of the statements of `store.claims`."""

    def __call__(
        self, run: Run, asked: Sequence[A_contra], *, patient: bool
    ) -> Awaitable[Answers[B_co]]: ...


class Ledger:
    """Of one worker process. Each method but the first returns once what it says is committed, or
    what tells when it is."""

    def __init__(self, db: Database, mutex: Mutex) -> None:
        due = partial(claims.due, mutex.ask, namespace=NAMESPACE)
        self._due: Together[int, claims.Due | None] = Together(
            due, most=DUE_AT_ONCE, quiet_for=QUIET_FOR
        )
        turn = asyncio.Lock()
        self._claim = _Claim(db, claims.claim, turn)
        self._intend = _Entry(db, claims.intend, turn)
        self._accept = _Entry(db, claims.accept, turn)
        self._complete = _Completion(db, turn)

    def due(self, operation_id: int) -> asyncio.Future[claims.Due | None]:
        """The operation if it is open and due; for `Mutex.hold`, since its lock is taken, too."""
        return self._due.begin(operation_id)

    async def claim(self, operation_id: int, job_id: int | None) -> Claimed | None:
        """See `claims.claim`. Waited for also when we are cancelled, which then strikes at the next
        await: a claim may say that a create is out, and who has it can take that back."""
        asked = claims.Ask(operation_id, job_id)
        begun = self._claim.begin(asked)
        try:
            await begun
        except asyncio.CancelledError:
            cancel_once_more()
        return await self._claim.end(asked, begun)

    async def intend(self, intent: claims.Intent) -> claims.Intended:
        """Raises StateChanged unless the claim is still ours, as the next two do."""
        return await self._intend.write(intent)

    def accept(self, accepted: claims.Accepted) -> Begun[claims.Accepted, None]:
        """generating or active → sent: begun, and for the caller to see through."""
        return Begun(self._accept, accepted)

    async def complete(self, seen: claims.Seen) -> bool:
        """sent → active, and the operation completed; told to whoever asked. False, and nothing of
        it, its acceptance neither, when the window was moved meanwhile."""
        return (await self._complete.write(seen)).fits


class _Entry(Together[A, B | claims.Elsewhere]):
    """One kind of entry."""

    def __init__(self, db: Database, write: Write[A, B], turn: asyncio.Lock) -> None:
        super().__init__(self._together, turn, most=AT_ONCE)
        self._db = db
        self._write = write

    async def write(self, asked: A) -> B:
        """What the statement answers; where somebody else holds the row, once he has let it go."""
        return await self.end(asked, self.begin(asked))

    async def end(self, asked: A, begun: asyncio.Future[B | claims.Elsewhere]) -> B:
        """The same of an entry that was begun."""
        answer: B | Exception | claims.Elsewhere = await begun
        if isinstance(answer, claims.Elsewhere):
            (answer,) = await self._patiently(asked)
        if isinstance(answer, Exception):
            raise answer
        assert not isinstance(answer, claims.Elsewhere)  # noqa: S101  # patience waits
        return answer

    async def _together(self, asked: Sequence[A]) -> Answers[B]:
        try:
            return await self._at_once(asked)
        except Exception as error:
            if len(asked) == 1 or is_away(error):
                raise
            # Nothing of it was written: what breaks one must not break those it came with.
            return [await self._alone(one) for one in asked]

    async def _alone(self, asked: A) -> B | Exception | claims.Elsewhere:
        try:
            (answer,) = await self._at_once([asked])
        except Exception as error:
            return error
        return answer

    async def _at_once(self, asked: Sequence[A]) -> Answers[B]:
        return await self._write(self._db.at_once, asked, patient=False)

    async def _patiently(self, asked: A) -> Answers[B]:
        """Behind nobody, and before nobody, else's entry."""
        async with self._db.transaction() as session:
            return await self._write(run_in(session), [asked], patient=True)


class Begun(Generic[A, B]):
    """An entry that waits for its turn, or is being written."""

    def __init__(self, entry: _Entry[A, B], asked: A) -> None:
        self.asked = asked
        self._entry, self._answer = entry, entry.begin(asked)

    async def written(self) -> B:
        """What the statement answers, once it is committed."""
        return await self._entry.end(self.asked, self._answer)

    def take_back(self) -> bool:
        """Whether it waited still: then it is not written, and `written` waits for ever."""
        return self._entry.take_back(self._answer)


class _Claim(_Entry[claims.Ask, Claimed | None]):
    """Seen to its end by who asked."""

    def _to_come(self) -> asyncio.Future[Claimed | claims.Elsewhere | None]:
        return _ToTheEnd(loop=asyncio.get_running_loop())


class _ToTheEnd(asyncio.Future[A]):
    """Whoever is cancelled while he waits for it learns of that once it is there."""

    def cancel(self, msg: object = None) -> bool:
        return False


class _Completion(_Entry[claims.Seen, claims.Completed]):
    """An operation's end, and in the same transaction what is told of it where somebody asked."""

    def __init__(self, db: Database, turn: asyncio.Lock) -> None:
        super().__init__(db, partial(claims.complete, telling=False), turn)
        self._telling = db.listens

    async def _at_once(self, asked: Sequence[claims.Seen]) -> Answers[claims.Completed]:
        if not self._telling:
            answers = await super()._at_once(asked)
            if not _wanted(answers):
                return answers
        answers = await self._and_tell(asked, patient=False)
        self._telling = self._db.listens or _wanted(answers)
        return answers

    async def _patiently(self, asked: claims.Seen) -> Answers[claims.Completed]:
        return await self._and_tell([asked], patient=True)

    async def _and_tell(
        self, asked: Sequence[claims.Seen], *, patient: bool
    ) -> Answers[claims.Completed]:
        async with self._db.transaction() as session:
            run = run_in(session)
            answers = await claims.complete(run, asked, patient=patient, telling=True)
            for seen, answer in zip(asked, answers, strict=True):
                if not isinstance(answer, claims.Completed) or not answer.fits:
                    continue
                if answer.wanted or self._db.listens:
                    operation = replace(seen.claim.operation, last_error=None)
                    code = replace(seen.claim.code, state=CodeState.ACTIVE)
                    told = EventType.CODE_ACTIVE
                    await outcomes.announce(session, told, code, operation=operation)
        return answers


def _wanted(answers: Answers[claims.Completed]) -> bool:
    return any(isinstance(answer, claims.Completed) and answer.wanted for answer in answers)
