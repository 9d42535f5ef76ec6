"""Pages about the proxy as a whole: sessions, activity, health."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Annotated, Final

from fastapi import APIRouter, Query, Request
from fastapi.responses import RedirectResponse, Response

from proxy.activity import VERDICTS, Minute
from proxy.console.charts import Chart, stacked
from proxy.console.history import History
from proxy.console.notices import notices
from proxy.console.signin import NotAllowedError, SignIn, require
from proxy.console.views import Views, span
from proxy.decide import DecisionRefusedError, revoke
from proxy.model import Role, SessionId
from proxy.seams import UnknownHoldError
from proxy.services import Services

_PERIODS: Final = {"1h": (60, 60), "6h": (360, 72), "24h": (1440, 96)}
_WAITS: Final = ((5, "up to 5 s"), (30, "30 s"), (60, "1 min"), (300, "5 min"), (600, "10 min"), (float("inf"), "longer"))
_SESSIONS_SHOWN: Final = 1000


class OverviewPages:
    """/sessions, /grants, /activity, /health."""

    def __init__(self, services: Services, signin: SignIn, views: Views) -> None:
        self._services = services
        self._signin = signin
        self._views = views
        self._history = History(services.store, services.clock)

    def routes(self) -> APIRouter:
        router = APIRouter(include_in_schema=False)
        router.add_api_route("/sessions", self._sessions, methods=["GET"])
        router.add_api_route("/sessions/{session_id:int}/kill", self._kill, methods=["POST"])
        router.add_api_route("/grants/{grant_id:int}/revoke", self._revoke, methods=["POST"])
        router.add_api_route("/activity", self._activity, methods=["GET"])
        router.add_api_route("/health", self._health, methods=["GET"])
        router.add_api_route("/health/accept", self._accept, methods=["POST"])
        return router

    async def _sessions(self, request: Request, q: Annotated[str, Query(max_length=200)] = "") -> Response:
        visitor = await self._signin.visitor(request)
        found = sorted(self._services.sessions.list(), key=lambda s: (s.hold_id is None, s.state == "idle", s.id))
        words = q.lower().split()
        chosen = [
            s
            for s in found
            if all(
                w
                in " ".join(
                    (s.requester.role, s.requester.database, s.requester.application_name, s.requester.client_addr, s.state)
                ).lower()
                for w in words
            )
        ]
        return self._views.page(
            request,
            "sessions.html",
            visitor=visitor,
            sessions=chosen[:_SESSIONS_SHOWN],
            total=len(chosen),
            q=q,
            grants=await self._services.grants.open_ones(),
        )

    async def _kill(self, request: Request, session_id: int) -> Response:
        visitor = await self._signin.changing(request)
        require(visitor, Role.ADMIN)
        if not self._services.sessions.kill(SessionId(session_id), visitor.operator.name):
            raise UnknownHoldError(session_id)
        return RedirectResponse("/sessions", 303)

    async def _revoke(self, request: Request, grant_id: int) -> Response:
        visitor = await self._signin.changing(request)
        try:
            await revoke(self._services, visitor.operator, grant_id)
        except DecisionRefusedError as error:
            raise NotAllowedError(str(error)) from None
        return RedirectResponse("/sessions", 303)

    async def _activity(self, request: Request, period: Annotated[str, Query(max_length=4)] = "1h") -> Response:
        visitor = await self._signin.visitor(request)
        minutes, buckets = _PERIODS.get(period, _PERIODS["1h"])
        parts = self._services.activity.last(minutes, buckets)
        waits = await self._history.waits(max(1, minutes // 60))
        return self._views.page(
            request,
            "activity.html",
            visitor=visitor,
            period=period if period in _PERIODS else "1h",
            periods=list(_PERIODS),
            charts=[
                _verdicts("Judged scripts and executions", parts, VERDICTS),
                _verdicts("Those that were not harmless", parts, VERDICTS[1:]),
                _waited([seconds for _, seconds, _ in waits]),
            ],
            totals={v: sum(p.counts.get(v, 0) for p in parts) for v in VERDICTS},
            states=sorted(Counter(state for _, _, state in waits).items()),
        )

    async def _health(self, request: Request) -> Response:
        visitor = await self._signin.visitor(request)
        services = self._services
        settings = services.settings
        server = settings.server
        facts = [
            ("server", str(server) if server is not None else "embedded PostgreSQL 18"),
            ("mode", settings.mode),
            ("profile", str(services.judging.policies.profile)),
            ("environment", str(settings.effective_environment)),
            ("sessions", f"{len(services.sessions.list()):,}"),
            ("holds pending", f"{services.book.pending_count():,}"),
            ("verdict cache", _share(services.judging.policies.hits, services.judging.policies.misses)),
            ("data directory", str(settings.data_dir)),
        ]
        notifier = services.notifier
        problems = await services.problems()
        return self._views.page(
            request,
            "health.html",
            visitor=visitor,
            problems=[*problems, notifier.chain_problem] if notifier.chain_problem else problems,
            warnings=[*await asyncio.to_thread(services.audit_care.warnings), *services.keeper.warnings()],
            facts=facts,
            report=services.health.report,
            **notices(services),
        )

    async def _accept(self, request: Request) -> Response:
        visitor = await self._signin.changing(request)
        require(visitor, Role.ADMIN)
        await self._services.health.accept(visitor.operator.name)
        return RedirectResponse("/health", 303)


def _share(hits: int, misses: int) -> str:
    return f"{hits:,} hits, {misses:,} misses" + (f" ({hits / (hits + misses):.1%})" if hits + misses else "")


def _verdicts(title: str, minutes: list[Minute], kinds: tuple[str, ...]) -> Chart:
    rows = [[m.counts.get(kind, 0) for kind in kinds] for m in minutes]
    told = ", ".join(f"{sum(row[i] for row in rows):,} {kind}" for i, kind in enumerate(kinds))
    return stacked(title, told, [m.start.strftime("%H:%M") for m in minutes], kinds, rows)


def _waited(seconds: list[float]) -> Chart:
    counts = [0] * len(_WAITS)
    for wait in seconds:
        counts[next(i for i, (limit, _) in enumerate(_WAITS) if wait <= limit)] += 1
    middle = sorted(seconds)[len(seconds) // 2] if seconds else 0.0
    told = f"{len(seconds):,} holds; half of them were decided or ended within {span(middle)}" if seconds else "no holds"
    return stacked("How long holds waited", told, [label for _, label in _WAITS], ("holds",), [[c] for c in counts], 1)
