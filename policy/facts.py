"""What a script does, in our own words. Rules read these, never the parser's tree."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto

from policy.judgement import Effect, Judgement, TransactionStep


class Condition(Enum):
    """Which rows of its target a DELETE, UPDATE or MERGE action can change."""

    MISSING = auto()  # no WHERE
    ALWAYS = auto()  # a condition that is true for every row
    UNLINKED = auto()  # a condition that says nothing about the target's rows
    FILTERED = auto()
    NEVER = auto()  # a contradiction


@dataclass(frozen=True, slots=True)
class Relation:
    """A name as written, folded as the grammar folds it."""

    schema: str
    name: str
    is_temp: bool = False

    def __str__(self) -> str:
        return f"{_quoted(self.schema)}.{_quoted(self.name)}" if self.schema else _quoted(self.name)


def _quoted(name: str) -> str:
    plain = name.replace("_", "a").isalnum() and name == name.lower() and not name[:1].isdigit()
    return name if plain else '"' + name.replace('"', '""') + '"'


@dataclass(frozen=True, slots=True)
class Change:
    """A DELETE or UPDATE, wherever it stands in the statement."""

    verb: str  # "DELETE" or "UPDATE"
    table: Relation
    condition: Condition
    statement: int
    position: int = 0  # in characters; 0 when not known
    wants_second_opinion: bool = False  # its condition has a shape in which sqlglot may find a tautology
    wants_values: bool = False  # the value of a parameter could open its condition for every row
    only_null_tests: bool = False  # its condition asks for nothing but that columns are not null


@dataclass(frozen=True, slots=True)
class Merge:
    """MERGE: the conditions of its DELETE and UPDATE actions on matched rows, joined with ON."""

    table: Relation
    deletes: Condition | None
    updates: Condition | None
    statement: int
    position: int = 0


@dataclass(frozen=True, slots=True)
class Drop:
    """DROP of objects of one kind."""

    kind: str  # "TABLE", "SCHEMA", …
    names: tuple[str, ...]
    cascade: bool
    all_temp: bool
    statement: int


@dataclass(frozen=True, slots=True)
class Truncate:
    tables: tuple[Relation, ...]
    cascade: bool
    all_temp: bool
    statement: int


@dataclass(frozen=True, slots=True)
class Alter:
    """One action of ALTER TABLE (or of a type, view, …)."""

    table: Relation
    action: str  # "DropColumn", "AlterColumnType", … as PostgreSQL names them, without AT_
    name: str
    constant_using: bool
    statement: int
    constraint: str = ""  # CHECK, FOREIGN, UNIQUE, PRIMARY, EXCLUSION, … of AddConstraint or the column of AddColumn
    unchecked: bool = False  # NOT VALID, or an index that is there already
    volatile_default: bool = False  # a new column whose value must be computed for each row
    cascade: bool = False  # what depends on it goes as well


@dataclass(frozen=True, slots=True)
class Act:
    """What a statement does to the schema, the session or the server, by PostgreSQL's command words.

    Attributes:
        kind: "CREATE TRIGGER", "ALTER OWNER", "VACUUM FULL", …
        objects: what it does it to, as written.
        on_temp: only a temporary relation of this session is concerned.
        detail: a lock mode, a language, …
    """

    kind: str
    statement: int
    objects: tuple[str, ...] = ()
    on_temp: bool = False
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Lock:
    """A table lock that the statement takes (explicit-locking.html#LOCKING-TABLES), stronger than ROW EXCLUSIVE."""

    relation: Relation
    mode: str
    statement: int


@dataclass(frozen=True, slots=True)
class Body:
    """Code that is stored, not run: of a function, a rule, a BEGIN ATOMIC block.

    Attributes:
        judgement: as if it ran here; None when it cannot be read.
        opaque: why it cannot be read, or which part is made at run time.
    """

    what: str
    judgement: Judgement | None
    opaque: str
    statement: int


@dataclass(frozen=True, slots=True)
class Upsert:
    """INSERT … SELECT … ON CONFLICT DO UPDATE without WHERE: as many rows as the query finds."""

    table: Relation
    statement: int


@dataclass(frozen=True, slots=True)
class Copy:
    relation: str
    is_from: bool
    is_program: bool
    filename: str | None  # None is STDIN or STDOUT
    statement: int


@dataclass(frozen=True, slots=True)
class Call:
    """A function call. `arguments` holds string constants, None for anything else."""

    schema: str
    name: str
    arguments: tuple[str | None, ...]
    statement: int
    position: int = 0


@dataclass(frozen=True, slots=True)
class Setting:
    """SET, set_config() with constants, or a startup parameter. `value` None: not a constant, or DEFAULT."""

    name: str
    value: str | None
    statement: int
    is_reset: bool = False


@dataclass(frozen=True, slots=True)
class RoleChange:
    """CREATE/ALTER ROLE or GRANT of a role. `powers`: what it gives that goes beyond data."""

    role: str
    powers: tuple[str, ...]
    statement: int


@dataclass(frozen=True, slots=True)
class Executed:
    """SQL EXECUTE of a prepared statement: what it may mean; empty when nobody knows."""

    name: str
    meanings: tuple[Judgement, ...]
    statement: int


@dataclass(frozen=True, slots=True)
class Opaque:
    """Something whose effect cannot be told."""

    what: str
    statement: int


@dataclass(slots=True)
class StatementFacts:
    kind: str
    span: tuple[int, int] = (0, 0)
    relations: list[str] = field(default_factory=list)
    reads: list[Relation] = field(default_factory=list)
    writes: list[Relation] = field(default_factory=list)
    certain: bool = True  # False: something in it is not understood, and may do more
    effects: list[Effect] = field(default_factory=list)
    transaction: TransactionStep | None = None


@dataclass(slots=True)
class Facts:
    """Of a whole script. `statement` in each fact is the index into `statements`."""

    statements: list[StatementFacts] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    merges: list[Merge] = field(default_factory=list)
    drops: list[Drop] = field(default_factory=list)
    truncates: list[Truncate] = field(default_factory=list)
    alters: list[Alter] = field(default_factory=list)
    acts: list[Act] = field(default_factory=list)
    locks: list[Lock] = field(default_factory=list)
    rewrites: list[tuple[Relation, int]] = field(default_factory=list)  # tables written anew as a whole
    bodies: list[Body] = field(default_factory=list)
    upserts: list[Upsert] = field(default_factory=list)
    copies: list[Copy] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    settings: list[Setting] = field(default_factory=list)
    roles: list[RoleChange] = field(default_factory=list)
    executed: list[Executed] = field(default_factory=list)
    prepared: list[tuple[str, Judgement, int]] = field(default_factory=list)
    blocks: list[Opaque] = field(default_factory=list)  # DO blocks that are not proven harmless
    opaque: list[Opaque] = field(default_factory=list)
    catalog_writes: list[tuple[str, int]] = field(default_factory=list)
    languages: list[tuple[str, int]] = field(default_factory=list)  # of functions made, other than sql and plpgsql
    #: A fact rests on the session: temporary relations, prepared names.
    uses_context: bool = False
    #: Number and string constants of the script have no part in any fact.
    literal_free: bool = True
    #: Too long or too deep for the grammar, undecodable, or rejected by it: why.
    unanalysable: str | None = None
