"""What rules may know of the session in which a script arrives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from policy.verdict import Environment, Profile
from policy.view import RowLimit

if TYPE_CHECKING:
    from policy.judgement import Judgement


@dataclass(frozen=True, slots=True)
class Context:
    """The session as far as it is known when a script is judged.

    Attributes:
        prepared: what each prepared statement may mean (more than one while a Parse, Close or SQL PREPARE is in
            flight), by name as the server stores it; the strictest counts. A name that is missing is unknown.
        temp_relations: unqualified names of temporary relations that this session made and still has.
        trusts_temp: an unqualified name means the temporary relation first. False once search_path may name pg_temp elsewhere.
        not_null: (relation as written, column) pairs that the catalog says are NOT NULL; None when it was not asked.
        protected, read_only, row_limits: of the policy's view of this session (policy.view).
        transaction_status: "I", "T" or "E", as in ReadyForQuery.
        search_path: None when unknown.
    """

    role: str = ""
    database: str = ""
    application_name: str = ""
    environment: Environment = Environment.PRODUCTION
    profile: Profile = Profile.GUARD
    client_encoding: str = "UTF8"
    standard_conforming_strings: bool = True
    search_path: str | None = None
    transaction_status: str = "I"
    temp_relations: frozenset[str] = frozenset()
    trusts_temp: bool = True
    not_null: frozenset[tuple[str, str]] | None = None
    protected: tuple[str, ...] = ()
    read_only: bool = False
    row_limits: tuple[RowLimit, ...] = ()
    prepared: Mapping[str, tuple[Judgement, ...]] = field(default_factory=dict)
    #: UTF-8, standard strings, and no catalog: judgements by exact bytes are shared between all sessions like this.
    lexes_plainly: bool = field(init=False, default=True)

    def __post_init__(self) -> None:
        plainly = self.standard_conforming_strings and self.client_encoding in ("UTF8", "SQL_ASCII")
        object.__setattr__(self, "lexes_plainly", plainly and self.not_null is None)
