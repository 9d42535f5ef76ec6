"""The policy engine as the sessions use it: timed, and off the event loop for long scripts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from policy import Context, Engine, Judgement


class TimedJudge:
    """knowledge.Judge over an engine that can be replaced (reload)."""

    def __init__(self, engine: Engine, observe: Callable[[float], None]) -> None:
        self._engine = engine
        self._observe = observe
        # libpg_query runs without the interpreter's lock, so one thread keeps the loop free.
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="judge")
        self.settled = engine.settled

    @property
    def engine(self) -> Engine:
        return self._engine

    def replace(self, engine: Engine) -> None:
        self._engine = engine
        self.settled = engine.settled

    def judge(self, script: bytes, context: Context) -> Judgement:
        started = time.perf_counter()
        judgement = self._engine.judge(script, context)
        self._observe(time.perf_counter() - started)
        return judgement

    def judge_function_call(self, oid: int, context: Context) -> Judgement:
        return self._engine.judge_function_call(oid, context)

    def off_loop(self, script: bytes, context: Context) -> asyncio.Future[Judgement]:
        return asyncio.get_running_loop().run_in_executor(self._executor, self.judge, script, context)
