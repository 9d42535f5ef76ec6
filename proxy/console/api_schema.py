"""The API's part about versions of schemas."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Query

from proxy.console.problems import ProblemError, pick
from proxy.model import Operator
from proxy.schema_history.as_json import compared, log, shown, version_as_json
from proxy.schema_history.store import UnknownVersionError
from proxy.services import Services

#: Of a difference, for one answer.
_LINES: Final = 50_000


def schema_routes(services: Services, operator: Callable[..., Awaitable[Operator]]) -> APIRouter:
    """/api/v1/schema…"""
    router = APIRouter(tags=["schema"])
    Who = Annotated[Operator, Depends(operator)]
    Database = Annotated[str, Query(max_length=200, description="the database; by default that of pghold's own connection")]
    Version = Annotated[int | None, Query(ge=1, lt=2**31, description="a version; by default the newest")]

    def named(database: str) -> str:
        return database or services.schemas.main_database

    @router.get("/api/v1/schema", operation_id="listSchemas", responses=pick(401, 503))
    async def list_schemas(who: Who) -> dict[str, object]:
        """The databases of which versions are kept, and what is wrong with reading them."""
        try:
            found = await asyncio.to_thread(services.schemas.store.databases)
        except OSError as error:
            raise ProblemError(503, "not read", str(error)) from None
        return {"databases": found, "main": services.schemas.main_database, "problems": services.schemas.problems}

    @router.get("/api/v1/schema/log", operation_id="schemaLog", responses=pick(401, 404, 503))
    async def schema_log(who: Who, database: Database = "", limit: Annotated[int, Query(ge=1, le=1000)] = 100) -> list[dict[str, object]]:
        """Versions, newest first."""
        try:
            found = await asyncio.to_thread(log, services.schemas.store, named(database), limit)
        except UnknownVersionError as error:
            raise ProblemError(404, "no such version", str(error)) from None
        except OSError as error:
            raise ProblemError(503, "not read", str(error)) from None
        return [version_as_json(v) for v in found]

    @router.get("/api/v1/schema/show", operation_id="showSchema", responses=pick(401, 404, 503))
    async def show_schema(who: Who, database: Database = "", version: Version = None) -> dict[str, object]:
        """One version, in full."""
        try:
            found, text = await asyncio.to_thread(shown, services.schemas.store, named(database), version)
        except UnknownVersionError as error:
            raise ProblemError(404, "no such version", str(error)) from None
        except OSError as error:
            raise ProblemError(503, "not read", str(error)) from None
        return {**version_as_json(found), "text": text}

    @router.get("/api/v1/schema/diff", operation_id="schemaDiff", responses=pick(401, 404, 503))
    async def schema_diff(who: Who, database: Database = "", before: Version = None, version: Version = None) -> dict[str, object]:
        """What changed from `before` (by default the one before it) to `version`."""
        try:
            old, new, lines, text = await asyncio.to_thread(compared, services.schemas.store, named(database), before, version)
        except UnknownVersionError as error:
            raise ProblemError(404, "no such version", str(error)) from None
        except OSError as error:
            raise ProblemError(503, "not read", str(error)) from None
        return {"from": version_as_json(old), "to": version_as_json(new), "summary": list(lines), "diff": text[:_LINES]}

    @router.post("/api/v1/schema/accept", operation_id="acceptDrift", responses=pick(401, 403, 503))
    async def accept_drift(who: Who) -> dict[str, int]:
        """Drift is on purpose."""
        if not who.role.may_administer:
            raise ProblemError(403, "not allowed", f"the role {who.role} may not do that; it takes an admin")
        try:
            return {"accepted": await services.schemas.accept(who.name)}
        except OSError as error:
            raise ProblemError(503, "not written", str(error)) from None

    return router
