"""Changing who may decide: each change is checked, then on record, then done. The console, the API and the command line share it.

Only the process that has the audit log open may change people: the running proxy, or the command line while no proxy runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from proxy.holds_json import iso
from proxy.model import AuditEntry, AuditEvent, Operator, Role
from proxy.operators import OperatorError, Person, SqlOperators, check_name, check_password
from proxy.seams import AuditLog


class UnknownOperatorError(OperatorError):
    """There is no operator of that name."""


class NameTakenError(OperatorError):
    """There is an operator of that name; names differ by more than their case."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What an operator may decide. None leaves it as it is.

    Attributes:
        databases: patterns (fnmatch); none: all.
        max_severity: the worst that he decides; empty: any.
        database_roles: whose statements are his own, and never decided by him.
    """

    databases: Sequence[str] | None = None
    max_severity: str | None = None
    database_roles: Sequence[str] | None = None
    may_skip_backup: bool | None = None

    def words(self) -> list[str]:
        """For the record."""
        told = []
        if self.databases is not None:
            told.append(f"databases: {', '.join(self.databases) or 'all'}")
        if self.database_roles is not None:
            told.append(f"database roles: {', '.join(self.database_roles) or 'none'}")
        if self.max_severity is not None:
            told.append(f"severity up to {self.max_severity or 'any'}")
        if self.may_skip_backup is not None:
            told.append("may approve without a backup" if self.may_skip_backup else "may not approve without a backup")
        return told


class People:
    """Every method raises AuditError (nothing was done), StoreError, and OperatorError for what cannot be."""

    def __init__(self, operators: SqlOperators, audit: AuditLog) -> None:
        self._operators = operators
        self._audit = audit

    async def _record(self, by: str, about: str, what: str) -> None:
        await self._audit.append(AuditEntry(AuditEvent.OPERATOR_CHANGED, operator=by, outcome=what, detail={"about": about}))

    async def everybody(self) -> list[Person]:
        return await self._operators.people()

    async def begin_second_factor(self, name: str) -> str:
        """A secret for an authenticator; it counts once a code of it was confirmed."""
        if (await self.find(name)).operator.second_factor:
            raise OperatorError(f"{name} has a second factor already; remove it first")
        return await self._operators.begin_totp(name)

    async def find(self, name: str) -> Person:
        """Disabled ones too. Raises UnknownOperatorError."""
        for person in await self._operators.people():
            if person.operator.name == name:
                return person
        raise UnknownOperatorError(f"there is no operator {name[:120]}")

    async def add(self, by: str, name: str, role: Role, scope: Scope) -> str:
        """A new operator; returns the first token, which is shown once."""
        check_name(name)
        async with self._operators.changing:
            # Disabled ones, too: adding must not be a way around enabling.
            if name.casefold() in {p.operator.name.casefold() for p in await self._operators.people()}:
                raise NameTakenError(f"there is an operator {name} already")
            limits = Scope(scope.databases or None, scope.max_severity or None, scope.database_roles or None, scope.may_skip_backup or None)
            await self._record(by, name, "; ".join([f"added as {role}", *limits.words()]))
            return await self._operators.add(
                name,
                role,
                databases=scope.databases or (),
                max_severity=scope.max_severity or "",
                database_roles=scope.database_roles or (),
                may_skip_backup=bool(scope.may_skip_backup),
            )

    async def change(self, by: str, name: str, role: Role | None, scope: Scope) -> None:
        """Role and scope; tokens, password and second factor stay."""
        await self.find(name)
        changes = [*([f"role {role}"] if role is not None else []), *scope.words()]
        if not changes:
            raise OperatorError("nothing to change was given")
        await self._record(by, name, "; ".join(changes))
        await self._operators.change(
            name,
            role=role,
            databases=scope.databases,
            max_severity=scope.max_severity,
            database_roles=scope.database_roles,
            may_skip_backup=scope.may_skip_backup,
        )

    async def disable(self, by: str, name: str, disabled: bool = True) -> None:
        await self.find(name)
        await self._record(by, name, "disable" if disabled else "enable")
        await self._operators.set_disabled(name, disabled)

    async def remove(self, by: str, name: str) -> None:
        await self.find(name)
        await self._record(by, name, "remove")
        await self._operators.remove(name)

    async def set_password(self, by: str, name: str, password: str) -> None:
        """Ends the operator's web sessions."""
        await self.find(name)
        check_password(password, name)
        await self._record(by, name, "password set")
        await self._operators.set_password(name, password)

    async def add_token(self, by: str, name: str, token_name: str, lifetime_s: float | None) -> str:
        """A further token, which is shown once."""
        check_name(token_name)
        async with self._operators.changing:
            if any(t.name == token_name for t in (await self.find(name)).tokens):
                raise OperatorError(f"{name} has a token {token_name} already; revoke it first, or choose another name")
            await self._record(by, name, f"token {token_name} made")
            return await self._operators.add_token(name, token_name, lifetime_s)

    async def revoke_token(self, by: str, name: str, token_name: str) -> None:
        if not any(t.name == token_name for t in (await self.find(name)).tokens):
            raise UnknownOperatorError(f"{name} has no token {token_name[:120]}")
        await self._record(by, name, f"token {token_name} revoked")
        await self._operators.revoke_token(name, token_name)

    async def confirm_second_factor(self, by: str, name: str, secret: str, code: str) -> bool:
        """Keep the device if the code is of it; False when it is not."""
        if (await self.find(name)).operator.second_factor:
            raise OperatorError(f"{name} has a second factor already; remove it first")
        if not self._operators.fits(secret, code):
            return False
        await self._record(by, name, "second factor set up")
        return await self._operators.confirm_totp(name, secret, code)

    async def remove_second_factor(self, by: str, name: str) -> None:
        if not (await self.find(name)).operator.second_factor:
            raise UnknownOperatorError(f"{name} has no second factor")
        await self._record(by, name, "second factor removed")
        await self._operators.remove_totp(name)


def operator_as_json(operator: Operator) -> dict[str, object]:
    """An operator, without what is secret."""
    return {
        "name": operator.name,
        "role": str(operator.role),
        "databases": list(operator.databases),
        "max_severity": operator.max_severity,
        "database_roles": list(operator.database_roles),
        "may_skip_backup": operator.may_skip_backup,
        "second_factor": operator.second_factor,
        "source": operator.source,
    }


def person_as_json(person: Person) -> dict[str, object]:
    """An operator as admins see him; no secret is in it."""
    return {
        **operator_as_json(person.operator),
        "created_at": iso(person.created_at),
        "disabled": person.disabled,
        "has_password": person.has_password,
        "locked_until": iso(person.locked_until),
        "tokens": [
            {"name": t.name, "created_at": iso(t.created_at), "expires_at": iso(t.expires_at), "last_used_at": iso(t.last_used_at)}
            for t in person.tokens
        ],
    }
