"""The set of copies, for programs: which there are, how well each database is covered, taking one now, removing what is due."""

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query
from pydantic import BaseModel, Field

from proxy.backups.as_json import backup_as_json
from proxy.backups.commands import back_again
from proxy.backups.keeper import BusyError
from proxy.backups.model import BackupId, BackupState, ProtectError
from proxy.backups.overview import overview, overview_as_json
from proxy.console.problems import ProblemError, pick
from proxy.control import ControlError
from proxy.model import HoldId, Operator
from proxy.services import Services
from proxy.store.backups import UnknownBackupError


class Taking(BaseModel):
    """Which database is copied now."""

    database: str = Field("", description="Empty: each of those on schedule.", max_length=200)


class Pruning(BaseModel):
    """Whether it is meant."""

    dry_run: bool = Field(False, description="Only say what would go.")


def backup_routes(services: Services, operator: Callable[..., Awaitable[Operator]]) -> APIRouter:
    """/api/v1/backups, /api/v1/backups/{id}, /api/v1/keeping, /api/v1/keeping/prune."""
    router = APIRouter(prefix="/api/v1", tags=["backups"])
    Who = Annotated[Operator, Depends(operator)]

    async def admin(who: Who) -> Operator:
        if not who.role.may_administer:
            raise ProblemError(403, "not allowed", f"the role {who.role} may not do that; it takes an admin")
        return who

    Admin = Annotated[Operator, Depends(admin)]

    @router.get("/backups", operation_id="listBackups", responses=pick(401, 503))
    async def list_backups(
        who: Who,
        database: Annotated[str | None, Query(max_length=200)] = None,
        hold: Annotated[int | None, Query(ge=1, lt=2**63)] = None,
        state: Annotated[str, Query(pattern="^(running|done|failed|removed|all)$")] = "all",
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        before: Annotated[int | None, Query(ge=1, lt=2**63, description="only copies with a smaller id")] = None,
    ) -> list[dict[str, object]]:
        """Copies, newest first, without their tables."""
        found = await services.backups.find(
            database=database,
            hold_id=None if hold is None else HoldId(hold),
            states=[] if state == "all" else [BackupState(state)],
            limit=limit,
            before=None if before is None else BackupId(before),
        )
        return [dict(backup_as_json(b)) for b in found]

    @router.get("/backups/{backup_id}", operation_id="getBackup", responses=pick(401, 404, 503))
    async def get_backup(who: Who, backup_id: Annotated[int, Path(ge=1, lt=2**63)]) -> dict[str, object]:
        """One copy: its tables, its manifest where the files are, and what to type to bring it back."""
        try:
            backup = await services.backups.get(BackupId(backup_id))
        except UnknownBackupError:
            raise ProblemError(404, "no such backup", f"there is no backup {backup_id}") from None
        manifest, problem = await services.keeper.manifest(backup)
        return {
            **backup_as_json(backup, tables=True),
            "manifest": manifest,
            "manifest_problem": problem,
            "commands": [{"what": c.what, "command": c.command} for c in back_again(backup)],
        }

    @router.post("/backups", operation_id="takeBackup", status_code=202, responses=pick(401, 403, 409, 422, 503))
    async def take(who: Admin, body: Taking) -> dict[str, object]:
        """Begin a full copy now. Answers at once: the list shows how far it is."""
        newest = await services.backups.find(limit=1, with_tables=False)
        try:
            begun = await services.keeper.take(body.database, who.name)
        except BusyError as error:
            raise ProblemError(409, "being made", str(error)) from None
        except (ProtectError, ControlError) as error:
            raise ProblemError(503, "not taken", str(error)) from None
        return {"databases": begun, "after": int(newest[0].id) if newest else 0}

    @router.get("/keeping", operation_id="backupStatus", responses=pick(401, 503))
    async def keeping(who: Who) -> dict[str, object]:
        """How well each database is covered, the disk, the schedule, and what is wrong."""
        return overview_as_json(await overview(services.keeper, services.settings))

    @router.post("/keeping/prune", operation_id="pruneBackups", responses=pick(401, 403, 503))
    async def prune(who: Admin, body: Pruning) -> list[dict[str, object]]:
        """Remove the copies that are past their limits; each is on record first."""
        removed = await services.keeper.prune(who.name, dry_run=body.dry_run)
        return [{**backup_as_json(r.backup), "why": r.why} for r in removed]

    return router
