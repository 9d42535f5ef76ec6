"""Pages about the schema: its versions, and what changed between two."""

from __future__ import annotations

import asyncio
from typing import Annotated, Final

from fastapi import APIRouter, Query, Request
from fastapi.responses import RedirectResponse, Response
from starlette.exceptions import HTTPException

from proxy.console.section import Section
from proxy.console.signin import require
from proxy.model import Role
from proxy.schema_history.as_json import compared, log
from proxy.schema_history.store import UnknownVersionError

_VERSIONS_SHOWN: Final = 200
_LINES_SHOWN: Final = 5000


class SchemaPages(Section):
    """/schema…"""

    def routes(self) -> APIRouter:
        router = APIRouter(include_in_schema=False)
        router.add_api_route("/schema", self._log, methods=["GET"])
        router.add_api_route("/schema/diff", self._diff, methods=["GET"])
        router.add_api_route("/schema/accept", self._accept, methods=["POST"])
        return router

    async def _log(self, request: Request, database: Annotated[str, Query(max_length=200)] = "") -> Response:
        visitor = await self._signin.visitor(request)
        schemas = self._services.schemas
        name = database or schemas.main_database
        problem = schemas.problems.get(name, "")
        try:
            databases = await asyncio.to_thread(schemas.store.databases)
            found = await asyncio.to_thread(log, schemas.store, name)
        except UnknownVersionError:
            found = []
        except OSError as error:
            databases, found, problem = [], [], str(error)
        return self._views.page(
            request,
            "schema.html",
            visitor=visitor,
            database=name,
            databases=sorted({*databases, name}),
            versions=found[:_VERSIONS_SHOWN],
            total=len(found),
            problem=problem,
            drifted=name in schemas.drift,
            kept=self._services.settings.schema_history,
        )

    async def _diff(
        self,
        request: Request,
        database: Annotated[str, Query(max_length=200)] = "",
        before: Annotated[int | None, Query(ge=1, lt=2**31)] = None,
        version: Annotated[int | None, Query(ge=1, lt=2**31)] = None,
    ) -> Response:
        visitor = await self._signin.visitor(request)
        schemas = self._services.schemas
        name = database or schemas.main_database
        try:
            old, new, lines, text = await asyncio.to_thread(compared, schemas.store, name, before, version)
        except UnknownVersionError as error:
            raise HTTPException(404, str(error)) from None
        except OSError as error:
            raise HTTPException(503, str(error)) from None
        return self._views.page(
            request,
            "schema_diff.html",
            visitor=visitor,
            database=name,
            old=old,
            new=new,
            summary=lines,
            lines=[(_kind(line), line) for line in text[:_LINES_SHOWN]],
            left_out=max(0, len(text) - _LINES_SHOWN),
        )

    async def _accept(self, request: Request) -> Response:
        visitor = await self._signin.changing(request)
        require(visitor, Role.ADMIN)
        await self._services.schemas.accept(visitor.operator.name)
        return RedirectResponse("/schema", 303)


def _kind(line: str) -> str:
    if line.startswith(("+++", "---", "@@")):
        return "quiet"
    return {"+": "added", "-": "removed"}.get(line[:1], "same")
