"""What sessions ask of those that protect, and those of each other."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Final, Protocol

from proxy.backups.model import Copied, CopyKind, CopyOrder, CopyPlan, ProtectError

#: Told while a copy is made: how far it is, for people; empty when there is nothing to tell.
OnProgress = Callable[[str], None]


class Protector(Protocol):
    """Plans and takes the copy of what an approved statement destroys."""

    async def plan(self, order: CopyOrder) -> CopyPlan:
        """How. Raises ProtectError."""
        ...

    async def copy(self, order: CopyOrder, plan: CopyPlan, rows: AsyncIterator[bytes] | None, progress: OnProgress) -> Copied:
        """Take it, keep it, prove it; return when the statement may run. Cancelling stops it and removes what there is.

        `rows`, of CopyKind.ROWS: what COPY (image) TO STDOUT gave, in text format, in pieces of any size (sql-copy.html). Raises ProtectError.
        """
        ...

    async def ended(self, order: CopyOrder, copied: Copied, outcome: str, failed: bool) -> None:
        """What became of the statement afterwards: its CommandComplete tags, or its SQLSTATE."""
        ...


class Unprotected:
    """Nothing is copied: the settings say so."""

    PLAN: Final = CopyPlan(CopyKind.NONE, "copies are switched off")

    async def plan(self, order: CopyOrder) -> CopyPlan:
        return self.PLAN

    async def copy(self, order: CopyOrder, plan: CopyPlan, rows: AsyncIterator[bytes] | None, progress: OnProgress) -> Copied:
        raise ProtectError("copies are switched off")

    async def ended(self, order: CopyOrder, copied: Copied, outcome: str, failed: bool) -> None:
        return
