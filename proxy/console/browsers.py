"""Where an operator is signed in, and signing out everywhere else: for whoever left a browser open on another machine."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from proxy.console.sessions import WebSessions
from proxy.console.signin import SignIn
from proxy.console.views import Views
from proxy.model import AuditEntry, AuditEvent
from proxy.services import Services


class BrowserPages:
    """/account/browsers."""

    def __init__(self, services: Services, signin: SignIn, sessions: WebSessions, views: Views) -> None:
        self._services = services
        self._signin = signin
        self._sessions = sessions
        self._views = views

    def routes(self) -> APIRouter:
        router = APIRouter(include_in_schema=False)
        router.add_api_route("/account/browsers", self._list, methods=["GET"])
        router.add_api_route("/account/browsers", self._end, methods=["POST"])
        return router

    async def _list(self, request: Request) -> Response:
        visitor = await self._signin.visitor(request)
        return self._views.page(request, "browsers.html", visitor=visitor, browsers=await self._sessions.of(visitor))

    async def _end(self, request: Request) -> Response:
        """On record before it is done. Raises AuditError."""
        visitor = await self._signin.changing(request)
        name = visitor.operator.name
        what = "signed out all other browsers"
        await self._services.audit.append(AuditEntry(AuditEvent.OPERATOR_CHANGED, operator=name, outcome=what, detail={"about": name}))
        await self._sessions.end_others(visitor)
        return RedirectResponse("/account/browsers", 303)
