"""The proxy's own health, watched for those who are told: when something is wrong, when that changes, and when it is over."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Final

from proxy.notify.outbox import Letter
from proxy.seams import Clock

LOOK_S: Final = 3.0
#: A problem, or its end, is told when it was seen so often in a row: what passes by itself wakes nobody.
_LOOKS: Final = 2
#: The same problem in other words is not told more often than this.
_CHANGES_S: Final = 60.0
_FIRST_CHECK_S: Final = 60.0
_NUMBERS: Final = re.compile(r"\d+")


class HealthWatch:
    """Attributes:
    began: when the problem of the moment began; None when all is well.
    """

    def __init__(
        self,
        look: Callable[[], Awaitable[list[str]]],
        clock: Clock,
        on_problem: Callable[[Sequence[str], datetime], None],
        on_solved: Callable[[datetime], None],
    ) -> None:
        self._look = look
        self._clock = clock
        self._on_problem = on_problem
        self._on_solved = on_solved
        self._seen: list[bool] = []
        self._told: set[str] = set()
        self._told_at: datetime | None = None
        self.began: datetime | None = None

    def take_up(self, letter: Letter) -> None:
        """A problem that the process before has told: its end is still to be told."""
        problems = letter.message.facts.get("problems")
        self.began = datetime.fromisoformat(str(letter.message.facts["began"]))
        self._told = {_NUMBERS.sub("", str(p)) for p in problems} if isinstance(problems, list) else set()

    async def run(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            self.see(await self._look())

    def see(self, problems: Sequence[str]) -> None:
        """One look."""
        self._seen = [*self._seen[1 - _LOOKS :], bool(problems)]
        if len(self._seen) < _LOOKS or len(set(self._seen)) > 1:
            return
        now = self._clock.now()
        if not problems:
            if self.began is not None:
                self._on_solved(self.began)
            self.began, self._told = None, set()
            return
        # Counts and ports in a sentence may change without its being another problem.
        kinds = {_NUMBERS.sub("", p) for p in problems}
        lately = self._told_at is not None and (now - self._told_at).total_seconds() < _CHANGES_S
        if self.began is not None and (kinds <= self._told or lately):
            return
        self.began = self.began or now
        self._told, self._told_at = kinds, now
        self._on_problem(problems, self.began)


class ChainWatch:
    """Verifies the whole audit log now and then, in a process of its own: it takes time, and the relay needs this one's.

    Attributes:
        problem: a sentence; empty while the chain is whole.
    """

    def __init__(self, path: Path, every_s: float, log: Callable[..., None]) -> None:
        self._path = path
        self._every_s = every_s
        self._log = log
        self.problem = ""

    async def run(self) -> None:
        if not self._every_s:
            return
        await asyncio.sleep(min(_FIRST_CHECK_S, self._every_s))
        while True:
            await self.check()
            await asyncio.sleep(self._every_s)

    async def check(self) -> None:
        found = await self._verify()
        # The log is being written while it is read, and rotated: only what is seen twice is a break.
        if found and await self._verify() != found:
            return
        self.problem = f"the audit log's chain is broken: {found}" if found else ""

    async def _verify(self) -> str:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "proxy", "audit", "verify", "--json", "--file", str(self._path),
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        try:
            answer, _ = await process.communicate()
            report = json.loads(answer)
            return "" if report["problem"] is None or report["kind"] == "torn_tail" else str(report["problem"])
        except (ValueError, KeyError, TypeError):
            self._log("audit log not verified", code=process.returncode)
            return self.problem.partition(": ")[2]
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
