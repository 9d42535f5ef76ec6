"""Taking back, for programs: the report of what that would do, the held errand that does it, and the trash."""

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import BaseModel, Field

from proxy.approvals import decides_for
from proxy.backups.errands import ErrandError, ErrandRefusedError
from proxy.backups.model import ProtectError
from proxy.backups.undoing import Conflicts
from proxy.console.problems import ProblemError, pick
from proxy.control import ControlError
from proxy.holds_json import Json, hold_as_json, iso
from proxy.model import HoldId, Operator
from proxy.seams import UnknownHoldError
from proxy.services import Services
from proxy.store.trash import Item


class Undoing(BaseModel):
    """What asking for an undo takes."""

    reason: str = Field("", description="Why; it goes on record.", max_length=4000)
    conflicts: Conflicts = Field(Conflicts.ABORT, description="abort, skip or overwrite: what to do about what is in the way.")


class Purging(BaseModel):
    """What asking for a purge takes."""

    ids: list[Annotated[int, Field(ge=1, lt=2**63)]] = Field(description="Copies that are in the trash.", min_length=1, max_length=100)
    reason: str = Field("", description="Why; it goes on record.", max_length=4000)


def undo_routes(services: Services, operator: Callable[..., Awaitable[Operator]]) -> APIRouter:
    """/api/v1/holds/{id}/undo, /api/v1/trash."""
    router = APIRouter(prefix="/api/v1", tags=["copies"])
    Who = Annotated[Operator, Depends(operator)]
    Id = Annotated[int, Path(ge=1, lt=2**63)]

    async def check(who: Operator, hold_id: int) -> None:
        if not who.role.may_decide:
            raise ProblemError(403, "not allowed", f"the role {who.role} may not take anything back")
        try:
            hold = await services.book.get(HoldId(hold_id))
        except UnknownHoldError:
            raise ProblemError(404, "no such hold", f"there is no hold {hold_id}") from None
        if not decides_for(who, hold.request.requester.database):
            raise ProblemError(403, "not allowed", f"you do not decide for database {hold.request.requester.database}")

    @router.get("/holds/{hold_id}/undo", operation_id="reportUndo", responses=pick(401, 403, 404, 409, 503))
    async def report(who: Who, hold_id: Id, conflicts: Annotated[Conflicts, Query()] = Conflicts.ABORT) -> dict[str, object]:
        """What taking back the hold's statement would do, and what is in the way. Nothing is done."""
        await check(who, hold_id)
        try:
            return dict((await services.undo.report(HoldId(hold_id), conflicts)).as_json())
        except (ErrandError, ControlError, ProtectError) as error:
            raise _problem(error) from None

    @router.post("/holds/{hold_id}/undo", operation_id="undoHold", responses=pick(401, 403, 404, 409, 503))
    async def undo(who: Who, hold_id: Id, request: Request, body: Undoing) -> dict[str, object]:
        """Ask for it: the answer is a hold of its own, which runs once it is approved."""
        await check(who, hold_id)
        try:
            hold = await services.undo.submit(
                HoldId(hold_id), who, conflicts=body.conflicts, reason=body.reason, client_addr=address_of(request)
            )
        except (ErrandError, ControlError, ProtectError) as error:
            raise _problem(error) from None
        return dict(hold_as_json(hold))

    @router.get("/trash", operation_id="listTrash", responses=pick(401, 503))
    async def trash(who: Who) -> list[dict[str, object]]:
        """Tables that were soft-dropped, newest first."""
        return [dict(item_as_json(item)) for item in await services.trash.listed()]

    @router.post("/trash/purge", operation_id="purgeTrash", responses=pick(401, 403, 409, 503))
    async def purge(who: Who, request: Request, body: Purging) -> dict[str, object]:
        """Ask to drop them for good: the answer is a hold of its own."""
        if not who.role.may_decide:
            raise ProblemError(403, "not allowed", f"the role {who.role} may not purge anything")
        try:
            hold = await services.trash.submit_purge(body.ids, who, reason=body.reason, client_addr=address_of(request))
        except (ErrandError, ControlError) as error:
            raise _problem(error) from None
        return dict(hold_as_json(hold))

    return router


def address_of(request: Request) -> str:
    """Where the operator comes from, as HOST:PORT."""
    return f"{request.client.host}:{request.client.port}" if request.client is not None else ""


def _problem(error: ErrandError | ControlError | ProtectError) -> ProblemError:
    if isinstance(error, ErrandRefusedError):
        return ProblemError(403, "not allowed", str(error))
    if isinstance(error, ErrandError):
        return ProblemError(409, "cannot be done", str(error))
    return ProblemError(503, "failed", str(error))


def item_as_json(item: Item) -> dict[str, Json]:
    """One soft drop."""
    return {
        "id": int(item.backup_id),
        "hold_id": int(item.hold_id),
        "database": item.database,
        "state": str(item.state),
        "schema": item.move.trash,
        "tables": [f"{t.schema}.{t.name}" for t in item.move.tables],
        "rows": item.move.rows if item.move.rows >= 0 else None,
        "bytes": item.move.bytes,
        "purge_at": iso(item.purge_at),
    }
