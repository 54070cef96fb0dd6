"""One call for many callers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")


class Together(Generic[Asked, Answer]):
    """Whoever asks while a call is under way is answered by the next one, with all who do.

    The database takes hardly longer to write down a hundred things than one: it waits for the same
    disk. Alone, a caller waits no longer than if it had called by itself.
    """

    def __init__(
        self,
        call: Callable[[Sequence[Asked]], Awaitable[Sequence[Answer | Exception]]],
        turn: asyncio.Lock | None = None,
    ) -> None:
        """`call` gives an answer for each that is asked, in that order; an exception among them is
        raised where it was asked, and one that it raises, everywhere. Of those that share a `turn`
        one calls at a time: the more come together at each of them."""
        self._call = call
        self._turn = turn or asyncio.Lock()
        self._waiting: list[tuple[Asked, asyncio.Future[Answer]]] = []
        self._calling: asyncio.Task[None] | None = None

    async def ask(self, asked: Asked) -> Answer:
        return await self.begin(asked)

    def begin(self, asked: Asked) -> asyncio.Future[Answer]:
        """The answer to come. Who does not wait for it takes it from nobody else."""
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((asked, answer))
        if self._calling is None:
            self._calling = asyncio.create_task(self._call_until_none_waits())
        return answer

    async def _call_until_none_waits(self) -> None:
        try:
            while self._waiting:
                async with self._turn:
                    batch, self._waiting = self._waiting, []
                    answers = await self._answers([asked for asked, _ in batch])
                for (_, waiting), answer in zip(batch, answers, strict=True):
                    if waiting.done():  # cancelled meanwhile
                        continue
                    if isinstance(answer, Exception):
                        waiting.set_exception(answer)
                    else:
                        waiting.set_result(answer)
        finally:
            self._calling = None

    async def _answers(self, asked: Sequence[Asked]) -> Sequence[Answer | Exception]:
        try:
            return await self._call(asked)
        except Exception as error:
            return [error] * len(asked)
