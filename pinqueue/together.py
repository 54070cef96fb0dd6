"""One call for many callers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Generic, TypeVar

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")


class Together(Generic[Asked, Answer]):
    """Whoever asks while a call is under way is answered by one of the next, with others who do.

    The database takes hardly longer to write down fifty things than one: it waits for the same
    disk. Alone, a caller waits some turns of the event loop longer than if it called by itself.
    """

    def __init__(
        self,
        call: Callable[[Sequence[Asked]], Awaitable[Sequence[Answer | Exception]]],
        turn: AbstractAsyncContextManager[object] | None = None,
        *,
        most: int | None = None,
        quiet_for: int = 0,
        another_for: int | None = None,
    ) -> None:
        """`call` gives an answer for each that is asked, in that order; an exception among them is
        raised where it was asked, and one that it raises, everywhere. Of those that share a `turn`
        one calls at a time: the more come together at each of them. A call is for `most` of those
        who wait, None: for all. Where they come one after the other, it waits for as many, or until
        none came for `quiet_for` turns of the event loop. Once as many as `another_for` wait, a
        second call begins beside the first. Each is then for half of all who have not been
        answered, so that one half is called for while the other comes; where no other call is under
        way it leaves as many as that, or none."""
        self._call = call
        self._turn = turn or nullcontext()
        self._most = most
        self._quiet_for = quiet_for
        self._another_for = another_for
        self._waiting: list[tuple[Asked, asyncio.Future[Answer]]] = []
        self._unanswered = 0
        self._calling: set[asyncio.Task[None]] = set()

    async def ask(self, asked: Asked) -> Answer:
        return await self.begin(asked)

    def begin(self, asked: Asked) -> asyncio.Future[Answer]:
        """The answer to come. Who does not wait for it takes it from nobody else."""
        answer = self._to_come()
        self._waiting.append((asked, answer))
        if self._enough_wait(calls=len(self._calling)):
            # Held here, or the event loop would let it go. It takes itself out of these: a callback
            # would come too late for who asks in between.
            self._calling.add(asyncio.create_task(self._call_while_enough_wait()))
        return answer

    def _to_come(self) -> asyncio.Future[Answer]:
        return asyncio.get_running_loop().create_future()

    def take_back(self, answer: asyncio.Future[Answer]) -> bool:
        """False when it is too late, and whoever is called has been asked."""
        for place, (_, waiting) in enumerate(self._waiting):
            if waiting is answer:
                del self._waiting[place]
                return True
        return False

    def _enough_wait(self, *, calls: int) -> bool:
        """For a call beside so many others."""
        if calls == 0:
            return bool(self._waiting)
        wanted = self._another_for
        return calls == 1 and wanted is not None and len(self._waiting) >= wanted

    async def _call_while_enough_wait(self) -> None:
        batch: list[tuple[Asked, asyncio.Future[Answer]]] = []
        try:
            while self._enough_wait(calls=len(self._calling) - 1):
                async with self._turn:
                    await self._all_have_come()
                    most = self._most or self._share()
                    batch, self._waiting = self._waiting[:most], self._waiting[most:]
                    if not batch:  # all was taken back meanwhile
                        break
                    answers = await self._answers([asked for asked, _ in batch])
                for (_, waiting), answer in zip(batch, answers, strict=True):
                    if waiting.done():  # cancelled meanwhile
                        continue
                    if isinstance(answer, Exception):
                        waiting.set_exception(answer)
                    else:
                        waiting.set_result(answer)
                batch = []
        except asyncio.CancelledError:
            self._end([*batch, *self._waiting])
            raise
        finally:
            task = asyncio.current_task()
            assert task is not None  # noqa: S101  # a coroutine runs in a task
            self._calling.discard(task)

    def _share(self) -> int:
        """How many one call is for."""
        waiting, wanted = len(self._waiting), self._another_for
        if wanted is None:
            return waiting
        half = max((waiting + self._unanswered + 1) // 2, wanted)
        return half if self._unanswered or waiting - half >= wanted else waiting

    def _end(self, asked: Sequence[tuple[Asked, asyncio.Future[Answer]]]) -> None:
        """The program ends: who waits to the end, and takes no cancellation, would wait for ever
        for what nobody calls any more."""
        for _, waiting in asked:
            if not (waiting.cancel() or waiting.done()):
                waiting.set_exception(asyncio.CancelledError())

    async def _all_have_come(self) -> None:
        await asyncio.sleep(0)  # what is ready now may ask as well
        quiet, before = 0, len(self._waiting)
        while quiet < self._quiet_for and (self._most is None or before < self._most):
            await asyncio.sleep(0)
            quiet = 0 if len(self._waiting) > before else quiet + 1
            before = len(self._waiting)

    async def _answers(self, asked: Sequence[Asked]) -> Sequence[Answer | Exception]:
        self._unanswered += len(asked)
        try:
            return await self._call(asked)
        except Exception as error:
            return [error] * len(asked)
        finally:
            self._unanswered -= len(asked)
