"""The register of the trash: which tables went where, and how they come back. Beside it, each has its line in the register of copies."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum

from pydantic import TypeAdapter
from sqlalchemy import Row, desc, insert, select, update

from proxy.backups.model import BackupId
from proxy.backups.softdrop import Move
from proxy.model import HoldId
from proxy.store import Store
from proxy.store.schema import trash

_MOVE = TypeAdapter(Move)


class TrashState(StrEnum):
    """planned: it is not known yet whether the statement moved them. kept: they are there. back: taken back. purged: dropped for good.
    void: the statement failed, or its transaction was rolled back."""

    PLANNED = "planned"
    KEPT = "kept"
    BACK = "back"
    PURGED = "purged"
    VOID = "void"


@dataclass(frozen=True, slots=True)
class Item:
    """One soft drop.

    Attributes:
        backup_id: of its line in the register of copies.
        purge_at: from when on it may be dropped for good, if somebody approves.
    """

    backup_id: BackupId
    hold_id: HoldId
    database: str
    state: TrashState
    move: Move
    purge_at: datetime


class SqlTrash:
    """Every method raises StoreError."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def add(self, item: Item) -> None:
        async with self._store.transaction() as connection:
            await connection.execute(
                insert(trash).values(
                    backup_id=item.backup_id,
                    hold_id=item.hold_id,
                    database=item.database,
                    state=str(item.state),
                    move=json.dumps(asdict(item.move)),
                    purge_at=item.purge_at.isoformat(),
                )
            )

    async def put(self, item: Item, state: TrashState) -> bool:
        """Compare-and-set from the item's state; False when it is elsewhere by now."""
        async with self._store.transaction() as connection:
            done = await connection.execute(
                update(trash).where(trash.c.backup_id == item.backup_id, trash.c.state == str(item.state)).values(state=str(state))
            )
        return done.rowcount == 1

    async def find(self, *, states: Iterable[TrashState] = (), hold_id: HoldId | None = None, backup_ids: Iterable[int] = ()) -> list[Item]:
        """Newest first; what is not given is not asked for."""
        wanted = select(trash).order_by(desc(trash.c.backup_id))
        if named := [str(s) for s in states]:
            wanted = wanted.where(trash.c.state.in_(named))
        if hold_id is not None:
            wanted = wanted.where(trash.c.hold_id == hold_id)
        if ids := list(backup_ids):
            wanted = wanted.where(trash.c.backup_id.in_(ids))
        async with self._store.transaction() as connection:
            return [_of(row) for row in (await connection.execute(wanted)).all()]


def _of(row: Row[tuple[str, ...]]) -> Item:
    values = row._mapping
    return Item(
        backup_id=BackupId(values["backup_id"]),
        hold_id=HoldId(values["hold_id"]),
        database=values["database"],
        state=TrashState(values["state"]),
        move=_MOVE.validate_json(values["move"]),
        purge_at=datetime.fromisoformat(values["purge_at"]),
    )
