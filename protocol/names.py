"""What the names of prepared statements and portals mean, while some of the messages that name them are in flight.

The frontend names things ahead of the backend: it may send Parse, Bind and Execute before the backend has read the first
of them, and after an error the backend skips to Sync, so that a Parse that was sent never took place. A name therefore
has one confirmed meaning, and a list of meanings that are on their way. What a later message can mean by that name is
every meaning that may still be true when the backend reads that message:

- A meaning assigned earlier in the *same series* (since the last Sync) is certain: had it failed, the backend would skip
  the later message as well. It hides all older ones.
- A meaning assigned in an earlier series, and not yet confirmed, may or may not have come about: both it and what it
  replaced are possible.

SQL's PREPARE, DEALLOCATE, DECLARE and CLOSE work on the same names as Parse, Bind and Close; a script of a Query is its
own series, because its failure skips nothing that is sent behind it (`UNCERTAIN`).

The backend keeps both kinds of names in hash tables whose keys are NAMEDATALEN bytes, so names are cut to 63 bytes.
"""

from __future__ import annotations

from typing import Final, Generic, TypeVar

Meaning = TypeVar("Meaning")

#: The series of an assignment whose failure would not make the backend skip what follows it.
UNCERTAIN: Final = -1

#: NAMEDATALEN - 1: longer names are cut by the backend.
NAME_LIMIT_BYTES: Final = 63


class Names(Generic[Meaning]):
    """One namespace. `None` as a meaning says that the name is free (closed)."""

    __slots__ = ("_confirmed", "_pending")

    def __init__(self) -> None:
        self._confirmed: dict[bytes, Meaning] = {}
        self._pending: dict[bytes, list[tuple[int, Meaning | None]]] = {}

    def __len__(self) -> int:
        return len(self._confirmed)

    def assign(self, name: bytes, meaning: Meaning | None, series: int) -> None:
        """A message that gives the name this meaning was sent."""
        self._pending.setdefault(name[:NAME_LIMIT_BYTES], []).append((series, meaning))

    def confirm(self, name: bytes) -> None:
        """The backend confirmed the oldest assignment of the name that is in flight."""
        meaning = self._take(name)
        if meaning is None:
            self._confirmed.pop(name[:NAME_LIMIT_BYTES], None)
        else:
            self._confirmed[name[:NAME_LIMIT_BYTES]] = meaning

    def drop(self, name: bytes) -> None:
        """The oldest assignment of the name that is in flight failed, or was skipped."""
        self._take(name)

    def _take(self, name: bytes) -> Meaning | None:
        name = name[:NAME_LIMIT_BYTES]
        pending = self._pending[name]
        meaning = pending.pop(0)[1]
        if not pending:
            del self._pending[name]
        return meaning

    def settled(self, name: bytes) -> Meaning | None:
        """The confirmed meaning, if nothing is in flight for the name; a cheap first look."""
        if self._pending and name[:NAME_LIMIT_BYTES] in self._pending:
            return None
        return self._confirmed.get(name[:NAME_LIMIT_BYTES])

    def possible(self, name: bytes, series: int) -> list[Meaning | None]:
        """All that the name may mean to a message of this series, newest first; empty when the name was never seen."""
        name = name[:NAME_LIMIT_BYTES]
        found: list[Meaning | None] = []
        for assigned_in, meaning in reversed(self._pending.get(name, ())):
            found.append(meaning)
            if assigned_in == series:
                return found
        if name in self._confirmed:
            found.append(self._confirmed[name])
        return found

    def known(self) -> list[bytes]:
        """Every name that may exist now."""
        return list(self._confirmed.keys() | self._pending.keys())

    def forget_confirmed(self) -> None:
        """Drop all confirmed names: a name that is used again will be unknown."""
        self._confirmed.clear()

    def replace_confirmed(self, name: bytes, meaning: Meaning) -> None:
        """Change what an existing name means from now on, unless it was reassigned meanwhile."""
        if name[:NAME_LIMIT_BYTES] in self._confirmed:
            self._confirmed[name[:NAME_LIMIT_BYTES]] = meaning
