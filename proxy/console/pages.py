"""The console's pages about holds: the list, a hold, several together, deciding, and the events that keep open pages fresh."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from fnmatch import fnmatchcase
from typing import Annotated, Final

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import PlainTextResponse, RedirectResponse, Response
from sse_starlette import EventSourceResponse

from policy.catalogue import RULES
from policy.verdict import Severity
from proxy.approvals import decides_for, needs, why_not
from proxy.backups.commands import back_command
from proxy.backups.errands import ErrandError
from proxy.backups.model import ProtectError
from proxy.backups.undoing import Conflicts
from proxy.console.api_undo import address_of
from proxy.console.grouping import Group, group
from proxy.console.history import History
from proxy.console.practice import open_practice_hold
from proxy.console.recheck import RECHECK_S, Recheck
from proxy.console.rulebook import rule_text
from proxy.console.script import SHOWN_CHARACTERS, one_line, pieces, unusual_characters
from proxy.console.sessions import Visitor
from proxy.console.signin import NotAllowedError, SignIn
from proxy.console.views import Views, title_of
from proxy.control import ControlError
from proxy.decide import Answer, DecisionRefusedError, Outcome, decide, decide_together, may_be_retried, names_to_type, too_late
from proxy.model import Hold, HoldId
from proxy.seams import AuditError, NotPendingError, UnknownHoldError
from proxy.services import Services

#: Holds that the list looks at, the newest; that there are more is said.
_HOLDS_LISTED: Final = 2000
#: Groups on one page of the list; more are a page further.
_GROUPS_SHOWN: Final = 100
_STATUS: Final = {"forbidden": 403, "phrase": 422, "reason": 422, "object": 422, "second-factor": 422, "already": 409, "invalid": 422}
#: After which a browser that lost the stream asks for it again.
_RETRY_MS: Final = 1000


#: For how long a session may be let pass, to choose from.
_SESSION_MINUTES: Final = (5, 15, 30, 60)
#: What was typed stays in the form when it was refused.
_FILLED_AGAIN: Final = ("reason", "phrase", "object_name", "suggestion", "session_minutes")


class HoldPages:
    """Everything under /holds, and /."""

    def __init__(self, services: Services, signin: SignIn, views: Views) -> None:
        self._services = services
        self._signin = signin
        self._views = views
        self._history = History(services.store, services.clock)

    def routes(self) -> APIRouter:
        router = APIRouter(include_in_schema=False)
        get, post = ["GET"], ["POST"]
        router.add_api_route("/", self._home, methods=get)
        router.add_api_route("/holds", self._list, methods=get)
        router.add_api_route("/holds/list", self._list_part, methods=get)
        router.add_api_route("/holds/together", self._together, methods=get)
        router.add_api_route("/holds/together", self._decide_together, methods=post)
        router.add_api_route("/holds/practice", self._practice, methods=post)
        router.add_api_route("/holds/{hold_id:int}", self._hold, methods=get)
        router.add_api_route("/holds/{hold_id:int}/state", self._hold_part, methods=get)
        router.add_api_route("/holds/{hold_id:int}/objects", self._objects, methods=get)
        router.add_api_route("/holds/{hold_id:int}/script.sql", self._script, methods=get)
        router.add_api_route("/holds/{hold_id:int}/decide", self._decide, methods=post)
        router.add_api_route("/holds/{hold_id:int}/undo", self._undo, methods=post)
        router.add_api_route("/events", self._events, methods=get)
        return router

    # --- the list -----------------------------------------------------------------------------------------------

    async def _home(self, request: Request) -> Response:
        await self._signin.visitor(request)
        return RedirectResponse("/holds", 303)

    async def _list(
        self,
        request: Request,
        q: Annotated[str, Query(max_length=200)] = "",
        severity: Annotated[str, Query(max_length=20)] = "",
        database: Annotated[str, Query(max_length=200)] = "",
        state: Annotated[str, Query(max_length=20)] = "pending",
        page: Annotated[int, Query(ge=1, le=10_000)] = 1,
    ) -> Response:
        return await self._show_list(request, "holds.html", q, severity, database, state, page)

    async def _list_part(
        self,
        request: Request,
        q: Annotated[str, Query(max_length=200)] = "",
        severity: Annotated[str, Query(max_length=20)] = "",
        database: Annotated[str, Query(max_length=200)] = "",
        state: Annotated[str, Query(max_length=20)] = "pending",
        page: Annotated[int, Query(ge=1, le=10_000)] = 1,
    ) -> Response:
        return await self._show_list(request, "_holds_list.html", q, severity, database, state, page)

    async def _show_list(self, request: Request, template: str, q: str, severity: str, database: str, state: str, page: int) -> Response:
        visitor = await self._signin.visitor(request)
        every = state != "pending"
        holds = await self._services.book.list(pending_only=not every, limit=_HOLDS_LISTED)
        chosen = [h for h in holds if _is_wanted(h, q, severity, database, state)]
        groups = group(chosen) if not every else [Group((h,)) for h in chosen]
        if not every:
            # The worst first, and of those what expires soonest: that is what an operator should look at.
            groups.sort(key=lambda g: (-Severity[g.severity.upper()], g.expires_first.expires_at))
        first = (page - 1) * _GROUPS_SHOWN
        recent = [] if every else await self._history.recent()
        return self._views.page(
            request,
            template,
            visitor=visitor,
            groups=groups[first : first + _GROUPS_SHOWN],
            total=len(chosen),
            more=0 if every else max(0, self._services.book.pending_count() - _HOLDS_LISTED),
            group_count=len(groups),
            page_number=page,
            pages=max(1, -(-len(groups) // _GROUPS_SHOWN)),
            recent=recent,
            fresh=not every and not holds and not recent,
            filters={"q": q, "severity": severity, "database": database, "state": state},
            may_decide=visitor.operator.role.may_decide,
        )

    async def _practice(self, request: Request) -> Response:
        visitor = await self._signin.changing(request)
        if not visitor.operator.role.may_decide:
            raise NotAllowedError(f"the role {visitor.operator.role} may not decide")
        hold = await open_practice_hold(self._services)
        return RedirectResponse(f"/holds/{hold.id}", 303)

    # --- one hold -----------------------------------------------------------------------------------------------

    async def _hold(self, request: Request, hold_id: int) -> Response:
        visitor = await self._signin.visitor(request)
        return await self._show_hold(request, visitor, HoldId(hold_id), "hold.html")

    async def _hold_part(self, request: Request, hold_id: int) -> Response:
        visitor = await self._signin.visitor(request)
        return await self._show_hold(request, visitor, HoldId(hold_id), "_hold_state.html")

    async def _objects(self, request: Request, hold_id: int) -> Response:
        visitor = await self._signin.visitor(request)
        return await self._show_hold(request, visitor, HoldId(hold_id), "_objects.html")

    async def _show_hold(
        self,
        request: Request,
        visitor: Visitor,
        hold_id: HoldId,
        template: str,
        *,
        error: str = "",
        status: int = 200,
        filled: dict[str, str] | None = None,
    ) -> Response:
        services = self._services
        hold = await services.book.get(hold_id)
        wanted = needs(services.policy().approvals, hold.request)
        whole = template == "hold.html"
        return self._views.page(
            request,
            template,
            visitor=visitor,
            status=status,
            hold=hold,
            asked=hold.request,
            title=title_of(hold),
            pieces=pieces(hold.request.script, [f.span for f in hold.request.findings]) if whole else [],
            unusual_notes=unusual_characters(hold.request.script) if whole else [],
            shown=SHOWN_CHARACTERS,
            rules={i: rule_text(RULES[i]) for i in hold.request.rule_ids if i in RULES},
            similar=await self._history.similar(hold) if whole else [],
            needs=wanted,
            outlook=await services.forecast.of(hold) if hold.state == "pending" else None,
            bring_back=back_command(hold.copy.kind, int(hold.id)) if hold.copy is not None and hold.copy.state == "done" else "",
            second_factor=wanted.second_factor or services.wants_second_factor(hold.request.severity),
            approvals=await services.approvals.of(hold_id),
            why_not=why_not(visitor.operator, hold.request),
            names=names_to_type(hold),
            retry=may_be_retried(services, hold),
            retry_s=services.settings.retry_timeout_s,
            retry_until=hold.state == "approved" and any(g.hold_id == hold_id for g in await services.grants.open_ones()),
            session_grants=[m for m in _SESSION_MINUTES if m * 60 <= services.settings.session_grant_max_s],
            phrase=services.settings.approval_phrase,
            suggested=next((f.suggestion for f in hold.request.findings if f.suggestion), "") or hold.request.script[:20_000],
            may_undo=whole and not why_not(visitor.operator, hold.request) and await services.undo.can(hold),
            error=error,
            filled=filled or {},
        )

    async def _script(self, request: Request, hold_id: int) -> Response:
        await self._signin.visitor(request)
        hold = await self._services.book.get(HoldId(hold_id))
        headers = {"Content-Disposition": f'attachment; filename="hold-{hold_id}.sql"'}
        return PlainTextResponse(hold.request.script, headers=headers)

    async def _decide(
        self,
        request: Request,
        hold_id: int,
        action: Annotated[str, Form(pattern="^(approve|deny|return)$")],
        reason: Annotated[str, Form(max_length=4000)] = "",
        phrase: Annotated[str, Form(max_length=1000)] = "",
        object_name: Annotated[str, Form(max_length=1000)] = "",
        code: Annotated[str, Form(max_length=20)] = "",
        suggestion: Annotated[str, Form(max_length=20_000)] = "",
        break_glass: Annotated[bool, Form()] = False,
        session_minutes: Annotated[int, Form(ge=0, le=1440)] = 0,
        without_backup: Annotated[bool, Form()] = False,
    ) -> Response:
        visitor = await self._signin.changing(request)
        answer = Answer(
            approve=action == "approve",
            reason=reason,
            phrase=phrase,
            code=code,
            object_name=object_name,
            suggestion=suggestion.replace("\r\n", "\n") if action == "return" else "",
            break_glass=break_glass,
            session_grant_s=session_minutes * 60,
            without_backup=without_backup,
        )
        if action == "return" and not answer.suggestion.strip():
            return await self._again(request, visitor, hold_id, "to return it, write the statement to send instead", 422)
        try:
            await decide(self._services, visitor.operator, HoldId(hold_id), answer)
        except DecisionRefusedError as error:
            return await self._again(request, visitor, hold_id, str(error), _STATUS.get(error.code, 422))
        except NotPendingError as error:
            return await self._again(request, visitor, hold_id, too_late(error), 409)
        except AuditError as error:
            return await self._again(request, visitor, hold_id, f"not decided: {error}", 503)
        return RedirectResponse(f"/holds/{hold_id}", 303)

    async def _again(self, request: Request, visitor: Visitor, hold_id: int, error: str, status: int) -> Response:
        form = await request.form()
        filled = {k: v for k, v in form.items() if isinstance(v, str) and k in _FILLED_AGAIN}
        return await self._show_hold(request, visitor, HoldId(hold_id), "hold.html", error=error, status=status, filled=filled)

    async def _undo(
        self,
        request: Request,
        hold_id: int,
        reason: Annotated[str, Form(max_length=4000)] = "",
        conflicts: Annotated[Conflicts, Form()] = Conflicts.ABORT,
    ) -> Response:
        visitor = await self._signin.changing(request)
        operator = visitor.operator
        hold = await self._services.book.get(HoldId(hold_id))
        if not operator.role.may_decide or not decides_for(operator, hold.request.requester.database):
            raise NotAllowedError("you may not take back what this statement did")
        try:
            undo = await self._services.undo.submit(hold.id, operator, conflicts=conflicts, reason=reason, client_addr=address_of(request))
        except (ErrandError, ControlError, ProtectError) as error:
            return await self._again(request, visitor, hold_id, f"not taken back: {error}", 409)
        return RedirectResponse(f"/holds/{undo.id}", 303)

    # --- several ------------------------------------------------------------------------------------------------

    async def _together(self, request: Request, ids: Annotated[str, Query(pattern="^[0-9,]+$", max_length=19_000)]) -> Response:
        visitor = await self._signin.visitor(request)
        return await self._show_together(request, visitor, ids)

    async def _show_together(
        self,
        request: Request,
        visitor: Visitor,
        ids: str,
        *,
        error: str = "",
        status: int = 200,
        results: list[tuple[HoldId, Outcome | Exception]] | None = None,
    ) -> Response:
        services = self._services
        pending = {h.id: h for h in await services.book.list(limit=1000)}
        holds = [pending[i] for i in _ids(ids) if i in pending]
        entries = services.policy().approvals
        wanted = [needs(entries, h.request) for h in holds]
        return self._views.page(
            request,
            "together.html",
            visitor=visitor,
            status=status,
            group=_as_one(holds),
            ids=",".join(str(h.id) for h in holds),
            texts={h.id: pieces(h.request.script, [f.span for f in h.request.findings], 2000) for h in holds},
            why_not=next((why for h in holds if (why := why_not(visitor.operator, h.request))), ""),
            approvers=max((w.approvers for w in wanted), default=1),
            second_factor=any(
                w.second_factor or services.wants_second_factor(h.request.severity) for w, h in zip(wanted, holds, strict=True)
            ),
            phrase=services.settings.approval_phrase,
            error=error,
            results=[(int(i), _told(r)) for i, r in results or []],
        )

    async def _decide_together(
        self,
        request: Request,
        ids: Annotated[str, Form(pattern="^[0-9,]+$", max_length=19_000)],
        action: Annotated[str, Form(pattern="^(approve|deny)$")],
        count: Annotated[str, Form(max_length=10)] = "",
        reason: Annotated[str, Form(max_length=4000)] = "",
        phrase: Annotated[str, Form(max_length=1000)] = "",
        code: Annotated[str, Form(max_length=20)] = "",
    ) -> Response:
        visitor = await self._signin.changing(request)
        chosen = _ids(ids)
        if action == "approve" and count.strip() != str(len(chosen)):
            why = f"to approve, type how many statements will run: {len(chosen)}"
            return await self._show_together(request, visitor, ids, error=why, status=422)
        try:
            results = await decide_together(
                self._services, visitor.operator, chosen, Answer(approve=action == "approve", reason=reason, phrase=phrase, code=code)
            )
        except DecisionRefusedError as error:
            return await self._show_together(request, visitor, ids, error=str(error), status=_STATUS.get(error.code, 422))
        return await self._show_together(request, visitor, ids, results=results)

    # --- events ------------------------------------------------------------------------------------------

    async def _events(self, request: Request) -> Response:
        visitor = await self._signin.visitor(request)
        return EventSourceResponse(self._stream(request, visitor), ping=15)

    async def _stream(self, request: Request, visitor: Visitor) -> AsyncIterator[dict[str, str | int]]:
        """That a hold changed, not how: the page asks for what it shows."""
        changes = self._services.book.changes()
        coming = asyncio.ensure_future(anext(changes))
        watch = Recheck(self._services, lambda: self._signin.visitor(request))
        try:
            # Who it is: a page that was open over a new sign-in gets what its forms need, or knows that somebody else sits there now.
            hello = {"pending": self._services.book.pending_count(), "who": visitor.operator.name, "csrf": visitor.csrf}
            yield {"event": "hello", "retry": _RETRY_MS, "data": json.dumps(hello)}
            while True:
                done, _ = await asyncio.wait({coming}, timeout=RECHECK_S)
                # A stream outlives its session otherwise: it ends, and asking for it again is refused.
                if not await watch.still_in():
                    return
                if not done:
                    continue
                hold = coming.result()
                coming = asyncio.ensure_future(anext(changes))
                told = {
                    "id": int(hold.id),
                    "state": str(hold.state),
                    "pending": self._services.book.pending_count(),
                    "by": one_line(hold.decision.operator) if hold.decision is not None else "",
                    "title": one_line(title_of(hold), 80),
                }
                yield {"event": "hold", "data": json.dumps(told)}
        finally:
            coming.cancel()


def _ids(text: str) -> list[HoldId]:
    """Each once. What no id can be is left out."""
    return [HoldId(int(part)) for part in dict.fromkeys(text.split(",")) if 0 < len(part) <= 18]


def _as_one(holds: list[Hold]) -> Group | None:
    """Those that an operator chose; with why they belong together, when they do."""
    found = group(holds)
    if len(found) == 1:
        return found[0]
    return Group(tuple(sorted(holds, key=lambda h: h.id))) if holds else None


def _is_wanted(hold: Hold, q: str, severity: str, database: str, state: str) -> bool:
    request = hold.request
    if state not in ("pending", "all", "") and hold.state != state:
        return False
    if severity and Severity[request.severity.upper()] < Severity.__members__.get(severity.upper(), Severity.LOW):
        return False
    if database and not fnmatchcase(request.requester.database, database):
        return False
    who = request.requester
    words = " ".join((request.script, who.role, who.database, who.application_name, who.client_addr, *request.rule_ids, f"#{hold.id}"))
    return all(word in words.lower() for word in q.lower().split())


def _told(result: Outcome | Exception) -> str:
    if isinstance(result, NotPendingError):
        return too_late(result)
    if isinstance(result, UnknownHoldError):
        return "there is no such hold"
    if isinstance(result, Exception):
        return str(result)
    if not result.complete:
        return f"{len(result.approvers)} of {result.needed} approvals"
    return str(result.hold.state)
