"""The console's pages about copies: all of them, one of them, and what an operator does about them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, Any, Final

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import RedirectResponse, Response

from proxy.backups.commands import back_again
from proxy.backups.errands import ErrandError, ErrandRefusedError
from proxy.backups.giveback import Wish
from proxy.backups.keeper import BusyError, words_of
from proxy.backups.manifests import files_of
from proxy.backups.model import Backup, BackupId, BackupState, CopyKind, Proof, ProtectError
from proxy.backups.overview import Overview, overview
from proxy.backups.reproof import PROVABLE
from proxy.console.api_undo import address_of
from proxy.console.section import Section
from proxy.console.signin import NotAllowedError, require
from proxy.control import ControlError
from proxy.model import Role
from proxy.sight_words import size

_SHOWN: Final = 100
_MANIFEST_CHARACTERS: Final = 200_000
_STATES: Final = {
    "kept": (BackupState.RUNNING, BackupState.DONE),
    "unproven": (BackupState.DONE,),
    "failed": (BackupState.FAILED,),
    "all": (),
}
_KINDS: Final = {
    CopyKind.FULL: "copy of the whole database",
    CopyKind.DUMP: "archive",
    CopyKind.ROWS: "rows as they were,",
    CopyKind.TRASH: "table in the trash",
    CopyKind.NONE: "nothing",
}


@dataclass(frozen=True, slots=True)
class Disk:
    """A bar, in percent of the disk; `text` says the same."""

    copies: float
    used: float
    reserve_from: float
    text: str


class BackupPages(Section):
    """Everything under /backups."""

    def routes(self) -> APIRouter:
        router = APIRouter(include_in_schema=False)
        router.add_api_route("/backups", self._list, methods=["GET"])
        router.add_api_route("/backups/take", self._take, methods=["POST"])
        router.add_api_route("/backups/{backup_id:int}", self._one, methods=["GET"])
        router.add_api_route("/backups/{backup_id:int}/verify", self._verify, methods=["POST"])
        router.add_api_route("/backups/{backup_id:int}/restore", self._restore, methods=["POST"])
        return router

    async def _list(
        self,
        request: Request,
        database: Annotated[str, Query(max_length=200)] = "",
        kind: Annotated[str, Query(max_length=20)] = "",
        state: Annotated[str, Query(max_length=20)] = "kept",
        before: Annotated[str, Query(pattern=r"^\d{0,18}$")] = "",
    ) -> Response:
        return await self._show_list(request, database, kind, state, before)

    async def _show_list(
        self,
        request: Request,
        database: str = "",
        kind: str = "",
        state: str = "kept",
        before: str = "",
        *,
        error: str = "",
        status: int = 200,
    ) -> Response:
        visitor, services = await self._signin.visitor(request), self._services
        state = state if state in _STATES else "kept"
        kind = kind if kind in set(CopyKind) else ""
        found = await services.backups.find(
            database=database or None,
            kinds=[CopyKind(kind)] if kind else [],
            states=_STATES[state],
            before=BackupId(int(before)) if before else None,
            limit=_SHOWN + 1,
        )
        shown = found[:_SHOWN]
        whole = await overview(services.keeper, services.settings)
        return self._views.page(
            request,
            "backups.html",
            visitor=visitor,
            status=status,
            copies=[b for b in shown if state != "unproven" or b.proof is not Proof.EQUAL],
            older=int(shown[-1].id) if len(found) > _SHOWN else 0,
            before=before,
            whole=whole,
            disk=_disk(whole),
            words_of=words_of,
            admin=visitor.operator.role.may_administer,
            filters={"database": database, "kind": kind, "state": state},
            error=error,
        )

    async def _one(self, request: Request, backup_id: int) -> Response:
        return await self._show_one(request, BackupId(backup_id))

    async def _show_one(self, request: Request, backup_id: BackupId, *, error: str = "", status: int = 200) -> Response:
        visitor = await self._signin.visitor(request)
        backup = await self._services.backups.get(backup_id)
        manifest, problem = await self._services.keeper.manifest(backup)
        return self._views.page(
            request,
            "backup.html",
            visitor=visitor,
            status=status,
            b=backup,
            kind=_KINDS[backup.kind],
            words_of=words_of,
            commands=back_again(backup),
            files=files_of(manifest),
            manifest=_text(manifest),
            manifest_problem=problem,
            may_decide=visitor.operator.role.may_decide,
            provable=_is_provable(backup),
            error=error,
        )

    async def _take(self, request: Request, database: Annotated[str, Form(max_length=200)] = "") -> Response:
        visitor = await self._signin.changing(request)
        require(visitor, Role.ADMIN)
        try:
            await self._services.keeper.take(database, visitor.operator.name)
        except BusyError as error:
            return await self._show_list(request, error=str(error), status=409)
        except (ProtectError, ControlError) as error:
            return await self._show_list(request, error=str(error), status=503)
        return RedirectResponse("/backups", 303)

    async def _verify(self, request: Request, backup_id: int) -> Response:
        visitor = await self._signin.changing(request)
        if not visitor.operator.role.may_decide:
            raise NotAllowedError(f"the role {visitor.operator.role} may not do that")
        backup = await self._services.backups.get(BackupId(backup_id))
        try:
            await self._services.keeper.verify(backup, visitor.operator.name)
        except BusyError as error:
            return await self._show_one(request, backup.id, error=str(error), status=409)
        except ProtectError as error:
            return await self._show_one(request, backup.id, error=str(error), status=422)
        return RedirectResponse(f"/backups/{backup_id}", 303)

    async def _restore(
        self,
        request: Request,
        backup_id: int,
        how: Annotated[str, Form(pattern="^(place|into|schema)$")],
        name: Annotated[str, Form(max_length=63)] = "",
        reason: Annotated[str, Form(max_length=4000)] = "",
    ) -> Response:
        """Opens a hold, which somebody has to approve."""
        visitor = await self._signin.changing(request)
        if not visitor.operator.role.may_decide:
            raise NotAllowedError(f"the role {visitor.operator.role} may not do that")
        backup = await self._services.backups.get(BackupId(backup_id))
        if how != "place" and not name.strip():
            return await self._show_one(request, backup.id, error="give the name of the database, or of the new schema", status=422)
        wish = Wish(name.strip() if how == "into" else "", name.strip() if how == "schema" else "", ())
        try:
            hold = await self._services.restores.submit(backup_id, wish, visitor.operator, reason=reason, client_addr=address_of(request))
        except ErrandRefusedError as error:
            raise NotAllowedError(str(error)) from None
        except (ErrandError, ProtectError, ControlError) as error:
            return await self._show_one(request, backup.id, error=str(error), status=422)
        return RedirectResponse(f"/holds/{hold.id}", 303)


def _is_provable(backup: Backup) -> bool:
    return backup.state is BackupState.DONE and backup.kind in PROVABLE


def _text(manifest: dict[str, Any] | None) -> str:  # any: JSON
    return "" if manifest is None else json.dumps(manifest, indent=2, ensure_ascii=False, default=str)[:_MANIFEST_CHARACTERS]


def _disk(whole: Overview) -> Disk | None:
    total = whole.disk_bytes
    if not total:
        return None

    def percent(count: int) -> float:
        return round(min(100.0, max(0.0, 100 * count / total)), 2)

    text = f"Copies take {size(whole.kept_bytes)}; {size(whole.free_bytes)} of {size(total)} are free, {size(whole.reserve_bytes)} must stay so."
    return Disk(percent(whole.kept_bytes), percent(total - whole.free_bytes), percent(total - whole.reserve_bytes), text)
