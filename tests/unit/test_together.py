"""One call for many callers: each gets its own answer, and nobody another's failure."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from pinqueue.patience import to_the_end
from pinqueue.together import Together

pytestmark = pytest.mark.anyio


class Counter:
    """Doubles what it is asked, as slowly as the test lets it, and keeps what it was asked."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.go_on = asyncio.Event()

    async def double(self, asked: Sequence[int]) -> Sequence[int | Exception]:
        self.calls.append(list(asked))
        await self.go_on.wait()
        if 13 in asked:
            raise ConnectionError("it broke")
        return [ValueError(f"not {one}") if one < 0 else 2 * one for one in asked]


async def asked(together: Together[int, int], *numbers: int) -> list[asyncio.Task[int]]:
    tasks = [asyncio.create_task(together.ask(number)) for number in numbers]
    for _ in range(3):  # they ask, and the call begins
        await asyncio.sleep(0)
    return tasks


async def test_who_asks_during_a_call_is_answered_by_the_next_one() -> None:
    counter = Counter()
    together = Together(counter.double)
    tasks = await asked(together, 1)
    tasks += await asked(together, 2, 3)
    counter.go_on.set()
    assert await asyncio.gather(*tasks) == [2, 4, 6]
    assert counter.calls == [[1], [2, 3]]


async def test_a_call_is_asked_for_no_more_than_it_takes_and_the_next_for_the_others() -> None:
    counter = Counter()
    counter.go_on.set()
    together = Together(counter.double, most=2)
    tasks = await asked(together, 1, 2, 3, 4, 5)
    assert await asyncio.gather(*tasks) == [2, 4, 6, 8, 10]
    assert counter.calls == [[1, 2], [3, 4], [5]]


async def ask_one_by_one(together: Together[int, int], turns: int) -> list[asyncio.Task[int]]:
    tasks = []
    for number in (1, 2, 3, 4):
        tasks.append(asyncio.create_task(together.ask(number)))
        for _ in range(turns):
            await asyncio.sleep(0)
    return tasks


async def test_a_call_waits_for_those_who_come_soon_after_one_another() -> None:
    counter = Counter()
    counter.go_on.set()
    together = Together(counter.double, quiet_for=5)
    assert await asyncio.gather(*await ask_one_by_one(together, turns=4)) == [2, 4, 6, 8]
    assert counter.calls == [[1, 2, 3, 4]]


async def test_a_call_waits_no_longer_once_as_many_have_come_as_it_takes() -> None:
    counter = Counter()
    together = Together(counter.double, most=2, quiet_for=1000)
    tasks = await asked(together, 1)
    assert counter.calls == []
    tasks += await asked(together, 2)
    assert counter.calls == [[1, 2]]
    counter.go_on.set()
    assert await asyncio.gather(*tasks) == [2, 4]


async def test_a_call_does_not_wait_for_those_who_come_later() -> None:
    counter = Counter()
    counter.go_on.set()
    together = Together(counter.double, quiet_for=3)
    assert await asyncio.gather(*await ask_one_by_one(together, turns=9)) == [2, 4, 6, 8]
    assert counter.calls == [[1], [2], [3], [4]]


async def test_once_enough_wait_a_second_call_begins_beside_the_first_and_no_third() -> None:
    counter = Counter()
    together = Together(counter.double, another_for=3)
    tasks = await asked(together, 1)
    tasks += await asked(together, 2, 3)
    assert counter.calls == [[1]]
    tasks += await asked(together, 4)
    tasks += await asked(together, 5, 6, 7, 8)
    assert counter.calls == [[1], [2, 3, 4]]
    counter.go_on.set()
    assert await asyncio.gather(*tasks) == [2 * number for number in range(1, 9)]
    assert counter.calls == [[1], [2, 3, 4], [5, 6, 7, 8]]


