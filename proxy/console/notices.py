"""The part of the Health page about notifications: the routes, what could not be delivered, and what an admin does about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from proxy.console.section import Section
from proxy.console.signin import require
from proxy.holds_json import iso
from proxy.model import Role
from proxy.services import Services

if TYPE_CHECKING:
    from proxy.notify.notifier import TestResult

_SHOWN: Final = 50


def notices(services: Services, *, tested: list[TestResult] | None = None, problem: str = "") -> dict[str, Any]:  # any: for the template
    """What templates/_notices.html takes."""
    dead = services.notifier.dead_letters()
    return {
        "routes": services.notifier.states(),
        "dead": dead[:_SHOWN],
        "dead_total": len(dead),
        "tested": tested,
        "notice_problem": problem,
    }


def notices_as_json(services: Services) -> dict[str, object]:
    """For the API; no secret is in it."""
    return {
        "routes": [
            {
                "name": r.name,
                "to": r.shown,
                "waiting": r.waiting,
                "delivered": r.delivered,
                "failed": r.failed,
                "lost": r.lost,
                "left_out": r.left_out,
                "failing": r.failing,
                "last_error": r.last_error,
                "last_delivered": iso(r.last_delivered),
            }
            for r in services.notifier.states()
        ],
        "dead_letters": [
            {
                "id": x.id,
                "route": x.route,
                "event": str(x.message.topic),
                "severity": x.message.severity,
                "subject": x.message.subject,
                "at": iso(x.created_at),
                "tries": x.tries,
                "error": x.error,
            }
            for x in services.notifier.dead_letters()
        ],
    }


class NoticePages(Section):
    """/health/notifications/…"""

    def routes(self) -> APIRouter:
        router = APIRouter(include_in_schema=False)
        router.add_api_route("/health/notifications/test", self._test, methods=["POST"])
        router.add_api_route("/health/notifications/{letter_id:int}/again", self._again, methods=["POST"])
        router.add_api_route("/health/notifications/{letter_id:int}/dismiss", self._dismiss, methods=["POST"])
        return router

    async def _test(self, request: Request) -> Response:
        visitor = await self._signin.changing(request)
        require(visitor, Role.ADMIN)
        results = await self._services.notifier.test(visitor.operator.name)
        return self._views.page(request, "notices.html", visitor=visitor, **notices(self._services, tested=results))

    async def _again(self, request: Request, letter_id: int) -> Response:
        visitor = await self._signin.changing(request)
        require(visitor, Role.ADMIN)
        problem = self._services.notifier.send_again(letter_id)
        if problem:
            return self._views.page(request, "notices.html", visitor=visitor, status=409, **notices(self._services, problem=problem))
        return RedirectResponse("/health", 303)

    async def _dismiss(self, request: Request, letter_id: int) -> Response:
        visitor = await self._signin.changing(request)
        require(visitor, Role.ADMIN)
        await self._services.notifier.dismiss(letter_id, visitor.operator.name)
        return RedirectResponse("/health", 303)
