"""A message that waits, put in words for the people who decide on it: the store's request and the audit log's entry."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from typing import Final

from policy.catalogue import is_irreversible, severity_of
from policy.engine import ACT_RULES
from policy.judgement import Finding, Judgement
from protocol.tracker import Kind
from proxy.acts import SPREADING, tables_of
from proxy.look import Sight
from proxy.model import AuditEntry, AuditEvent, HeldAct, HeldFinding, HeldStatement, HoldId, HoldRequest, Requester

_PROTOCOLS: Final = {
    Kind.QUERY: "simple",
    Kind.EXECUTE: "extended",
    Kind.PARSE: "extended",
    Kind.FUNCTION_CALL: "function_call",
    Kind.SYNC: "commit",
}

#: What people see of one Bind value, and of how many; the bytes that run are not touched.
_VALUE_LIMIT_CHARACTERS: Final = 200
_VALUES_SHOWN: Final = 100


@dataclass(frozen=True)
class Petition:
    """Who wants to run what."""

    requester: Requester
    application_name: str
    environment: str
    kind: Kind
    script: bytes
    bind: bytes
    judgement: Judgement
    client_encoding: str
    act: HeldAct | None = None
    sight: Sight | None = None

    @cached_property
    def display(self) -> str:
        return self.judgement.display or self.script.decode("utf-8", "backslashreplace")

    @cached_property
    def digest(self) -> str:
        """Of the exact bytes: the script, and the values bound to it, if any; not of the names that the driver gave the statement."""
        digest = hashlib.sha256(self.script)
        try:
            for value, binary in bound_values(self.bind) if self.bind else ():
                digest.update(b"\0" + bytes([binary]) + (b"\xff" * 4 if value is None else len(value).to_bytes(4, "big") + value))
        except (ValueError, IndexError):
            digest.update(self.bind)  # the backend will refuse it
        return digest.hexdigest()

    @cached_property
    def relations(self) -> tuple[str, ...]:
        """Of an act all that it is about."""
        return (
            tuple(o.asked for o in tables_of(self.sight)) if self.act is not None and self.sight is not None else self.judgement.relations
        )

    @property
    def _rules(self) -> tuple[str, ...]:
        """Those that an approval lets pass."""
        goes_on = self.act is not None and self.act.reach in SPREADING
        return (*self.judgement.rule_ids, *ACT_RULES) if goes_on else self.judgement.rule_ids

    @cached_property
    def _who(self) -> Requester:
        return replace(self.requester, application_name=self.application_name)

    def request(
        self,
        expires_in_s: float,
        in_transaction: bool,
        *,
        waits: bool = True,
        follows: HoldId | None = None,
        difference: tuple[str, ...] = (),
        recent: tuple[str, ...] = (),
    ) -> HoldRequest:
        judgement = self.judgement
        display = self.display
        return HoldRequest(
            requester=self._who,
            environment=self.environment,
            script=display,
            script_sha256=self.digest,
            rule_ids=judgement.rule_ids,
            findings=tuple(map(held_finding, judgement.findings)),
            statements=tuple(
                HeldStatement(s.kind, display[s.span[0] : s.span[1]] if s.span[1] else display, s.relations) for s in judgement.statements
            ),
            relations=self.relations,
            protocol=_PROTOCOLS[self.kind],
            in_transaction=in_transaction,
            expires_in_s=expires_in_s,
            parameters=shown_values(self.bind, self.client_encoding) if self.bind else (),
            severity=severity_of(self._rules).label,
            waits=waits,
            follows=follows,
            difference=difference,
            recent=recent,
            act=self.act,
        )

    def entry(self, event: AuditEvent, hold_id: HoldId | None, *, operator: str = "", reason: str = "", outcome: str = "") -> AuditEntry:
        return AuditEntry(
            event,
            requester=self._who,
            environment=self.environment,
            hold_id=hold_id,
            script=self.display,
            script_sha256=self.digest,
            rule_ids=self.judgement.rule_ids,
            relations=self.relations,
            operator=operator,
            reason=reason,
            outcome=outcome,
        )


def held_finding(finding: Finding) -> HeldFinding:
    """For the store, and for people."""
    return HeldFinding(
        finding.rule_id,
        finding.message,
        finding.hint,
        finding.statement,
        finding.span,
        finding.relations,
        finding.suggestion,
        severity_of((finding.rule_id,)).label,
        is_irreversible(finding.rule_id),
    )


def shown_values(bind: bytes, client_encoding: str) -> tuple[str | None, ...]:
    """The values of a Bind message for people: text as text, binary as hex, both cut; NULL is None.

    A message that cannot be read gives no values: the backend will refuse it.
    """
    try:
        return _values(bind, "utf-8" if client_encoding == "UTF8" else "latin-1")
    except (ValueError, IndexError):
        return ()


def _values(bind: bytes, codec: str) -> tuple[str | None, ...]:
    values: list[str | None] = []
    for value, binary in islice(bound_values(bind), _VALUES_SHOWN):
        if value is None:
            values.append(None)
            continue
        value = value[: 4 * _VALUE_LIMIT_CHARACTERS]
        text = "\\x" + value.hex() if binary else value.decode(codec, "backslashreplace")
        values.append(text if len(text) <= _VALUE_LIMIT_CHARACTERS else text[:_VALUE_LIMIT_CHARACTERS] + "…")
    return tuple(values)


def bound_values(bind: bytes) -> Iterator[tuple[bytes | None, bool]]:
    """Each value of a Bind message, and whether it is in binary format. Raises ValueError when the message is short."""
    position = bind.index(0, bind.index(0, 5) + 1) + 1
    format_count = _int16(bind, position)
    formats = [_int16(bind, position + 2 + 2 * i) for i in range(format_count)]
    position += 2 + 2 * format_count
    count = _int16(bind, position)
    position += 2
    for index in range(count):
        size = int.from_bytes(bind[position : position + 4], "big", signed=True)
        position += 4
        binary = bool(formats[index if format_count > 1 else 0]) if format_count else False
        yield (None if size < 0 else bind[position : position + size]), binary
        position += max(size, 0)


def _int16(data: bytes, position: int) -> int:
    if position + 2 > len(data):
        raise ValueError("short message")
    return int.from_bytes(data[position : position + 2], "big")
