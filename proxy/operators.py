"""People who decide: their roles, passwords, second factors and tokens, in the store. Secrets are kept as digests only, but for the
TOTP secret, which both sides must know.

The HTTP API looks a token up by its SHA-256 (it has 256 bits of its own, so nothing slower is needed); passwords are argon2id; the psql
console proves either by SCRAM-SHA-256 (RFC 5802, RFC 7677) against a verifier as PostgreSQL stores them.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import os
import re
import secrets
from base64 import b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pyotp
from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError
from sqlalchemy import ColumnElement, Row, and_, delete, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from proxy import passwords
from proxy.attempts import LOCKOUT_AFTER, LOCKOUT_LIMIT_S, LOCKOUT_S, Attempts
from proxy.model import Operator, Role
from proxy.seams import Clock, LockedOutError, StoreError
from proxy.store import Store
from proxy.store.schema import operators, tokens, web_sessions

FIRST_OPERATOR: Final = "operator"
#: The token that `operator add` prints; in psql it is the operator's password until a real one is set.
FIRST_TOKEN: Final = "first"
SCRAM_ITERATIONS: Final = 4096
#: Passwords hashed at the same time: each takes 64 MiB.
_HASHING: Final = 2
#: API tokens and psql passwords of people from another system are good for so long after it last let them in.
EXTERNAL_S: Final = 30 * 86400.0
#: A code is valid for its own 30 s and those before and after (RFC 6238 section 5.2).
_TOTP_WINDOW: Final = 1
_TOTP_STEP_S: Final = 30
_SEEN_EVERY_S: Final = 60
_NAME: Final = re.compile(r"[\w.@+-]{1,120}")
#: Of another system's names, which people there may choose: letters that look like others make no second person.
_EXTERNAL_NAME: Final = re.compile(r"[a-z0-9_.@+-]{1,120}")

_hasher: Final = PasswordHasher()
#: Verified when there is no such operator, so that the answer takes as long.
_NOBODY: Final = _hasher.hash(secrets.token_hex(16))


class OperatorError(ValueError):
    """What was asked for cannot be: a name that is taken, a password that is too short. The message is for people."""


@dataclass(frozen=True, slots=True)
class Token:
    """An API token, without its secret."""

    operator: str
    name: str
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None


@dataclass(frozen=True, slots=True)
class Person:
    """An operator as admins see him."""

    operator: Operator
    created_at: datetime
    disabled: bool
    has_password: bool
    locked_until: datetime | None
    tokens: tuple[Token, ...]


def new_token() -> str:
    return "pghold_" + secrets.token_urlsafe(32)


def token_digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def scram_verifier(password: str, salt: bytes | None = None, iterations: int = SCRAM_ITERATIONS) -> str:
    """SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey, as in pg_authid.rolpassword (catalog-pg-authid.html)."""
    salt = os.urandom(16) if salt is None else salt
    salted = hashlib.pbkdf2_hmac("sha256", passwords.prepared(password).encode(), salt, iterations)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    stored_key = hashlib.sha256(client_key).digest()
    server_key = hmac.digest(salted, b"Server Key", "sha256")
    keys = f"{b64encode(stored_key).decode()}:{b64encode(server_key).decode()}"
    return f"SCRAM-SHA-256${iterations}:{b64encode(salt).decode()}${keys}"


class SqlOperators:
    """seams.Operators over the store, and what admins do with them.

    Attributes:
        generation: another number whenever somebody may have lost something, so that whoever is being served is looked at again.
        on_locked: told when somebody is locked out, and until when.
    """

    def __init__(self, store: Store, clock: Clock, external_s: float = EXTERNAL_S) -> None:
        self.generation = 0
        self._store = store
        self._clock = clock
        self._external_s = external_s
        self._attempts = Attempts(clock)
        self._hashing = asyncio.Semaphore(_HASHING)
        self.on_locked: Callable[[str, datetime], None] | None = None
        #: Held from looking whether a name is free until it is taken, since what is recorded in between takes a while.
        self.changing = asyncio.Lock()

    # --- who is it ----------------------------------------------------------------------------------------------

    async def by_token(self, token: str) -> Operator | None:
        """The operator of a token that is valid now."""
        digest, now = token_digest(token), self._clock.now()
        wanted = (
            select(operators, tokens.c.id.label("token_id"), tokens.c.token_sha256, tokens.c.last_used_at)
            .join(tokens, tokens.c.operator == operators.c.name)
            .where(
                tokens.c.token_sha256 == digest,
                operators.c.disabled_at.is_(None),
                or_(tokens.c.expires_at.is_(None), tokens.c.expires_at > now.isoformat()),
                self._still_known(),
            )
        )
        async with self._store.transaction() as connection:
            row = (await connection.execute(wanted)).one_or_none()
            if row is None or not hmac.compare_digest(row.token_sha256, digest):
                return None
            if row.last_used_at is None or now - datetime.fromisoformat(row.last_used_at) > timedelta(seconds=_SEEN_EVERY_S):
                await connection.execute(update(tokens).where(tokens.c.id == row.token_id).values(last_used_at=now.isoformat()))
        return _operator(row)

    def _still_known(self) -> ColumnElement[bool]:
        """A person of another system is one as long as that has let him in lately: a token must not outlive his account there."""
        since = (self._clock.now() - timedelta(seconds=self._external_s)).isoformat()
        return or_(operators.c.source == "local", operators.c.proved_at > since)

    async def by_password(self, name: str, password: str, address: str = "local") -> Operator | None:
        """Raises LockedOutError after too many failures in a row, whether there is such an operator or not."""
        self._attempts.begin(name, address)
        async with self._store.transaction() as connection:
            row = (await connection.execute(select(operators).where(operators.c.name == name))).one_or_none()
        known = row is not None and row.password_hash and row.disabled_at is None and row.source == "local"
        async with self._hashing:
            good = await asyncio.to_thread(_verified, row.password_hash if row is not None and known else _NOBODY, password)
        if row is None or not known or not good:
            until = self._attempts.locked_until(name, address)
            if row is not None and until is not None and self.on_locked is not None:
                self.on_locked(name, until)
            return None
        self._attempts.succeeded(name, address)
        return _operator(row)

    def attempt(self, name: str, address: str) -> None:
        """Somebody tries to prove by SCRAM that he is `name`; failed until `attempt_succeeded`. Raises LockedOutError."""
        self._attempts.begin(name, address)

    def attempt_succeeded(self, name: str, address: str) -> None:
        self._attempts.succeeded(name, address)

    async def get(self, name: str) -> Operator | None:
        """None when there is none, or he is disabled."""
        async with self._store.transaction() as connection:
            row = (
                await connection.execute(select(operators).where(operators.c.name == name, operators.c.disabled_at.is_(None)))
            ).one_or_none()
        return None if row is None else _operator(row)

    async def scram_verifier(self, name: str) -> tuple[Operator, str] | None:
        """`ana`: her password, or the token she was made with; `ana/ci`: her token of that name."""
        person, _, token_name = name.partition("/")
        now = self._clock.now().isoformat()
        wanted = (
            select(operators, tokens.c.scram_verifier.label("token_verifier"))
            .outerjoin(
                tokens,
                and_(
                    tokens.c.operator == operators.c.name,
                    tokens.c.name == (token_name or FIRST_TOKEN),
                    or_(tokens.c.expires_at.is_(None), tokens.c.expires_at > now),
                ),
            )
            .where(operators.c.name == person, operators.c.disabled_at.is_(None), self._still_known())
        )
        async with self._store.transaction() as connection:
            row = (await connection.execute(wanted)).one_or_none()
        if row is None:
            return None
        verifier = row.token_verifier if token_name else row.scram_verifier or row.token_verifier
        return (_operator(row), verifier) if verifier else None

    # --- second factor (RFC 6238) -------------------------------------------------------------------------------

    async def begin_totp(self, name: str) -> str:
        """A new secret, which counts once `confirm_totp` has seen a code of it."""
        return pyotp.random_base32()

    def fits(self, secret: str, code: str) -> bool:
        """Whether the code is one of this secret, now."""
        return self._totp_step(secret, code, 0) is not None

    async def confirm_totp(self, name: str, secret: str, code: str) -> bool:
        """Keep the secret if the code is of it. Raises LockedOutError."""
        step = self._totp_step(secret, code, 0)
        if step is None:
            return False
        await self._set(name, totp_secret=secret, totp_last_step=step)
        return True

    async def check_totp(self, name: str, code: str) -> bool:
        """Whether it is a code of the operator's device that was not used before. Raises LockedOutError."""
        async with self._store.transaction() as connection:
            row = (await connection.execute(select(operators).where(operators.c.name == name))).one_or_none()
        if row is None or not row.totp_secret:
            return False
        self._check_lock(row)
        step = self._totp_step(row.totp_secret, code, row.totp_last_step)
        if step is not None:
            async with self._store.transaction() as connection:
                used = await connection.execute(
                    update(operators).where(operators.c.name == name, operators.c.totp_last_step < step).values(totp_last_step=step)
                )
            step = step if used.rowcount == 1 else None
        await self._count(name, step is not None)
        return step is not None

    async def remove_totp(self, name: str) -> None:
        await self._set(name, totp_secret=None, totp_last_step=0)

    def _totp_step(self, secret: str, code: str, after: int) -> int | None:
        code = code.replace(" ", "")
        if not re.fullmatch(r"[0-9]{6}", code):
            return None
        now = int(self._clock.now().timestamp()) // _TOTP_STEP_S
        totp = pyotp.TOTP(secret)
        for step in range(now - _TOTP_WINDOW, now + _TOTP_WINDOW + 1):
            if step > after and hmac.compare_digest(totp.generate_otp(step), code):
                return step
        return None

    # --- lockout ------------------------------------------------------------------------------------------------

    def _check_lock(self, row: Row[Any]) -> None:
        if row.locked_until and datetime.fromisoformat(row.locked_until) > self._clock.now():
            raise LockedOutError(datetime.fromisoformat(row.locked_until))

    async def _count(self, name: str, good: bool) -> None:
        async with self._store.transaction() as connection:
            if good:
                await connection.execute(update(operators).where(operators.c.name == name).values(failures=0, locked_until=None))
                return
            await connection.execute(update(operators).where(operators.c.name == name).values(failures=operators.c.failures + 1))
            failures = (await connection.execute(select(operators.c.failures).where(operators.c.name == name))).scalar_one()
            if failures >= LOCKOUT_AFTER:
                seconds = min(LOCKOUT_S * 2 ** min(failures - LOCKOUT_AFTER, 12), LOCKOUT_LIMIT_S)
                until = self._clock.now() + timedelta(seconds=seconds)
                await connection.execute(update(operators).where(operators.c.name == name).values(locked_until=until.isoformat()))
                if self.on_locked is not None:
                    self.on_locked(name, until)

    # --- by admins ----------------------------------------------------------------------------------------------

    async def add(
        self,
        name: str,
        role: Role,
        token: str | None = None,
        *,
        databases: Sequence[str] = (),
        max_severity: str = "",
        database_roles: Sequence[str] = (),
        may_skip_backup: bool = False,
    ) -> str:
        """Make an operator, or give an existing one this role and a new first token; return the token, which is shown once.

        Raises OperatorError.
        """
        values = {
            "role": str(role),
            "databases": json.dumps(list(databases)),
            "max_severity": max_severity,
            "database_roles": json.dumps(list(database_roles)),
            "may_skip_backup": int(may_skip_backup),
            "disabled_at": None,
        }
        check_name(name)
        async with self._store.transaction() as connection:
            changed = await connection.execute(update(operators).where(operators.c.name == name).values(**values))
            if not changed.rowcount:
                await connection.execute(
                    insert(operators).values(name=name, source="local", created_at=self._clock.now().isoformat(), **values)
                )
            await connection.execute(delete(tokens).where(tokens.c.operator == name, tokens.c.name == FIRST_TOKEN))
            return await self._insert_token(connection, name, FIRST_TOKEN, None, token)

    async def change(
        self,
        name: str,
        *,
        role: Role | None = None,
        databases: Sequence[str] | None = None,
        max_severity: str | None = None,
        database_roles: Sequence[str] | None = None,
        may_skip_backup: bool | None = None,
    ) -> bool:
        """Another role or scope, from the next request on; None leaves it as it is."""
        values: dict[str, str | int] = {}
        if role is not None:
            values["role"] = str(role)
        if databases is not None:
            values["databases"] = json.dumps(list(databases))
        if max_severity is not None:
            values["max_severity"] = max_severity
        if database_roles is not None:
            values["database_roles"] = json.dumps(list(database_roles))
        if may_skip_backup is not None:
            values["may_skip_backup"] = int(may_skip_backup)
        return await self._set(name, **values)

    async def add_token(self, operator: str, name: str, lifetime_s: float | None) -> str:
        """A further token; it is shown once. Raises OperatorError."""
        check_name(name)
        expires_at = None if lifetime_s is None else self._clock.now() + timedelta(seconds=lifetime_s)
        async with self._store.transaction() as connection:
            if not (await connection.execute(select(operators.c.name).where(operators.c.name == operator))).one_or_none():
                raise OperatorError(f"there is no operator {operator}")
            taken = select(tokens.c.id).where(tokens.c.operator == operator, tokens.c.name == name)
            if (await connection.execute(taken)).one_or_none():
                raise OperatorError(f"{operator} has a token {name} already; revoke it first, or choose another name")
            return await self._insert_token(connection, operator, name, expires_at, None)

    async def _insert_token(
        self, connection: AsyncConnection, operator: str, name: str, expires_at: datetime | None, token: str | None
    ) -> str:
        token = token or new_token()
        await connection.execute(
            insert(tokens).values(
                operator=operator,
                name=name,
                token_sha256=token_digest(token),
                scram_verifier=scram_verifier(token),
                created_at=self._clock.now().isoformat(),
                expires_at=expires_at.isoformat() if expires_at else None,
            )
        )
        return token

    async def revoke_token(self, operator: str, name: str) -> bool:
        """Ends the web sessions that began with a token, too."""
        async with self._store.transaction() as connection:
            gone = (await connection.execute(delete(tokens).where(tokens.c.operator == operator, tokens.c.name == name))).rowcount
            # Browsers that came in by a token; of which one, nobody wrote down.
            await connection.execute(delete(web_sessions).where(web_sessions.c.operator == operator, web_sessions.c.source == "token"))
        self.generation += 1
        return bool(gone)

    async def set_password(self, name: str, password: str) -> None:
        """Ends the operator's web sessions. Raises OperatorError."""
        check_password(password, name)
        async with self._hashing:
            hashed = await asyncio.to_thread(_hasher.hash, passwords.prepared(password))
        if not await self._set(name, password_hash=hashed, scram_verifier=scram_verifier(password)):
            raise OperatorError(f"there is no operator {name}")
        self._attempts.forget(name)

    async def set_disabled(self, name: str, disabled: bool) -> bool:
        """A disabled operator's tokens and sessions are good for nothing. Enabling ends every lockout, too."""
        if not disabled:
            self._attempts.forget(name)
        return await self._set(
            name,
            disabled_at=self._clock.now().isoformat() if disabled else None,
            **({} if disabled else {"failures": 0, "locked_until": None}),
        )

    async def _set(self, name: str, **values: str | int | None) -> bool:
        async with self._store.transaction() as connection:
            changed = (await connection.execute(update(operators).where(operators.c.name == name).values(**values))).rowcount
            if {"password_hash", "disabled_at"} & set(values):
                await connection.execute(delete(web_sessions).where(web_sessions.c.operator == name))
        self.generation += 1
        return bool(changed)

    async def remove(self, name: str) -> bool:
        async with self._store.transaction() as connection:
            for table in (tokens, web_sessions):
                await connection.execute(delete(table).where(table.c.operator == name))
            gone = (await connection.execute(delete(operators).where(operators.c.name == name))).rowcount
        self.generation += 1
        return bool(gone)

    async def people(self) -> list[Person]:
        """All operators with their tokens."""
        async with self._store.transaction() as connection:
            rows = (await connection.execute(select(operators).order_by(operators.c.name))).all()
            theirs = [_token(row) for row in (await connection.execute(select(tokens).order_by(tokens.c.name))).all()]
        guessed = self._attempts.locked()
        return [
            Person(
                operator=_operator(row),
                created_at=datetime.fromisoformat(row.created_at),
                disabled=row.disabled_at is not None,
                has_password=bool(row.password_hash),
                locked_until=max(filter(None, (_moment(row.locked_until), guessed.get(row.name))), default=None),
                tokens=tuple(t for t in theirs if t.operator == row.name),
            )
            for row in rows
        ]

    async def upsert_external(self, name: str, role: Role, source: str, subject: str = "") -> Operator:
        """An operator whom another system has proved: his row keeps scope and second factor, his role is that system's.

        Names of other systems have no case. `subject` is the account there, which stays the same when somebody changes his name or
        address: an account is one operator and an operator is one account, so that nobody becomes another, or two.

        Raises OperatorError, also when the name is an operator's of elsewhere: another system must not take it over.
        """
        name = name.lower()
        if not _EXTERNAL_NAME.fullmatch(name):
            raise OperatorError(f"{name!r}: a name from another system has letters a to z, digits and any of . _ @ + -, 120 at most")
        now = self._clock.now().isoformat()
        async with self._store.transaction() as connection:
            rows = (await connection.execute(select(operators).where(func.lower(operators.c.name) == name))).all()
            row = next((r for r in rows if r.name == name), None)
            strange = next((r for r in rows if r.source != source), None)
            if strange is not None:
                raise OperatorError(f"{name} is a {strange.source} operator")
            if subject:
                same = (await connection.execute(select(operators).where(operators.c.subject == subject))).one_or_none()
                if same is not None and same.name != name:
                    raise OperatorError(f"you are {same.name} here; an admin must remove that operator before you can be {name}")
            if row is None:
                await connection.execute(
                    insert(operators).values(
                        name=name, role=str(role), source=source, created_at=now, subject=subject or None, proved_at=now
                    )
                )
            elif row.disabled_at is not None:
                raise OperatorError(f"{name} is disabled")
            elif subject and row.subject and row.subject != subject:
                raise OperatorError(f"{name} is another account's; an admin must remove that operator first")
            else:
                changed = {"role": str(role), "proved_at": now, "subject": row.subject or subject or None}
                await connection.execute(update(operators).where(operators.c.name == name).values(**changed))
            found = (await connection.execute(select(operators).where(operators.c.name == name))).one()
        if row is not None and row.role != found.role:
            self.generation += 1
        return _operator(found)

    async def withdraw_external(self, name: str, source: str, subject: str = "") -> None:
        """The other system lets him in no more: what he holds here is good for nothing until it does again."""
        name = name.lower()
        async with self._store.transaction() as connection:
            row = (await connection.execute(select(operators).where(operators.c.name == name, operators.c.source == source))).one_or_none()
            if row is None or (row.subject and row.subject != subject):
                return
            lost = {"role": str(Role.VIEWER), "proved_at": None}
            await connection.execute(update(operators).where(operators.c.name == name).values(**lost))
            await connection.execute(delete(web_sessions).where(web_sessions.c.operator == name))
        self.generation += 1

    async def ensure_first(self, token_file: Path) -> None:
        """The first operator's token lies in this file; whichever of file and store is missing is made anew.

        As long as an admin can sign in without it, nothing comes back that was taken away: not the first operator when he was disabled or
        removed, not his token when it was revoked, and not the file.

        Raises StoreError.
        """
        try:
            token = token_file.read_text().strip()
        except FileNotFoundError:
            token = ""
        except OSError as error:
            raise StoreError(f"cannot read {token_file}: {error.strerror}") from error
        admins = select(operators).where(
            operators.c.role == str(Role.ADMIN), operators.c.disabled_at.is_(None), operators.c.source == "local"
        )
        async with self._store.transaction() as connection:
            found = (await connection.execute(admins)).all()
        if any(row.name != FIRST_OPERATOR or row.password_hash for row in found):
            return
        if token:
            # Somebody's token, also when he is disabled: a restart does not let him in again.
            if not await self._is_known(token):
                await self.add(FIRST_OPERATOR, Role.ADMIN, token, may_skip_backup=True)
            return
        token = await self.add(FIRST_OPERATOR, Role.ADMIN, may_skip_backup=True)
        temporary = token_file.with_suffix(".new")
        try:
            temporary.unlink(missing_ok=True)
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(token + "\n")
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(token_file)
        except OSError as error:
            raise StoreError(f"cannot write {token_file}: {error.strerror}") from error

    async def _is_known(self, token: str) -> bool:
        async with self._store.transaction() as connection:
            wanted = select(tokens.c.id).where(tokens.c.token_sha256 == token_digest(token))
            return (await connection.execute(wanted)).one_or_none() is not None

    async def list(self) -> list[Operator]:
        async with self._store.transaction() as connection:
            rows = (await connection.execute(select(operators).order_by(operators.c.name))).all()
        return [_operator(row) for row in rows]


def check_name(name: str) -> None:
    """Raises OperatorError."""
    if not _NAME.fullmatch(name):
        raise OperatorError(f"{name!r}: a name has letters, digits and any of . _ @ + -, 120 at most")


def check_password(password: str, name: str) -> None:
    """Whether it may be this operator's. Raises OperatorError."""
    if why := passwords.problem(password, name):
        raise OperatorError(why)


def _verified(hashed: str, password: str) -> bool:
    try:
        return _hasher.verify(hashed, passwords.prepared(password))
    except (Argon2Error, InvalidHashError):
        return False


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _operator(row: Row[Any]) -> Operator:
    return Operator(
        row.name,
        Role(row.role),
        tuple(json.loads(row.databases)),
        row.max_severity,
        tuple(json.loads(row.database_roles)),
        bool(row.may_skip_backup),
        bool(row.totp_secret),
        row.source,
    )


def _token(row: Row[Any]) -> Token:
    return Token(row.operator, row.name, datetime.fromisoformat(row.created_at), _moment(row.expires_at), _moment(row.last_used_at))
