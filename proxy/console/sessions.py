"""Signed-in browsers: a random id in a cookie, of which the store keeps the digest, and a token against requests from other sites."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete, desc, insert, select, update

from proxy.model import Operator
from proxy.seams import Clock, Operators
from proxy.store import Store
from proxy.store.schema import web_sessions

#: A session that nobody used for so long is over, and at the latest after the setting's hours.
IDLE_S = 3600 * 2
_SEEN_EVERY_S = 60


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who sits at the browser.

    Attributes:
        csrf: must come back with everything that changes something.
        source: "password", "token", "oidc" or "header".
        began_at: when he proved who he is.
    """

    operator: Operator
    csrf: str
    session_id: str
    source: str
    began_at: datetime

    def owns(self, csrf: str) -> bool:
        return hmac.compare_digest(self.csrf.encode(), csrf.encode())


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A browser that is signed in, as its operator sees it."""

    began_at: datetime
    seen_at: datetime
    expires_at: datetime
    address: str
    source: str
    here: bool


class WebSessions:
    """In the store, so that a restart of the proxy signs nobody out."""

    def __init__(self, store: Store, operators: Operators, clock: Clock, lifetime_s: float) -> None:
        self._store = store
        self._operators = operators
        self._clock = clock
        self.lifetime_s = lifetime_s

    async def begin(self, operator: Operator, source: str, address: str) -> Visitor:
        """A new session under a new id, whatever the browser sent: an id from before the login is never taken over."""
        session_id, csrf = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
        now = self._clock.now()
        async with self._store.transaction() as connection:
            await connection.execute(delete(web_sessions).where(web_sessions.c.expires_at < now.isoformat()))
            await connection.execute(
                insert(web_sessions).values(
                    id_sha256=_digest(session_id),
                    operator=operator.name,
                    csrf=csrf,
                    created_at=now.isoformat(),
                    expires_at=(now + timedelta(seconds=self.lifetime_s)).isoformat(),
                    seen_at=now.isoformat(),
                    address=address,
                    source=source,
                )
            )
        return Visitor(operator, csrf, session_id, source, now)

    async def find(self, session_id: str) -> Visitor | None:
        """None when it is over, or its operator is gone or disabled. Raises StoreError."""
        if not session_id:
            return None
        digest, now = _digest(session_id), self._clock.now()
        async with self._store.transaction() as connection:
            row = (await connection.execute(select(web_sessions).where(web_sessions.c.id_sha256 == digest))).one_or_none()
            if row is None:
                return None
            seen = datetime.fromisoformat(row.seen_at)
            if datetime.fromisoformat(row.expires_at) <= now or now - seen > timedelta(seconds=IDLE_S):
                await connection.execute(delete(web_sessions).where(web_sessions.c.id_sha256 == digest))
                return None
            if now - seen > timedelta(seconds=_SEEN_EVERY_S):
                await connection.execute(update(web_sessions).where(web_sessions.c.id_sha256 == digest).values(seen_at=now.isoformat()))
        operator = await self._operators.get(row.operator)
        began_at = datetime.fromisoformat(row.created_at)
        return None if operator is None else Visitor(operator, row.csrf, session_id, row.source, began_at)

    async def of(self, visitor: Visitor) -> list[SignedIn]:
        """All browsers of the visitor's operator whose sessions are not over, the one he sits at first. Raises StoreError."""
        now = self._clock.now()
        wanted = select(web_sessions).where(
            web_sessions.c.operator == visitor.operator.name,
            web_sessions.c.expires_at > now.isoformat(),
            web_sessions.c.seen_at > (now - timedelta(seconds=IDLE_S)).isoformat(),
        )
        async with self._store.transaction() as connection:
            rows = (await connection.execute(wanted.order_by(desc(web_sessions.c.created_at)))).all()
        here = _digest(visitor.session_id)
        moment = datetime.fromisoformat
        found = [
            SignedIn(moment(r.created_at), moment(r.seen_at), moment(r.expires_at), r.address, r.source, r.id_sha256 == here) for r in rows
        ]
        return sorted(found, key=lambda s: not s.here)

    async def end_others(self, visitor: Visitor) -> None:
        """Sign every other browser of the visitor's operator out. Raises StoreError."""
        others = (web_sessions.c.operator == visitor.operator.name, web_sessions.c.id_sha256 != _digest(visitor.session_id))
        async with self._store.transaction() as connection:
            await connection.execute(delete(web_sessions).where(*others))

    async def end(self, session_id: str) -> None:
        """Raises StoreError."""
        async with self._store.transaction() as connection:
            await connection.execute(delete(web_sessions).where(web_sessions.c.id_sha256 == _digest(session_id)))


def _digest(session_id: str) -> str:
    return hashlib.sha256(session_id.encode()).hexdigest()
