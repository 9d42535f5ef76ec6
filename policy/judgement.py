"""The outcome of judging one script: its verdict, why, and what the script does to the session's own state."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from policy.verdict import Verdict
from policy.view import RowLimit


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a rule found.

    Attributes:
        rule_id: the rule's id, e.g. "drop-table".
        verdict: the rule's verdict here (already mapped by profile and environment).
        message: what was found and in which object; no advice, no user literals.
        hint: the way forward, from the rule's "Instead".
        statement: index of the statement in the script.
        span: start and end in the decoded script's characters; (0, 0) when not known.
        relations: the objects concerned, as written ("public.users").
        suggestion: the statement to write instead, where one exists; `hint` holds it too.
        allowed_because: the policy allows what the profile would not (`verdict` is ALLOW, the script's is WARN): its reason.
    """

    rule_id: str
    verdict: Verdict
    message: str
    hint: str = ""
    statement: int = 0
    span: tuple[int, int] = (0, 0)
    relations: tuple[str, ...] = ()
    suggestion: str = ""
    allowed_because: str = ""


class TransactionStep(StrEnum):
    BEGIN = "begin"
    COMMIT = "commit"
    ROLLBACK = "rollback"
    SAVEPOINT = "savepoint"
    RELEASE = "release"
    ROLLBACK_TO = "rollback to"
    PREPARE = "prepare transaction"


# --- what a statement, once it has succeeded, changes in the session's own state --------------------------------


@dataclass(frozen=True, slots=True)
class Prepares:
    """SQL PREPARE: from now on `name` means `judgement` (of its body, as if executed)."""

    name: str
    judgement: Judgement


@dataclass(frozen=True, slots=True)
class Deallocates:
    """DEALLOCATE; None is ALL."""

    name: str | None


@dataclass(frozen=True, slots=True)
class Declares:
    """DECLARE CURSOR: a portal of that name exists now; its query was judged as if it ran here."""

    name: str


@dataclass(frozen=True, slots=True)
class ClosesCursor:
    """CLOSE; None is ALL."""

    name: str | None


@dataclass(frozen=True, slots=True)
class CreatesTemp:
    """A temporary relation of this unqualified name exists now."""

    name: str


@dataclass(frozen=True, slots=True)
class ForgetsTemp:
    """The temporary relation may be gone, or the name may mean another; None is all of them."""

    name: str | None


@dataclass(frozen=True, slots=True)
class SetsRole:
    """SET ROLE / SET SESSION AUTHORIZATION; None is reset."""

    role: str | None


@dataclass(frozen=True, slots=True)
class SetsSearchPath:
    """SET search_path or set_config('search_path', …); None when the value is not known, or the default again."""

    value: str | None


@dataclass(frozen=True, slots=True)
class DistrustsTemp:
    """From now on an unqualified name may mean a permanent relation although a temporary one exists: pg_temp may be searched late."""


@dataclass(frozen=True, slots=True)
class SetsStandardStrings:
    """SET standard_conforming_strings, for those whom no server tells; it takes effect with the next message."""

    on: bool


Effect = (
    Prepares
    | Deallocates
    | Declares
    | ClosesCursor
    | CreatesTemp
    | ForgetsTemp
    | SetsRole
    | SetsSearchPath
    | DistrustsTemp
    | SetsStandardStrings
)


@dataclass(frozen=True, slots=True)
class StatementReport:
    """One statement of a script, as an operator reads it.

    Attributes:
        kind: its command in PostgreSQL's words, e.g. "DROP TABLE".
        span: start and end in the decoded script's characters.
        relations: objects that it names as a target, then those it reads; as written.
        effects: applied in order once the statement's CommandComplete has come.
        transaction: what it does to the transaction, when it is transaction control.
        limits: the row limits that the rows of its CommandComplete count towards.
        uncounted: it changes rows that its CommandComplete does not count.
    """

    kind: str
    span: tuple[int, int] = (0, 0)
    relations: tuple[str, ...] = ()
    effects: tuple[Effect, ...] = ()
    transaction: TransactionStep | None = None
    limits: tuple[RowLimit, ...] = ()
    uncounted: bool = False

    @property
    def changes_schema(self) -> bool:
        """DDL, by its command. A temporary relation is nobody else's business."""
        return self.kind.startswith(_SCHEMA_CHANGES) and not any(isinstance(e, CreatesTemp) for e in self.effects)


#: How the commands of DDL begin.
_SCHEMA_CHANGES: Final = ("CREATE", "ALTER", "DROP", "COMMENT", "GRANT", "REVOKE", "SECURITY LABEL", "IMPORT FOREIGN SCHEMA", "REASSIGN")


@dataclass(frozen=True, slots=True)
class Judgement:
    """What policy says of one script.

    Attributes:
        context_free: the same for this text in every session of the engine that lexes alike, so it may be cached by
            bytes alone. False when prepared names, temporary relations, role, … had a part in it.
        literal_free: proven the same whatever the plain number and quoted-string constants are (DESIGN section 5).
        wants_values: harmless as far as the text tells, but a parameter's value may make it otherwise: see Engine.judge_bound.
        announced: it changes the schema, and somebody wants to be told (View.announces), so that sessions follow what becomes of it.
        gated: the policy counts rows, and it changes some, or begins or ends a transaction.
        marks: of tools (policy.tools) that it contains; sessions remember them.
        syntax_error: what PostgreSQL's grammar says of text that it rejects.
        display: the script as text for people, decoded as far as possible; passwords blanked. Never executed.
    """

    verdict: Verdict
    findings: tuple[Finding, ...] = ()
    statements: tuple[StatementReport, ...] = ()
    context_free: bool = True
    literal_free: bool = False
    display: str = ""
    syntax_error: str = ""
    wants_values: bool = False
    announced: bool = False
    gated: bool = False
    marks: tuple[str, ...] = ()
    #: ALLOW, whatever the session, with no effect to track: the relay's fast path looks at nothing else.
    plain: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        plain = (
            self.verdict is Verdict.ALLOW
            and self.context_free
            and not self.wants_values
            and not self.announced
            and not self.gated
            and not self.marks
            and not any(s.effects for s in self.statements)
        )
        object.__setattr__(self, "plain", plain)

    @property
    def rule_ids(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(f.rule_id for f in self.findings))

    @property
    def relations(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(r for s in self.statements for r in s.relations))

    @property
    def only_rolls_back(self) -> bool:
        """The script is ROLLBACK (or ROLLBACK TO) and nothing else; it always passes."""
        steps = [s.transaction for s in self.statements]
        return bool(steps) and all(s in (TransactionStep.ROLLBACK, TransactionStep.ROLLBACK_TO) for s in steps)
