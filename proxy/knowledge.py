"""What a session's core knows of the backend's session state, as far as it changes what a script means.

Two rules keep the picture from running ahead of the backend. What makes later scripts *more* harmless (a temporary table that
may be dropped, a name that means something else now) counts only once the backend has confirmed it; what makes them *less*
harmless (a temporary table that may be gone) counts as soon as it is sent. And a transaction that does not commit takes its
temporary tables with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

from policy.context import Context
from policy.judgement import (
    ClosesCursor,
    CreatesTemp,
    Deallocates,
    Declares,
    DistrustsTemp,
    Effect,
    ForgetsTemp,
    Judgement,
    Prepares,
    SetsRole,
    SetsSearchPath,
    SetsStandardStrings,
)
from policy.tools import Act
from policy.verdict import Verdict
from protocol.names import Names
from proxy.meaning import CHANGED, HARMLESS, Meaning, strictest


class Judge(Protocol):
    """The policy engine as the core uses it."""

    def judge(self, script: bytes, context: Context) -> Judgement: ...

    def settled(self, script: bytes, context: Context) -> Judgement | None: ...

    def judge_bound(self, script: bytes, context: Context, values: tuple[bytes | None, ...]) -> Judgement: ...

    def judge_function_call(self, oid: int, context: Context) -> Judgement: ...

    def as_act(self, judgement: Judgement, act: Act, database: str) -> Judgement: ...


#: Portals of finished transactions are forgotten when there are more than this many (they are harmless, or held).
_PORTALS_KEPT = 64


#: Longer scripts of prepared statements are held, not judged again, when the session has changed since.
_REJUDGED_BYTES = 4 << 10


class Knowledge:
    """Names, temporary relations and settings of one session.

    Attributes:
        generation: changes whenever something changes that a judgement may rest on.
        role: the current role as far as SET ROLE was seen to succeed; the login role at first.
        server_encoding: what the server keeps text in, as it reported.
    """

    def __init__(self, context: Context, judge: Judge) -> None:
        self.statements: Names[Meaning] = Names()
        self.portals: Names[Meaning] = Names()
        self.generation = 0
        self.server_encoding = "UTF8"
        self._judge = judge
        self._base = context
        self._login_role = context.role
        self._context: Context | None = None
        self._temp_committed: set[str] = set()
        self._temp_in_transaction: set[str] = set()
        self._transaction_status = "I"

    # --- context ------------------------------------------------------------------------------------------------

    def context(self) -> Context:
        """Good for cached judgements: all but the transaction status is as it is now."""
        return self._context if self._context is not None else self.exact_context()

    def exact_context(self) -> Context:
        if self._context is None or self._context.transaction_status != self._transaction_status:
            base = self._base
            self._context = Context(
                role=base.role,
                database=base.database,
                application_name=base.application_name,
                environment=base.environment,
                profile=base.profile,
                client_encoding=base.client_encoding,
                standard_conforming_strings=base.standard_conforming_strings,
                search_path=base.search_path,
                transaction_status=self._transaction_status,
                trusts_temp=base.trusts_temp,
                not_null=base.not_null,
                temp_relations=frozenset(self._temp_committed | self._temp_in_transaction),
                prepared=_Prepared(self),
            )
        return self._context

    @property
    def client_encoding(self) -> str:
        return self._base.client_encoding

    @property
    def application_name(self) -> str:
        return self._base.application_name

    def _change(self, **fields: str | bool | None) -> None:
        values = {name: getattr(self._base, name) for name in Context.__slots__ if name != "lexes_plainly"}
        values.update(fields)
        self._base = Context(**values)
        self._changed()

    def _changed(self) -> None:
        self._context = None
        self.generation += 1

    def parameter_status(self, name: str, value: str) -> None:
        """The backend reported a setting (protocol-flow.html#PROTOCOL-ASYNC)."""
        if name == "client_encoding":
            self._change(client_encoding=value)
        elif name == "standard_conforming_strings":
            self._change(standard_conforming_strings=value == "on")
        elif name == "search_path":
            self._change(search_path=value)
            if "pg_temp" in value:
                self._change(trusts_temp=False)
        elif name == "application_name":
            self._change(application_name=value)
        elif name == "server_encoding":
            self.server_encoding = value

    # --- what a name means --------------------------------------------------------------------------------------

    def statement(self, name: bytes, series: int) -> Meaning:
        return self._now(strictest(self.statements.possible(name, series)))

    def portal(self, name: bytes, series: int) -> Meaning:
        return self._now(strictest(self.portals.possible(name, series)))

    def _now(self, meaning: Meaning) -> Meaning:
        """Judge again what was judged when the session was another."""
        if meaning.alternatives:
            return strictest([self._now(m) for m in meaning.alternatives])
        if meaning.judgement.context_free or meaning.generation == self.generation or meaning.script is None:
            return meaning
        if len(meaning.script) > _REJUDGED_BYTES:
            # Safety: a long script is not judged again on the event loop; test_core_holds.
            return meaning if meaning.judgement.verdict >= Verdict.HOLD else CHANGED
        judgement = self._judge.judge(meaning.script, self.exact_context())
        return Meaning(judgement, meaning.script, self.generation, meaning.bind)

    # --- effects ------------------------------------------------------------------------------------------------

    def begin(self, effects: tuple[Effect, ...], series: int) -> tuple[Effect, ...]:
        """A statement with these effects was sent. Return them resolved, for `confirm` or `drop` later."""
        resolved: list[Effect] = []
        for effect in effects:
            match effect:
                case Prepares(name, judgement):
                    meaning = Meaning(judgement, None, self.generation)
                    self.statements.assign(name.encode(), meaning, series)
                    resolved.append(effect)
                case Deallocates(None):
                    for known in self.statements.known():
                        self.statements.assign(known, None, series)
                        resolved.append(Deallocates(known.decode("utf-8", "surrogateescape")))
                case Deallocates(str(name)):
                    self.statements.assign(name.encode(), None, series)
                    resolved.append(effect)
                case Declares(name):
                    self.portals.assign(name.encode(), HARMLESS, series)
                    resolved.append(effect)
                case ClosesCursor(None):
                    for known in self.portals.known():
                        self.portals.assign(known, None, series)
                        resolved.append(ClosesCursor(known.decode("utf-8", "surrogateescape")))
                case ClosesCursor(str(name)):
                    self.portals.assign(name.encode(), None, series)
                    resolved.append(effect)
                case ForgetsTemp(forgotten):
                    self._forget_temp(forgotten)
                    resolved.append(effect)
                case SetsSearchPath():
                    # Until it is confirmed either path may hold.
                    self._change(search_path=None)
                    resolved.append(effect)
                case DistrustsTemp():
                    self._change(trusts_temp=False)
                case CreatesTemp() | SetsRole():
                    resolved.append(effect)
                case SetsStandardStrings():
                    pass  # the backend reports it
        return tuple(resolved)

    def confirm(self, effects: tuple[Effect, ...]) -> None:
        """The backend completed the statement."""
        for effect in effects:
            match effect:
                case Prepares(name, _):
                    self.statements.confirm(name.encode())
                    self._changed()
                case Deallocates(str(name)):
                    self.statements.confirm(name.encode("utf-8", "surrogateescape"))
                    self._changed()
                case Declares(name):
                    self.portals.confirm(name.encode())
                case ClosesCursor(str(name)):
                    self.portals.confirm(name.encode("utf-8", "surrogateescape"))
                case CreatesTemp(name):
                    self._temp_in_transaction.add(name)
                    self._changed()
                case ForgetsTemp(forgotten):
                    self._forget_temp(forgotten)
                case SetsRole(role):
                    self._change(role=self._login_role if role is None else role)
                case SetsSearchPath(value):
                    self._change(search_path=value)
                case Deallocates(None) | ClosesCursor(None) | DistrustsTemp() | SetsStandardStrings():
                    raise AssertionError("resolved by begin")

    def drop(self, effects: tuple[Effect, ...]) -> None:
        """The statement failed, or was skipped."""
        for effect in effects:
            match effect:
                case Prepares(name, _) | Deallocates(str(name)):
                    self.statements.drop(name.encode("utf-8", "surrogateescape"))
                case Declares(name) | ClosesCursor(str(name)):
                    self.portals.drop(name.encode("utf-8", "surrogateescape"))
                case _:
                    pass

    def _forget_temp(self, name: str | None) -> None:
        if name is None:
            self._temp_committed.clear()
            self._temp_in_transaction.clear()
        else:
            self._temp_committed.discard(name)
            self._temp_in_transaction.discard(name)
        self._changed()

    # --- transactions -------------------------------------------------------------------------------------------

    def rolled_back(self) -> None:
        """An error, ROLLBACK or ROLLBACK TO: what this transaction made may be gone."""
        if self._temp_in_transaction:
            self._temp_in_transaction.clear()
            self._changed()

    @property
    def unsettled(self) -> bool:
        """Whether the end of a transaction would change something here."""
        return bool(self._temp_in_transaction) or len(self.portals) > _PORTALS_KEPT

    def ready(self, status: str) -> None:
        """ReadyForQuery with this transaction status."""
        if status == "I" and self._temp_in_transaction:
            self._temp_committed |= self._temp_in_transaction
            self._temp_in_transaction.clear()
            self._changed()
        self._transaction_status = status
        if status == "I" and len(self.portals) > _PORTALS_KEPT:
            self.portals.forget_confirmed()


class _Prepared(Mapping[str, tuple[Judgement, ...]]):
    """Context.prepared over the live table: SQL EXECUTE and wire Parse share one namespace."""

    def __init__(self, knowledge: Knowledge) -> None:
        self._knowledge = knowledge

    def __getitem__(self, name: str) -> tuple[Judgement, ...]:
        # A script may run in any later series, so nothing in flight is certain here.
        meanings = self._knowledge.statements.possible(name.encode(), series=-2)
        if not meanings:
            raise KeyError(name)
        return tuple(m.judgement for m in meanings if m is not None) or (HARMLESS.judgement,)

    def __iter__(self) -> Iterator[str]:
        return iter(name.decode("utf-8", "surrogateescape") for name in self._knowledge.statements.known())

    def __len__(self) -> int:
        return len(self._knowledge.statements.known())


def combined(meaning: Meaning) -> Judgement:
    """The judgement to go by when a name may mean several things.

    When the possible meanings disagree in what they do to the session's own state, the picture could not be kept right:
    then the strictest that can be said is a hold.
    """
    if not meaning.alternatives:
        return meaning.judgement
    effects = {tuple(s.effects for s in m.judgement.statements) for m in meaning.alternatives}
    if meaning.judgement.verdict < Verdict.HOLD and len(effects) > 1 and any(any(e) for e in effects):
        return strictest([]).judgement
    return meaning.judgement
