"""The policy engine as the sessions use it: the one that the policy has for their identity, timed, long scripts elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final
from weakref import WeakSet

from policy import Context, Engine, Judgement
from policy.tools import Act
from proxy.isolation import IsolatedJudges
from proxy.policies import Identity, Policies

#: How long a choice of engine stands while the policy looks at the clock.
_CHOICE_S: Final = 1.0


class Judging:
    """What all sessions share: the policy of the moment, which a reload replaces, and the processes for long scripts."""

    def __init__(self, policies: Policies, observe: Callable[[float], None], isolated: IsolatedJudges) -> None:
        self.policies = policies
        self.isolated = isolated
        self.observe = observe
        self._sessions: WeakSet[SessionJudge] = WeakSet()

    def replace(self, policies: Policies) -> None:
        self.policies = policies
        for session in list(self._sessions):
            session.choose()

    def for_session(self, identity: Identity) -> SessionJudge:
        session = SessionJudge(self, identity)
        self._sessions.add(session)
        return session


class SessionJudge:
    """knowledge.Judge for one session.

    Attributes:
        settled: the engine's own while the policy does not look at the clock or the application's name, so that the relay's
            fast path costs nothing more.
    """

    def __init__(self, shared: Judging, identity: Identity) -> None:
        self._shared = shared
        self._identity = identity
        self.choose()

    def choose(self) -> None:
        """Take the engine that the policy has for this identity now."""
        policies = self._shared.policies
        self._engine = policies.engine(self._identity)
        self._changes = policies.changes
        self._until = time.monotonic() + _CHOICE_S
        self.settled: Callable[[bytes, Context], Judgement | None] = self._settled if self._changes else self._engine.settled

    def _current(self, context: Context) -> Engine:
        if self._changes:
            renamed = context.application_name != self._identity.application
            if renamed or time.monotonic() >= self._until:
                self._identity = self._identity.with_application(context.application_name)
                self._engine = self._shared.policies.engine(self._identity)
                self._until = time.monotonic() + _CHOICE_S
        return self._engine

    def _settled(self, script: bytes, context: Context) -> Judgement | None:
        return self._current(context).settled(script, context)

    def judge(self, script: bytes, context: Context) -> Judgement:
        started = time.perf_counter()
        judgement = self._current(context).judge(script, context)
        self._shared.observe(time.perf_counter() - started)
        return judgement

    def judge_bound(self, script: bytes, context: Context, values: tuple[bytes | None, ...]) -> Judgement:
        return self._current(context).judge_bound(script, context, values)

    def judge_function_call(self, oid: int, context: Context) -> Judgement:
        return self._current(context).judge_function_call(oid, context)

    def as_act(self, judgement: Judgement, act: Act, database: str) -> Judgement:
        return self._engine.as_act(judgement, act, database)

    async def judge_elsewhere(self, script: bytes, context: Context) -> Judgement:
        """For scripts that would keep other sessions waiting."""
        started = time.perf_counter()
        judgement = await self._shared.isolated.judge(self._current(context), script, context)
        self._shared.observe(time.perf_counter() - started)
        return judgement
