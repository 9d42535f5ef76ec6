"""The commit gate: rows that the open transaction has changed, by the server's own count, against the limits of the policy.

The core feeds it every message that the policy counts and every CommandComplete of one; before what commits goes to the server, the core
asks it. What was undone by ROLLBACK TO still counts: too many are held rather than too few.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from policy.judgement import Finding, Judgement, StatementReport, TransactionStep
from policy.verdict import Verdict
from policy.view import RowLimit
from proxy.protection import rows_of

RULE: Final = "row-limit"
#: Of the statements of one transaction, for people.
_STATEMENTS: Final = 50
_SCRIPT_CHARACTERS: Final = 2000


class Gate:
    """Attributes:
    active: something that counts was sent, and its transaction may be open; until it is over nothing takes the fast path.
    in_block: as far as the server has answered, a transaction block of the client's is open, and not one that the next Sync or Query ends.
    steering: something that begins or ends a transaction was sent, and may not be answered yet.
    """

    __slots__ = ("_last", "_rows", "_scripts", "_statements", "_uncounted", "active", "in_block", "steering")

    def __init__(self) -> None:
        self.in_block = False
        self.steering = False
        self.reset()

    def reset(self) -> None:
        """Nothing that counts is open, or on its way."""
        self.active = False
        self.ended()

    def ended(self) -> None:
        """The server has ended a transaction; what it counts from now on is another one's."""
        self.in_block = False
        self._rows: dict[RowLimit, int] = {}
        self._uncounted: set[RowLimit] = set()
        self._scripts: list[str] = []
        self._statements: list[StatementReport] = []
        self._last: Judgement | None = None

    def sent(self, judgement: Judgement) -> None:
        """A script that counts, or steers the transaction, goes to the server."""
        self.steering = self.steering or any(s.transaction is not None for s in judgement.statements)
        self.active = self.active or any(s.limits for s in judgement.statements)

    def counted(self, judgement: Judgement, index: int, tag: str) -> None:
        """One of its statements has succeeded."""
        if index >= len(judgement.statements):
            return
        statement = judgement.statements[index]
        if statement.transaction is TransactionStep.BEGIN:
            self.in_block = True
        elif statement.transaction in (TransactionStep.COMMIT, TransactionStep.ROLLBACK, TransactionStep.PREPARE):
            self.ended()
        if not statement.limits:
            return
        if len(self._statements) < _STATEMENTS:
            self._statements.append(statement)
            text = judgement.display[:_SCRIPT_CHARACTERS]
            if self._last is not judgement:
                self._scripts.append(text)
            self._last = judgement
        rows = rows_of(tag)
        for limit in statement.limits:
            if rows is not None:
                self._rows[limit] = self._rows.get(limit, 0) + rows
            if statement.uncounted or rows is None:
                self._uncounted.add(limit)

    def exceeded(self) -> str:
        """Which limit is passed, and by how many rows; empty when none is."""
        found = [
            f"{rows:,} rows changed in this transaction, the limit is {limit}" for limit, rows in self._rows.items() if rows > limit.rows
        ]
        found += [
            f"rows changed in this transaction that the server did not count, the limit is {limit}"
            for limit in self._uncounted
            if self._rows.get(limit, 0) <= limit.rows
        ]
        return "; ".join(found)

    @property
    def script(self) -> str:
        """What has changed rows, without the COMMIT."""
        return ";\n".join(self._scripts)

    def uncountable(self, judgement: Judgement, why: str) -> Judgement:
        """Of a script whose rows cannot be counted before they are committed."""
        relations = tuple(dict.fromkeys(name for s in judgement.statements if s.limits for name in s.relations))
        finding = Finding(RULE, Verdict.HOLD, why, "Send a Sync first.", relations=relations)
        return replace(judgement, verdict=Verdict.HOLD, findings=(finding,), gated=False)

    def judgement(self, exceeded: str) -> Judgement:
        """What the operator decides on: the transaction as a whole."""
        relations = tuple(dict.fromkeys(name for s in self._statements for name in s.relations))
        hint = "Change fewer rows in one transaction."
        finding = Finding(RULE, Verdict.HOLD, exceeded, hint, relations=relations)
        statements = tuple(StatementReport(s.kind, (0, 0), s.relations) for s in self._statements)
        return Judgement(Verdict.HOLD, (finding,), statements, context_free=False, display=";\n".join([*self._scripts, "COMMIT"]))
