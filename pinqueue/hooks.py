"""Python hooks: functions of other packages that are told how operations ended.

An entry point of the group `pinqueue.hooks` names a function, plain or async, that takes one event:
the body of the outgoing webhook. It is called in the worker process, after COMMIT, at best effort:
what must arrive is for an endpoint. Each hook has a thread, and an event loop, of its own, so that
nothing it does can hold up a PIN: an exception is logged, an async hook is cancelled after 5
seconds, and one that hangs misses events while the others go on.
"""

from __future__ import annotations

import asyncio
import copy
import inspect
import queue
import threading
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final

from pinqueue import logs
from pinqueue.errors import ConfigInvalid

log = logs.get(__name__)

Event = Mapping[str, Any]
Function = Callable[[Event], object]

GROUP: Final = "pinqueue.hooks"
WITHIN: Final = 5.0
"""Seconds that one call may take, and that all have to finish when the worker stops."""
MOST_WAITING: Final = 1000
"""Events that wait for a slow hook; it misses those beyond."""


class Hooks:
    """All hooks of this process. `tell` returns at once; the calls come in the order of events."""

    def __init__(self, functions: Iterable[tuple[str, Function]]) -> None:
        self._hooks = [_Hook(name, function) for name, function in functions]

    def __bool__(self) -> bool:
        return bool(self._hooks)

    def tell(self, event: Event) -> None:
        for hook in self._hooks:
            hook.tell(event)

    async def close(self) -> None:
        """Let the hooks finish what they were told, for 5 seconds at most."""
        for hook in self._hooks:
            hook.finish()
        deadline = asyncio.get_running_loop().time() + WITHIN
        for hook in self._hooks:
            left = deadline - asyncio.get_running_loop().time()
            await asyncio.to_thread(hook.join, max(left, 0.0))


def load() -> Hooks:
    """The hooks of all installed packages; raises ConfigInvalid when one cannot be imported."""
    points = sorted(entry_points(group=GROUP), key=lambda point: (point.name, point.value))
    functions = [(point.name, _function(point)) for point in points]
    if functions:
        log.info("hooks-loaded", hooks=[name for name, _ in functions])
    return Hooks(functions)


def _function(point: EntryPoint) -> Function:
    try:
        function: Function = point.load()
    except Exception as error:
        raise ConfigInvalid(
            f"the hook {point.name} ({point.value}) cannot be imported: "
            f"{type(error).__name__}: {error}"
        ) from error
    if not callable(function):
        raise ConfigInvalid(f"the hook {point.name} ({point.value}) is not a function")
    return function


class _Hook:
    def __init__(self, name: str, function: Function) -> None:
        self._name = name
        self._function = function
        self._waiting = queue.SimpleQueue[Event | None]()
        # A daemon: one that hangs must not keep the process from ending.
        self._thread = threading.Thread(target=self._work, name=f"hook-{name}", daemon=True)
        self._thread.start()

    def tell(self, event: Event) -> None:
        if self._waiting.qsize() >= MOST_WAITING:
            log.error("hook-missed-event", hook=self._name, type=event["type"])
        else:
            self._waiting.put(
                copy.deepcopy(dict(event))
            )  # what a hook does to it is its own affair

    def finish(self) -> None:
        self._waiting.put(None)

    def join(self, timeout: float) -> None:
        self._thread.join(timeout)
        if self._thread.is_alive():
            log.error("hook-abandoned", hook=self._name, waiting=self._waiting.qsize())

    def _work(self) -> None:
        with asyncio.Runner() as runner:
            while (event := self._waiting.get()) is not None:
                overdue = threading.Timer(WITHIN, self._log_overdue)
                overdue.daemon = True
                overdue.start()
                try:
                    runner.run(self._call(event))
                except BaseException:  # whatever a stranger's function raises ends here
                    log.exception("hook-failed", hook=self._name, type=event["type"])
                finally:
                    overdue.cancel()

    async def _call(self, event: Event) -> None:
        done = self._function(event)
        if not inspect.isawaitable(done):
            return
        try:
            async with asyncio.timeout(WITHIN) as limit:
                await done
        except TimeoutError:
            if not limit.expired():
                raise
            log.error("hook-cancelled", hook=self._name, type=event["type"], seconds=WITHIN)

    def _log_overdue(self) -> None:
        """Of use where the function is a plain one: nothing can stop that."""
        log.warning("hook-slow", hook=self._name, seconds=WITHIN)
