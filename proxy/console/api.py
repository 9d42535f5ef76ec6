"""The HTTP API: what an operator can do, for programs. The command line is its client.

Authentication is a bearer token; cookies are not looked at, so no cross-site requests. Only /healthz, /readyz and /metrics need none.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException, Path, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, Field
from sse_starlette import EventSourceResponse

from proxy.backups.outlook import outlook_as_json
from proxy.console.api_backups import backup_routes
from proxy.console.api_people import operator_problem, people_routes
from proxy.console.api_restore import restore_routes
from proxy.console.api_review import review_routes
from proxy.console.api_schema import schema_routes
from proxy.console.api_undo import undo_routes
from proxy.console.notices import notices_as_json
from proxy.console.problems import ProblemError, pick
from proxy.console.recheck import RECHECK_S, Recheck
from proxy.decide import Answer, DecisionRefusedError, Outcome, decide, revoke, too_late
from proxy.errors import ConfigError
from proxy.grants import UnknownGrantError
from proxy.health.as_json import report_as_json, states_as_json
from proxy.holds_json import Json, grant_as_json, hold_as_json, iso
from proxy.model import HoldId, HoldState, Operator, SessionId
from proxy.operators import OperatorError
from proxy.seams import AuditError, NotPendingError, StoreError, UnknownHoldError
from proxy.services import Services


class Approval(BaseModel):
    """What approving takes."""

    phrase: str = Field(description="The approval phrase, typed.", max_length=1000)
    reason: str = Field(description="Why the statement may run.", max_length=4000)
    code: str = Field("", description="Of the operator's TOTP device, where one is needed.", max_length=20)
    object_name: str | None = Field(None, description="The name of what is lost, to be checked against the hold's.", max_length=1000)
    break_glass: bool = Field(False, description="Alone, where several people are needed; loud.")
    without_backup: bool = Field(False, description="Without a copy of what would be lost; takes a permission of its own.")
    session_grant_s: float = Field(0, ge=0, le=86400, description="Let the same rules pass in that session for so many seconds.")


class Denial(BaseModel):
    """What denying takes."""

    reason: str = Field(description="Why it may not run; the client is told.", max_length=4000)
    suggestion: str = Field("", description="The statement to send instead; the client is told.", max_length=20_000)


def make_api(services: Services) -> FastAPI:
    """The application with the API's routes; pages.py and others add theirs."""
    api = FastAPI(
        title="pghold",
        description="Statements that wait for a person: see them, decide on them.",
        version="1",
        openapi_url="/api/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
    )
    _add_errors(api)
    bearer = HTTPBearer(auto_error=False, description="An operator's token.")

    async def operator(credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]) -> Operator:
        found = await services.operators.by_token(credentials.credentials) if credentials else None
        if found is None:
            raise ProblemError(401, "not signed in", "send a known operator's token as: Authorization: Bearer TOKEN")
        return found

    async def admin(who: Annotated[Operator, Depends(operator)]) -> Operator:
        if not who.role.may_administer:
            raise ProblemError(403, "not allowed", f"the role {who.role} may not do that; it takes an admin")
        return who

    Who = Annotated[Operator, Depends(operator)]
    Admin = Annotated[Operator, Depends(admin)]
    Id = Annotated[int, Path(ge=1, lt=2**63)]

    # --- holds --------------------------------------------------------------------------------------------------

    @api.get("/api/v1/holds", operation_id="listHolds", tags=["holds"], responses=pick(401, 503))
    async def list_holds(
        who: Who,
        state: Annotated[str, Query(pattern="^(pending|all)$", description="pending or all")] = "pending",
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        before: Annotated[int | None, Query(ge=1, lt=2**63, description="only holds with a smaller id")] = None,
    ) -> list[dict[str, object]]:
        """Holds, newest first."""
        found = await services.book.list(
            pending_only=state == "pending", limit=limit, before=HoldId(before) if before is not None else None
        )
        return [dict(hold_as_json(hold)) for hold in found]

    @api.get("/api/v1/holds/{hold_id}", operation_id="getHold", tags=["holds"], responses=pick(401, 404, 503))
    async def get_hold(who: Who, hold_id: Id) -> dict[str, object]:
        """One hold."""
        try:
            hold = await services.book.get(HoldId(hold_id))
            return {**hold_as_json(hold), "backup_outlook": await outlook_as_json(services.forecast, hold)}
        except UnknownHoldError:
            raise ProblemError(404, "no such hold", f"there is no hold {hold_id}") from None

    async def settle(who: Operator, hold_id: int, answer: Answer) -> dict[str, object]:
        try:
            return _outcome_as_json(await decide(services, who, HoldId(hold_id), answer))
        except UnknownHoldError:
            raise ProblemError(404, "no such hold", f"there is no hold {hold_id}") from None
        except DecisionRefusedError as error:
            raise ProblemError(403 if error.code == "forbidden" else 422, "not decided", str(error)) from None
        except NotPendingError as error:
            raise ProblemError(409, "no longer pending", too_late(error), hold_as_json(error.hold)) from None
        except AuditError as error:
            raise ProblemError(503, "not recorded", f"not decided: {error}") from None

    @api.post("/api/v1/holds/{hold_id}/approve", operation_id="approveHold", tags=["holds"], responses=pick(401, 403, 404, 409, 422, 503))
    async def approve_hold(who: Who, hold_id: Id, body: Approval) -> dict[str, object]:
        """Let the statement run, once. Where several people are needed, the hold stays pending until the last of them.

        A hold that expired, whose client left, or whose client did not wait can be approved as well: it then runs when the same
        identity sends the same statement again.
        """
        answer = Answer(
            approve=True,
            reason=body.reason,
            phrase=body.phrase,
            code=body.code,
            object_name=body.object_name,
            break_glass=body.break_glass,
            without_backup=body.without_backup,
            session_grant_s=body.session_grant_s,
        )
        return await settle(who, hold_id, answer)

    @api.post("/api/v1/holds/{hold_id}/deny", operation_id="denyHold", tags=["holds"], responses=pick(401, 403, 404, 409, 422, 503))
    async def deny_hold(who: Who, hold_id: Id, body: Denial) -> dict[str, object]:
        """Refuse the statement; the client gets an error with the reason."""
        return await settle(who, hold_id, Answer(approve=False, reason=body.reason, suggestion=body.suggestion))

    @api.get("/api/v1/events", operation_id="events", tags=["holds"], responses=pick(401))
    async def events(who: Who, credentials: Annotated[HTTPAuthorizationCredentials, Depends(bearer)]) -> EventSourceResponse:
        """Each hold as it is opened or changes, as server-sent events: the event's name is the state, its data the hold."""
        watch = Recheck(services, lambda: operator(credentials))
        return EventSourceResponse(_stream(services, watch), ping=15)

    # --- grants -------------------------------------------------------------------------------------------------

    @api.get("/api/v1/grants", operation_id="listGrants", tags=["grants"], responses=pick(401, 503))
    async def list_grants(who: Who) -> list[dict[str, object]]:
        """Decisions taken ahead that can still be used: retries, and those for a session."""
        return [dict(grant_as_json(grant)) for grant in await services.grants.open_ones()]

    @api.delete(
        "/api/v1/grants/{grant_id}", operation_id="revokeGrant", tags=["grants"], status_code=204, responses=pick(401, 403, 404, 503)
    )
    async def revoke_grant(who: Who, grant_id: Id) -> Response:
        """Take it back; what ran by it, ran."""
        try:
            await revoke(services, who, grant_id)
        except DecisionRefusedError as error:
            raise ProblemError(403, "not allowed", str(error)) from None
        except UnknownGrantError:
            raise ProblemError(404, "no such grant", f"there is no open grant {grant_id}") from None
        return Response(status_code=204)

    api.include_router(review_routes(services, operator))
    api.include_router(people_routes(services, operator))
    api.include_router(schema_routes(services, operator))
    api.include_router(backup_routes(services, operator))
    api.include_router(undo_routes(services, operator))
    api.include_router(restore_routes(services, operator))

    # --- sessions and the proxy itself --------------------------------------------------------------------------

    @api.get("/api/v1/sessions", operation_id="listSessions", tags=["sessions"], responses=pick(401))
    async def list_sessions(who: Who) -> list[dict[str, object]]:
        """Sessions that are open."""
        return [
            {
                "id": int(s.id),
                "role": s.requester.role,
                "database": s.requester.database,
                "application_name": s.requester.application_name,
                "client_addr": s.requester.client_addr,
                "started_at": iso(s.started_at),
                "state": s.state,
                "hold_id": s.hold_id,
                "tls": s.tls,
                "bytes_from_frontend": s.bytes_from_frontend,
                "bytes_from_backend": s.bytes_from_backend,
            }
            for s in services.sessions.list()
        ]

    @api.delete(
        "/api/v1/sessions/{session_id}", operation_id="killSession", tags=["sessions"], status_code=204, responses=pick(401, 403, 404)
    )
    async def kill_session(who: Admin, session_id: Id) -> Response:
        """End a session; what it holds is withdrawn."""
        if not services.sessions.kill(SessionId(session_id), who.name):
            raise ProblemError(404, "no such session", f"there is no session {session_id}")
        return Response(status_code=204)

    @api.post("/api/v1/reload", operation_id="reload", tags=["proxy"], responses=pick(401, 403, 422))
    async def reload(who: Admin) -> dict[str, str]:
        """Read policy and certificates again; on an error everything stays as it was."""
        try:
            return {"reloaded": await services.reload(who.name)}
        except ConfigError as error:
            raise ProblemError(422, "not reloaded", str(error)) from None

    @api.get("/api/v1/notifications", operation_id="listNotifications", tags=["proxy"], responses=pick(401, 403))
    async def notifications(who: Admin) -> dict[str, object]:
        """The routes that people are told by, and the messages that could not be delivered."""
        return notices_as_json(services)

    @api.post("/api/v1/notifications/test", operation_id="testNotifications", tags=["proxy"], responses=pick(401, 403, 404))
    async def test_notifications(
        who: Admin, route: Annotated[str, Query(max_length=60, description="only this one")] = ""
    ) -> list[dict[str, object]]:
        """Send a test message by every route, one try each; says which arrived."""
        results = await services.notifier.test(who.name, route)
        if route and not results:
            raise ProblemError(404, "no such route", f"there is no route {route}")
        return [{"route": r.route, "arrived": r.arrived, "problem": r.problem} for r in results]

    @api.get("/api/v1/health", operation_id="getHealth", tags=["proxy"], responses=pick(401))
    async def get_health(who: Who) -> dict[str, object]:
        """The checks of the last round, ways around the proxy, and how to mend both."""
        return report_as_json(services.health.report)

    @api.post("/api/v1/health/accept", operation_id="acceptMissing", tags=["proxy"], responses=pick(401, 403, 503))
    async def accept_missing(who: Admin) -> dict[str, int]:
        """Tables and databases that are missed are gone on purpose."""
        return {"accepted": await services.health.accept(who.name)}

    @api.get("/metrics", operation_id="metrics", tags=["proxy"], response_class=PlainTextResponse)
    async def metrics() -> Response:
        """For Prometheus."""
        return Response(services.metrics.render(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @api.get("/healthz", operation_id="healthz", tags=["proxy"])
    async def healthz() -> dict[str, str]:
        """The process works."""
        return {"status": "ok"}

    @api.get("/readyz", operation_id="readyz", tags=["proxy"], responses={503: {"description": "Not ready; says why."}})
    async def readyz() -> JSONResponse:
        """The server can be reached, and decisions can be stored and recorded."""
        problems = await services.problems()
        warnings = [*await asyncio.to_thread(services.audit_care.warnings), *services.keeper.warnings()]
        # The checks are detail: that a copy is old is no reason to take the proxy away from its clients.
        told = {"ready": not problems, "problems": problems, "warnings": warnings, "checks": states_as_json(services.health.report)}
        return JSONResponse(told, 200 if not problems else 503)

    return api


def _add_errors(api: FastAPI) -> None:
    @api.exception_handler(ProblemError)
    async def problem(request: Request, error: ProblemError) -> JSONResponse:
        body: dict[str, Json] = {"title": error.title, "status": error.status_code, "detail": str(error.detail)}
        if error.hold is not None:
            body["hold"] = error.hold
        headers = {"WWW-Authenticate": "Bearer"} if error.status_code == 401 else None
        return JSONResponse(body, error.status_code, headers, media_type="application/problem+json")

    @api.exception_handler(StoreError)
    async def store_failed(request: Request, error: StoreError) -> JSONResponse:
        return await problem(request, ProblemError(503, "store failed", str(error)))

    @api.exception_handler(OperatorError)
    async def operator_error(request: Request, error: OperatorError) -> JSONResponse:
        return await problem(request, operator_problem(error))

    @api.exception_handler(AuditError)
    async def not_recorded(request: Request, error: AuditError) -> JSONResponse:
        return await problem(request, ProblemError(503, "not recorded", f"nothing was done: {error}"))

    @api.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(p) for p in first["loc"])
        return await problem(request, ProblemError(422, "invalid request", f"{where}: {first['msg']}"))

    @api.exception_handler(HTTPException)
    async def plain(request: Request, error: HTTPException) -> JSONResponse:
        return await problem(request, ProblemError(error.status_code, "error", str(error.detail)))


def _outcome_as_json(outcome: Outcome) -> dict[str, object]:
    """The hold, and who approved so far."""
    told: dict[str, object] = dict(hold_as_json(outcome.hold))
    told["approvers"] = list(outcome.approvers)
    told["approvers_needed"] = outcome.needed
    told["retry"] = outcome.retry
    return told


async def _stream(services: Services, watch: Recheck) -> AsyncIterator[dict[str, str]]:
    # What waits already comes first, so that a client that connects late misses nothing.
    changes = services.book.changes()
    coming = asyncio.ensure_future(anext(changes))
    try:
        for hold in reversed(await services.book.list(limit=1000)):
            yield {"event": str(HoldState.PENDING), "id": str(hold.id), "data": json.dumps(hold_as_json(hold))}
        while True:
            done, _ = await asyncio.wait({coming}, timeout=RECHECK_S)
            if not await watch.still_in():
                return
            if not done:
                continue
            hold = coming.result()
            coming = asyncio.ensure_future(anext(changes))
            yield {"event": str(hold.state), "id": str(hold.id), "data": json.dumps(hold_as_json(hold))}
    finally:
        coming.cancel()