async def test_each_of_two_calls_side_by_side_is_for_half_of_those_who_are_not_answered() -> None:
    counter = Counter()
    together = Together(counter.double, another_for=2)
    tasks = await asked(together, *range(1, 9))
    assert counter.calls == [[1, 2, 3, 4], [5, 6, 7, 8]]
    counter.go_on.set()
    assert await asyncio.gather(*tasks) == [2 * number for number in range(1, 9)]


@pytest.mark.parametrize(("waiting", "calls"), [(5, [5]), (9, [9]), (10, [5, 5]), (12, [6, 6])])
async def test_no_call_leaves_fewer_than_are_worth_another(waiting: int, calls: list[int]) -> None:
    counter = Counter()
    counter.go_on.set()
    together = Together(counter.double, another_for=5)
    await asyncio.gather(*await asked(together, *range(waiting)))
    assert [len(call) for call in counter.calls] == calls


async def test_who_asks_as_a_call_ends_is_answered_all_the_same() -> None:
    counter = Counter()
    counter.go_on.set()
    together = Together(counter.double)

    async def ask_twice(number: int) -> int:
        return await together.ask(await together.ask(number))

    assert await asyncio.gather(*map(ask_twice, range(6))) == [4 * one for one in range(6)]


async def test_an_exception_among_the_answers_is_raised_where_it_was_asked() -> None:
    counter = Counter()
    counter.go_on.set()
    tasks = await asked(Together(counter.double), 1, -1, 2)
    good, bad, other = await asyncio.gather(*tasks, return_exceptions=True)
    assert (good, other) == (2, 4)
    assert str(bad) == "not -1"


async def test_a_call_that_breaks_breaks_all_it_was_for_and_no_later_one() -> None:
    counter = Counter()
    together = Together(counter.double)
    broken = await asked(together, 13)
    later = await asked(together, 1)
    counter.go_on.set()
    assert isinstance((await asyncio.gather(*broken, return_exceptions=True))[0], ConnectionError)
    assert await asyncio.gather(*later) == [2]


async def test_one_that_is_cancelled_meanwhile_takes_no_answer_from_the_others() -> None:
    counter = Counter()
    first, second = await asked(Together(counter.double), 1, 2)
    first.cancel()
    counter.go_on.set()
    assert await second == 4
    assert first.cancelled()


async def test_what_is_taken_back_while_it_waits_is_asked_of_nobody() -> None:
    counter = Counter()
    together = Together(counter.double)
    tasks = await asked(together, 1)
    waiting = together.begin(2)
    tasks += await asked(together, 3)
    assert together.take_back(waiting)
    counter.go_on.set()
    assert await asyncio.gather(*tasks) == [2, 6]
    assert counter.calls == [[1], [3]]


async def test_what_is_being_asked_is_not_taken_back() -> None:
    counter = Counter()
    together = Together(counter.double)
    begun = together.begin(1)
    await asked(together)
    assert not together.take_back(begun)
    counter.go_on.set()
    assert await begun == 2


async def test_where_all_is_taken_back_nobody_is_called() -> None:
    counter = Counter()
    together = Together(counter.double)
    assert together.take_back(together.begin(1))
    counter.go_on.set()
    assert await asyncio.gather(*await asked(together, 2)) == [4]
    assert counter.calls == [[2]]


@pytest.mark.timeout(10)
@pytest.mark.parametrize("asked", [1, 2, 3])
def test_who_waits_to_the_end_of_a_call_keeps_no_program_from_ending(asked: int) -> None:
    """The first is being answered, the second waits for the next call, or for the turn of another
    that shares it."""
    waiting: list[asyncio.Task[int]] = []

    async def end_in_the_middle() -> None:
        turn = asyncio.Lock()
        together, other = (Together(Counter().double, turn) for _ in range(2))
        for number, one in enumerate([together, together, other][:asked]):
            waiting.append(asyncio.create_task(to_the_end(one.begin(number))))
            await asyncio.sleep(0.01)

    asyncio.run(end_in_the_middle())
    assert [task.cancelled() for task in waiting] == [True] * asked
