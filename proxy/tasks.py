"""Background tasks with a name, an owner that keeps them alive, and an end that is waited for.

asyncio keeps only weak references to tasks, and reports the exception of a task nobody waits for when it is collected, if
ever. Sessions come and go for as long as the process runs, so an asyncio.TaskGroup per server (which ends with its first
failure) does not fit either.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine


class Tasks:
    """A set of running tasks. `on_error` gets the name and the exception of each that fails."""

    def __init__(self, on_error: Callable[[str, BaseException], None]) -> None:
        self._running: set[asyncio.Task[None]] = set()
        self._on_error = on_error

    def __len__(self) -> int:
        return len(self._running)

    def spawn(self, coroutine: Coroutine[None, None, None], name: str) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(coroutine, name=name)
        self._running.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._on_error(task.get_name(), error)

    @property
    def running(self) -> frozenset[asyncio.Task[None]]:
        return frozenset(self._running)

    async def end(self) -> None:
        """Cancel all, and wait until they have ended."""
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.wait(set(self._running))

    async def wait(self, timeout_s: float) -> None:
        """Wait for all that run now; cancel those that take longer."""
        if not self._running:
            return
        _, late = await asyncio.wait(set(self._running), timeout=timeout_s)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late)
