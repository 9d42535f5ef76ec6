"""People who decide: name, role and token, in the store. The token is kept only as digests.

The HTTP API looks a token up by its SHA-256 (it has 256 bits of its own, so nothing slower is needed); the psql console
proves it by SCRAM-SHA-256 (RFC 5802, RFC 7677) against a verifier as PostgreSQL stores them.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from base64 import b64encode
from pathlib import Path
from typing import Final

from sqlalchemy import delete, insert, select, update

from proxy.model import Operator, Role
from proxy.seams import Clock, StoreError
from proxy.store import Store
from proxy.store.schema import operators

FIRST_OPERATOR: Final = "operator"
SCRAM_ITERATIONS: Final = 4096


def new_token() -> str:
    return "pghold_" + secrets.token_urlsafe(32)


def token_digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def scram_verifier(password: str, salt: bytes | None = None, iterations: int = SCRAM_ITERATIONS) -> str:
    """SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey, as in pg_authid.rolpassword (catalog-pg-authid.html)."""
    salt = os.urandom(16) if salt is None else salt
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    stored_key = hashlib.sha256(client_key).digest()
    server_key = hmac.digest(salted, b"Server Key", "sha256")
    keys = f"{b64encode(stored_key).decode()}:{b64encode(server_key).decode()}"
    return f"SCRAM-SHA-256${iterations}:{b64encode(salt).decode()}${keys}"


class SqlOperators:
    """seams.Operators over the store."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def by_token(self, token: str) -> Operator | None:
        digest = token_digest(token)
        async with self._store.transaction() as connection:
            row = (await connection.execute(select(operators).where(operators.c.token_sha256 == digest))).one_or_none()
        if row is None or not hmac.compare_digest(row.token_sha256, digest):
            return None
        return Operator(row.name, Role(row.role))

    async def scram_verifier(self, name: str) -> tuple[Operator, str] | None:
        async with self._store.transaction() as connection:
            row = (await connection.execute(select(operators).where(operators.c.name == name))).one_or_none()
        return None if row is None else (Operator(row.name, Role(row.role)), row.scram_verifier)

    async def add(self, name: str, role: Role, token: str | None = None) -> str:
        """Make an operator, or give an existing one this role and a new token; return the token, which is shown once."""
        token = token or new_token()
        values = {"role": str(role), "token_sha256": token_digest(token), "scram_verifier": scram_verifier(token)}
        async with self._store.transaction() as connection:
            changed = await connection.execute(update(operators).where(operators.c.name == name).values(**values))
            if not changed.rowcount:
                created_at = self._clock.now().isoformat()
                await connection.execute(insert(operators).values(name=name, created_at=created_at, **values))
        return token

    async def remove(self, name: str) -> bool:
        async with self._store.transaction() as connection:
            return bool((await connection.execute(delete(operators).where(operators.c.name == name))).rowcount)

    async def list(self) -> list[Operator]:
        async with self._store.transaction() as connection:
            rows = (await connection.execute(select(operators).order_by(operators.c.name))).all()
        return [Operator(row.name, Role(row.role)) for row in rows]

    async def ensure_first(self, token_file: Path) -> None:
        """The first operator's token lies in this file; whichever of file and store is missing is made anew.

        Raises StoreError.
        """
        try:
            token = token_file.read_text().strip()
        except FileNotFoundError:
            token = ""
        except OSError as error:
            raise StoreError(f"cannot read {token_file}: {error.strerror}") from error
        if token:
            found = await self.by_token(token)
            if found is None:
                await self.add(FIRST_OPERATOR, Role.ADMIN, token)
            return
        token = await self.add(FIRST_OPERATOR, Role.ADMIN)
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
