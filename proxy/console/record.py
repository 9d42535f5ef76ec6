"""The audit log's pages: search, export, and whether its chain is whole."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from typing import Annotated, Final

from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.responses import RedirectResponse, Response, StreamingResponse

from proxy.audit.chain import Record
from proxy.audit.search import Query as Wanted
from proxy.audit.search import as_csv, search
from proxy.console.section import Section
from proxy.console.signin import require
from proxy.model import AuditEvent, Role
from proxy.services import Services

_SHOWN: Final = 100
_EXPORTED: Final = 100_000
_CHANGES_SHOWN: Final = 20
Text = Annotated[str, Query(max_length=200)]


class RecordPages(Section):
    """/audit."""

    def routes(self) -> APIRouter:
        router = APIRouter(include_in_schema=False)
        router.add_api_route("/audit", self._search, methods=["GET"])
        router.add_api_route("/audit/chain", self._chain, methods=["GET"])
        router.add_api_route("/audit/verify", self._verify, methods=["POST"])
        router.add_api_route("/audit/export", self._export, methods=["GET"])
        return router

    async def _search(
        self,
        request: Request,
        text: Text = "",
        event: Text = "",
        role: Text = "",
        database: Text = "",
        operator: Text = "",
        hold: Text = "",
        since: Text = "",
        until: Text = "",
        before: Annotated[int | None, Query(ge=1, lt=2**63)] = None,
    ) -> Response:
        visitor = await self._signin.visitor(request)
        filters = {
            "text": text, "event": event, "role": role, "database": database, "operator": operator, "hold": hold, "since": since,
            "until": until,
        }  # fmt: skip
        records: list[Record] = []
        error = ""
        try:
            wanted = _wanted(filters, before)
            records = await asyncio.to_thread(lambda: list(islice(search(self._services.audit.path, wanted), _SHOWN + 1)))
        except ValueError as problem:
            error = str(problem)
        except OSError as problem:
            error = f"the audit log cannot be read: {problem.strerror or problem}"
        return self._views.page(
            request,
            "audit.html",
            visitor=visitor,
            status=422 if error else 200,
            chain=await asyncio.to_thread(self._state),
            records=records[:_SHOWN],
            older=records[_SHOWN - 1]["seq"] if len(records) > _SHOWN else None,
            filters=filters,
            events=[str(e) for e in AuditEvent],
            error=error,
        )

    async def _chain(self, request: Request) -> Response:
        visitor = await self._signin.visitor(request)
        return self._views.page(request, "_chain.html", visitor=visitor, chain=await asyncio.to_thread(self._state))

    def _state(self) -> dict[str, object]:
        """What is known without reading the log."""
        services, care = self._services, self._services.audit_care
        last = care.verifier.last
        return {
            "records": services.audit.position[0],
            "last_hash": services.audit.position[1],
            "failing": services.audit.failing,
            "files": care.files(),
            "sinks": [feed.state for feed in care.sinks],
            "places": [feed.state for feed in care.places],
            "checkpoint": care.checkpoint,
            "key": care.key_id,
            "verified": last,
            "progress": care.verifier.progress,
            "error": care.verifier.error,
        }

    async def _verify(self, request: Request) -> Response:
        visitor = await self._signin.changing(request)
        require(visitor, Role.ADMIN, Role.AUDITOR, Role.APPROVER)
        if self._services.audit_care.verifier.progress is None:
            self._services.spawn(self._services.audit_care.verify(), "audit verification")
        return RedirectResponse("/audit", 303)

    async def _export(
        self,
        request: Request,
        format: Annotated[str, Query(pattern="^(jsonl|csv)$")] = "jsonl",
        text: Text = "",
        event: Text = "",
        role: Text = "",
        database: Text = "",
        operator: Text = "",
        hold: Text = "",
        since: Text = "",
        until: Text = "",
    ) -> Response:
        await self._signin.visitor(request)
        filters = {
            "text": text, "event": event, "role": role, "database": database, "operator": operator, "hold": hold, "since": since,
            "until": until,
        }  # fmt: skip
        try:
            wanted = _wanted(filters, None)
        except ValueError as problem:
            raise HTTPException(422, str(problem)) from None
        found = islice(search(self._services.audit.path, wanted), _EXPORTED)
        lines = as_csv(found) if format == "csv" else _as_lines(found)
        headers = {"Content-Disposition": f'attachment; filename="audit.{format}"'}
        # Starlette takes a plain iterator into a thread, so that a long file keeps nobody waiting.
        return StreamingResponse(lines, media_type="text/csv" if format == "csv" else "application/jsonl", headers=headers)


def _as_lines(records: Iterator[Record]) -> Iterator[str]:
    for record in records:
        yield json.dumps(record, ensure_ascii=False) + "\n"


def _wanted(filters: dict[str, str], before: int | None) -> Wanted:
    """Raises ValueError."""
    hold = filters["hold"].strip().removeprefix("#")
    if hold and not (hold.isascii() and hold.isdigit()):
        raise ValueError("hold: expected a number")
    return Wanted(
        text=filters["text"].strip(),
        event=filters["event"],
        role=filters["role"].strip(),
        database=filters["database"].strip(),
        operator=filters["operator"].strip(),
        hold=int(hold) if hold else None,
        since=_moment("since", filters["since"]),
        until=_moment("until", filters["until"]),
        before=before,
    )


def _moment(name: str, text: str) -> datetime | None:
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{name}: expected a time such as 2026-01-31T15:00") from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


async def policy_changes(services: Services) -> list[dict[str, str]]:
    """Who changed the policy, newest first; nothing when the log cannot be read."""
    wanted = Wanted(event=AuditEvent.POLICY_CHANGED)
    try:
        found = await asyncio.to_thread(lambda: list(islice(search(services.audit.path, wanted), _CHANGES_SHOWN)))
    except OSError:
        return []
    changes = []
    for record in found:
        detail = record.get("detail")
        diff = detail.get("diff") if isinstance(detail, dict) else ""
        changes.append({"time": str(record["at"]), "operator": str(record.get("operator") or ""), "diff": str(diff or "")})
    return changes
