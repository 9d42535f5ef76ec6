"""Decisions taken ahead of the statement that they let run.

A *retry grant*: the hold expired, its client left, or its client never waited; an operator approves it all the same, and the next time that
the same identity sends the same script with the same values, it runs, once. It is bound to what the approved hold was about (its sight), so
the session looks again before it lets it go. The hold itself goes on: expired → approved → released → done.

A *session grant*: with an approval, the same rules need no further decision in that session for some minutes. Each statement that it lets
run is a hold of its own, approved from the start.

Grants are in the store, so that a restart of the proxy keeps them; a session grant ends with its session.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Insert, Row, desc, insert, select, update

from proxy.holds import SqlHoldBook, decision_text, hold_of
from proxy.model import AuditEvent, Decision, Grant, GrantKind, Hold, HoldId, HoldRequest, HoldState, SessionId
from proxy.records import about
from proxy.seams import AuditLog, Clock, NotPendingError, UnknownHoldError
from proxy.store import Store
from proxy.store.schema import grants, holds

_RETRYABLE: Final = [str(s) for s in (HoldState.PENDING, HoldState.EXPIRED, HoldState.ABANDONED)]


class UnknownGrantError(LookupError):
    """No open grant of that id."""


class SqlGrants:
    """seams.Grants over the store.

    Args:
        lives: whether a session of this process is still there.
    """

    def __init__(
        self, store: Store, book: SqlHoldBook, audit: AuditLog, clock: Clock, retry_timeout_s: float, lives: Callable[[SessionId], bool]
    ) -> None:
        self._store = store
        self._book = book
        self._audit = audit
        self._clock = clock
        self.retry_timeout_s = retry_timeout_s
        self._lives = lives
        #: Session ids begin anew with each process.
        self._epoch = uuid.uuid4().hex

    # --- giving -------------------------------------------------------------------------------------------------

    async def approve_retry(self, hold: Hold, decision: Decision) -> Hold:
        """Approve a hold for which nobody waits: on record first, then for the next time that it is sent.

        Raises NotPendingError, AuditError, StoreError.
        """
        now = self._clock.now()
        until = now + timedelta(seconds=self.retry_timeout_s)
        when = f"for one retry until {until.isoformat(timespec='seconds')}"
        await self._audit.append(about(AuditEvent.APPROVED, hold, operator=decision.operator, reason=decision.reason, outcome=when))
        async with self._store.transaction() as connection:
            moved = await connection.execute(
                update(holds)
                .where(holds.c.id == hold.id, holds.c.state.in_(_RETRYABLE), holds.c.decision.is_(None))
                .values(
                    state=str(HoldState.APPROVED),
                    decision=decision_text(decision),
                    expires_at=until.isoformat(),
                    ended_at=None,
                    outcome=None,
                )
            )
            row = (await connection.execute(select(holds).where(holds.c.id == hold.id))).one_or_none()
            if row is None:
                raise UnknownHoldError(hold.id)
            if moved.rowcount == 1:
                await connection.execute(_row(GrantKind.RETRY, hold, decision, now, until))
        found = hold_of(row)
        if moved.rowcount != 1:
            raise NotPendingError(found)
        self._book.moved(found)
        return found

    async def give_session(self, hold: Hold, decision: Decision) -> int:
        """Let the hold's rules pass in its session; return the grant's id. Raises AuditError, StoreError."""
        now = self._clock.now()
        until = now + timedelta(seconds=decision.session_grant_s)
        what = f"session {hold.request.requester.session_id} until {until.isoformat(timespec='seconds')}"
        await self._audit.append(about(AuditEvent.GRANTED, hold, operator=decision.operator, reason=decision.reason, outcome=what))
        async with self._store.transaction() as connection:
            made = await connection.execute(_row(GrantKind.SESSION, hold, decision, now, until, self._epoch))
            key = made.inserted_primary_key
            assert key is not None
        return int(key[0])

    # --- using --------------------------------------------------------------------------------------------------

    async def use(self, request: HoldRequest) -> Hold | None:
        return await self._use_retry(request) or await self._use_session(request)

    async def _use_retry(self, request: HoldRequest) -> Hold | None:
        who = request.requester
        now = self._clock.now().isoformat()
        fits = select(grants).where(
            grants.c.kind == str(GrantKind.RETRY),
            grants.c.script_sha256 == request.script_sha256,
            grants.c.ended_at.is_(None),
            grants.c.expires_at > now,
            grants.c.role == who.role,
            grants.c.database == who.database,
            grants.c.certificate == who.certificate,
        )
        async with self._store.transaction() as connection:
            for row in (await connection.execute(fits.order_by(grants.c.id))).all():
                approved = hold_of((await connection.execute(select(holds).where(holds.c.id == row.hold_id))).one())
                # The same text can mean something else in another session (EXECUTE of a name): what was found is what was decided.
                if _found(approved.request) != _found(request):
                    continue
                used = await connection.execute(
                    update(grants).where(grants.c.id == row.id, grants.c.ended_at.is_(None)).values(ended_at=now)
                )
                if used.rowcount == 1:
                    return approved
        return None

    async def _use_session(self, request: HoldRequest) -> Hold | None:
        now = self._clock.now()
        fits = select(grants).where(
            grants.c.kind == str(GrantKind.SESSION),
            grants.c.session_id == request.requester.session_id,
            grants.c.epoch == self._epoch,
            grants.c.ended_at.is_(None),
            grants.c.expires_at > now.isoformat(),
        )
        async with self._store.transaction() as connection:
            rows = (await connection.execute(fits.order_by(desc(grants.c.id)))).all()
        for row in rows:
            if set(request.rule_ids) <= set(json.loads(row.rule_ids)):
                reason = f"by the grant of hold {row.hold_id} for this session: {row.reason}"
                return await self._book.open(request, None, Decision(True, row.operator, reason, now, approvers=(row.operator,)))
        return None

    def asked_before(self, request: HoldRequest) -> Hold | None:
        mine, digest, now = _identity(request), request.script_sha256, self._clock.now()
        # The digest first: there can be thousands, and the event loop waits.
        alike = (h for h in self._book.waiting_for_nobody() if h.request.script_sha256 == digest)
        return next((h for h in alike if _identity(h.request) == mine and h.expires_at > now), None)

    # --- seeing and ending --------------------------------------------------------------------------------------

    async def open_ones(self) -> list[Grant]:
        """Those that can still be used, newest first. Raises StoreError."""
        now = self._clock.now().isoformat()
        wanted = select(grants).where(grants.c.ended_at.is_(None), grants.c.expires_at > now).order_by(desc(grants.c.id)).limit(1000)
        async with self._store.transaction() as connection:
            found = [_grant_of(row) for row in (await connection.execute(wanted)).all()]
        return [g for g in found if g.kind is GrantKind.RETRY or (g.epoch == self._epoch and self._lives(SessionId(g.session_id)))]

    async def get(self, grant_id: int) -> Grant:
        """Raises UnknownGrantError, StoreError."""
        grant = next((g for g in await self.open_ones() if g.id == grant_id), None)
        if grant is None:
            raise UnknownGrantError(grant_id)
        return grant

    async def revoke(self, grant: Grant, operator: str) -> None:
        """On record first; then nothing uses it any more. Raises UnknownGrantError, AuditError, StoreError."""
        hold = await self._book.get(grant.hold_id)
        await self._audit.append(about(AuditEvent.GRANT_REVOKED, hold, operator=operator, outcome=f"{grant.kind} grant {grant.id}"))
        if not await self.end(grant.id):
            raise UnknownGrantError(grant.id)
        if grant.kind is GrantKind.RETRY:
            await self._book.move(grant.hold_id, HoldState.WITHDRAWN, f"the approval was taken back by {operator}")

    async def end(self, grant_id: int) -> bool:
        async with self._store.transaction() as connection:
            ended = await connection.execute(
                update(grants).where(grants.c.id == grant_id, grants.c.ended_at.is_(None)).values(ended_at=self._clock.now().isoformat())
            )
        return ended.rowcount == 1

    async def sweep(self) -> None:
        """Expire holds for which no session waits, and retries that did not come. Raises AuditError, StoreError."""
        now = self._clock.now()
        for hold in self._book.waiting_for_nobody():
            if hold.expires_at <= now and await self._book.move(hold.id, HoldState.EXPIRED, "expired"):
                await self._audit.append(about(AuditEvent.EXPIRED, hold, outcome="expired"))
        over = select(grants).where(grants.c.ended_at.is_(None), grants.c.expires_at <= now.isoformat()).limit(1000)
        async with self._store.transaction() as connection:
            late = [_grant_of(row) for row in (await connection.execute(over)).all()]
        for grant in late:
            if await self.end(grant.id) and grant.kind is GrantKind.RETRY:
                await self._expire_retry(grant.hold_id)

    async def _expire_retry(self, hold_id: HoldId) -> None:
        why = "approved, but it was not sent again in time"
        async with self._store.transaction() as connection:
            moved = await connection.execute(
                update(holds)
                .where(holds.c.id == hold_id, holds.c.state == str(HoldState.APPROVED))
                .values(state=str(HoldState.EXPIRED), outcome=why, ended_at=self._clock.now().isoformat())
            )
        if moved.rowcount == 1:
            hold = await self._book.get(hold_id)
            self._book.moved(hold)
            await self._audit.append(about(AuditEvent.EXPIRED, hold, outcome=why))


def _row(kind: GrantKind, hold: Hold, decision: Decision, now: datetime, until: datetime, epoch: str = "") -> Insert:
    """A retry is of one text, whatever the session; a session grant is of one session, whatever the text."""
    request, who = hold.request, hold.request.requester
    return insert(grants).values(
        kind=str(kind),
        hold_id=hold.id,
        operator=decision.operator,
        reason=decision.reason,
        created_at=now.isoformat(),
        expires_at=until.isoformat(),
        role=who.role,
        database=who.database,
        certificate=who.certificate,
        rule_ids=json.dumps(request.rule_ids),
        script_sha256=request.script_sha256 if kind is GrantKind.RETRY else "",
        session_id=who.session_id if kind is GrantKind.SESSION else 0,
        epoch=epoch,
    )


def _found(request: HoldRequest) -> frozenset[tuple[str, str]]:
    return frozenset((f.rule_id, f.message) for f in request.findings)


def _identity(request: HoldRequest) -> tuple[str, str, str, str, frozenset[tuple[str, str]]]:
    """Who asks for what: a decision about one is a decision about the other."""
    who = request.requester
    return who.role, who.database, who.certificate, request.script_sha256, _found(request)


def _grant_of(row: Row[tuple[str, ...]]) -> Grant:
    values = dict(row._mapping)
    return Grant(
        id=int(values["id"]),
        kind=GrantKind(values["kind"]),
        hold_id=HoldId(int(values["hold_id"])),
        operator=values["operator"],
        reason=values["reason"],
        created_at=datetime.fromisoformat(values["created_at"]),
        expires_at=datetime.fromisoformat(values["expires_at"]),
        role=values["role"],
        database=values["database"],
        certificate=values["certificate"],
        script_sha256=values["script_sha256"],
        rule_ids=tuple(json.loads(values["rule_ids"])),
        session_id=int(values["session_id"]),
        epoch=values["epoch"],
        ended_at=datetime.fromisoformat(values["ended_at"]) if values["ended_at"] else None,
    )
