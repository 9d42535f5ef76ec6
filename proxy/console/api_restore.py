"""Copies that come back, for programs: restoring one opens a hold of pghold's own, proving one again goes on in the background."""

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request
from pydantic import BaseModel, Field

from proxy.backups.errands import ErrandError, ErrandRefusedError
from proxy.backups.giveback import Wish
from proxy.backups.keeper import BusyError
from proxy.backups.model import Backup, BackupId, ProtectError
from proxy.console.problems import ProblemError, pick
from proxy.control import ControlError
from proxy.holds_json import hold_as_json
from proxy.model import Operator
from proxy.services import Services
from proxy.store.backups import UnknownBackupError


class Restoring(BaseModel):
    """How a copy comes back. Neither `into` nor `schema`: in place."""

    into: str = Field("", description="Another database; it is made when it is missing.", max_length=63)
    schema_name: str = Field("", alias="schema", description="A new schema of its own database.", max_length=63)
    tables: list[str] = Field([], description="Only these, qualified and quoted as in the copy; empty: all.", max_length=1000)
    reason: str = Field("", description="Why.", max_length=4000)


def restore_routes(services: Services, operator: Callable[..., Awaitable[Operator]]) -> APIRouter:
    """/api/v1/backups/{id}/restore, /api/v1/backups/{id}/verify."""
    router = APIRouter(prefix="/api/v1", tags=["backups"])
    Who = Annotated[Operator, Depends(operator)]

    async def decider(who: Who) -> Operator:
        if not who.role.may_decide:
            raise ProblemError(403, "not allowed", f"the role {who.role} may not do that; it takes an approver or an admin")
        return who

    Decider = Annotated[Operator, Depends(decider)]
    Id = Annotated[int, Path(ge=1, lt=2**63)]

    async def found(backup_id: int) -> Backup:
        try:
            return await services.backups.get(BackupId(backup_id))
        except UnknownBackupError:
            raise ProblemError(404, "no such backup", f"there is no backup {backup_id}") from None

    @router.post("/backups/{backup_id}/restore", operation_id="restoreBackup", status_code=202, responses=pick(401, 403, 404, 422, 503))
    async def restore(who: Decider, backup_id: Id, body: Restoring, request: Request) -> dict[str, object]:
        """Open the hold of a restore; it is carried out when it is approved, like any dangerous statement."""
        await found(backup_id)
        wish = Wish(body.into, body.schema_name, tuple(body.tables))
        address = request.client.host if request.client is not None else ""
        try:
            hold = await services.restores.submit(backup_id, wish, who, reason=body.reason, client_addr=address)
        except ErrandRefusedError as error:
            raise ProblemError(403, "not allowed", str(error)) from None
        except (ErrandError, ProtectError, ControlError) as error:
            raise ProblemError(422, "not restored", str(error)) from None
        return dict(hold_as_json(hold))

    @router.post("/backups/{backup_id}/verify", operation_id="verifyBackup", status_code=202, responses=pick(401, 403, 404, 409, 422))
    async def verify(who: Decider, backup_id: Id) -> dict[str, object]:
        """Begin to prove it again. Answers at once: the copy's `proof` is `running` until it is known."""
        backup = await found(backup_id)
        try:
            await services.keeper.verify(backup, who.name)
        except BusyError as error:
            raise ProblemError(409, "being proven", str(error)) from None
        except ProtectError as error:
            raise ProblemError(422, "not proven", str(error)) from None
        return {"backup": backup_id}

    return router
