"""Where a session stands: which requests are in flight, who is owed their replies, and what the backend is doing.

The backend answers strictly in order, so the requests that were sent form a queue, and each message that comes back
belongs to its head. Three facts make the queue more than a counter
(protocol-flow.html#PROTOCOL-FLOW-EXT-QUERY, #PROTOCOL-COPY; each was checked on live servers):

- After an error in an extended-query series the backend skips everything up to the next Sync, simple queries included. The
  queue drops the same entries. When no Sync was sent yet, `skipping` says that whatever is sent before one is lost.
- While the backend reads COPY data it swallows Sync and Flush. A Sync that was sent before the data is owed no
  ReadyForQuery, so it is taken out when CopyInResponse arrives.
- CopyDone and CopyFail outside of a COPY are swallowed as well. Sent ahead of CopyInResponse they leave a marker in the
  queue, so that Syncs behind the end of the data are kept.

An entry's owner says what becomes of its replies: relayed to the frontend, or (we refused a request and put a failing one in
its place) its error replaced by ours. What the tracker cannot explain raises RemoteProtocolError: a session whose
replies cannot be attributed must not go on.
"""

from __future__ import annotations

from collections import deque
from enum import IntEnum
from typing import Final

from protocol.errors import RemoteProtocolError


class Kind(IntEnum):
    QUERY = 0
    FUNCTION_CALL = 1
    SYNC = 2
    PARSE = 3
    BIND = 4
    DESCRIBE = 5
    CLOSE = 6
    EXECUTE = 7
    COPY_END = 8


class CopyMode(IntEnum):
    NONE = 0
    IN = 1
    OUT = 2
    BOTH = 3


_EXTENDED: Final = frozenset({Kind.PARSE, Kind.BIND, Kind.DESCRIBE, Kind.CLOSE, Kind.EXECUTE})

IDLE: Final = 0x49  # 'I'
IN_TRANSACTION: Final = 0x54  # 'T'
FAILED_TRANSACTION: Final = 0x45  # 'E'


class Request:
    """One request in flight.

    Subclasses carry what is to happen when the backend confirms it (`confirmed`, called with the CommandComplete tag or
    b"" ) or when it failed or was skipped (`dropped`, called with the SQLSTATE, or b"" when skipped).
    Requests with nothing to confirm share one instance each.

    Attributes:
        error: what the frontend gets in place of the backend's error; set when the request stands in for one that was
            refused.
    """

    __slots__ = ("error", "kind")

    def __init__(self, kind: Kind, error: bytes | None = None) -> None:
        self.kind = kind
        self.error = error

    def confirmed(self, tag: bytes) -> None:
        """The backend did one statement of it, or all of it."""

    def dropped(self, sqlstate: bytes) -> None:
        """It failed, or was skipped after an earlier error; what was confirmed before stays."""

    def ended(self) -> None:
        """No further reply belongs to it."""


QUERY: Final = Request(Kind.QUERY)
FUNCTION_CALL: Final = Request(Kind.FUNCTION_CALL)
SYNC: Final = Request(Kind.SYNC)
PARSE: Final = Request(Kind.PARSE)
BIND: Final = Request(Kind.BIND)
DESCRIBE: Final = Request(Kind.DESCRIBE)
CLOSE: Final = Request(Kind.CLOSE)
EXECUTE: Final = Request(Kind.EXECUTE)
_COPY_END: Final = Request(Kind.COPY_END)


class Tracker:
    """The state of one session between frontend and backend. Messages are reported by their type.

    Attributes:
        requests: in flight, oldest first.
        transaction_status: of the last ReadyForQuery: IDLE, IN_TRANSACTION or FAILED_TRANSACTION.
        series: number of Syncs sent; two messages of one series are skipped together.
        skipping: the backend will skip what is sent now, up to Sync.
        copy: what the backend's COPY state is, as far as the frontend must respect it.
    """

    __slots__ = ("copy", "requests", "series", "skipping", "transaction_status")

    def __init__(self) -> None:
        self.requests: deque[Request] = deque()
        self.transaction_status: int = IDLE
        self.series: int = 0
        self.skipping: bool = False
        self.copy: CopyMode = CopyMode.NONE

    @property
    def is_quiet(self) -> bool:
        """Nothing is in flight and no transaction is open."""
        return not self.requests and self.transaction_status == IDLE and not self.skipping

    # --- frontend ------------------------------------------------------------------------------------------------

    def sent_sync(self) -> None:
        if self.copy == CopyMode.IN:
            return  # "swallowed": the backend ignores Sync while it reads COPY data
        self.requests.append(SYNC)
        self.series += 1
        self.skipping = False

    def sent_copy_end(self) -> None:
        """CopyDone or CopyFail."""
        if self.copy in (CopyMode.IN, CopyMode.BOTH):
            self.copy = CopyMode.NONE
        elif self.requests:
            self.requests.append(_COPY_END)

    # --- backend -------------------------------------------------------------------------------------------------

    def head(self) -> Request | None:
        requests = self.requests
        while requests and requests[0].kind is Kind.COPY_END:
            requests.popleft()
        return requests[0] if requests else None

    def got_parse_complete(self) -> None:
        self._finish(Kind.PARSE, "ParseComplete")

    def got_bind_complete(self) -> None:
        self._finish(Kind.BIND, "BindComplete")

    def got_close_complete(self) -> None:
        self._finish(Kind.CLOSE, "CloseComplete")

    def got_description(self) -> None:
        """RowDescription or NoData: the last reply to Describe; otherwise it opens the rows of a Query."""
        head = self.head()
        if head is not None and head.kind is Kind.DESCRIBE:
            self.requests.popleft()

    def got_completion(self, tag: bytes) -> None:
        """CommandComplete (its tag) or EmptyQueryResponse (no tag)."""
        head = self.head()
        self.copy = CopyMode.NONE
        if head is None:
            raise RemoteProtocolError("CommandComplete without a request in flight")
        if head.kind is Kind.QUERY:
            if tag:
                head.confirmed(tag)
        elif head.kind is Kind.EXECUTE:
            self.requests.popleft()
            head.confirmed(tag)
            head.ended()
        else:
            raise RemoteProtocolError(f"CommandComplete while {head.kind.name} is answered")

    def got_portal_suspended(self) -> Request:
        return self._finish(Kind.EXECUTE, "PortalSuspended")

    def got_error(self, sqlstate: bytes) -> Request | None:
        """Return the request that failed; None when none was in flight (the backend speaks of its own accord)."""
        head = self.head()
        self.copy = CopyMode.NONE
        if head is None:
            return None
        if head.kind in _EXTENDED:
            requests = self.requests
            state = sqlstate
            while requests and requests[0].kind is not Kind.SYNC:
                skipped = requests.popleft()
                skipped.dropped(state)
                skipped.ended()
                state = b""
            self.skipping = not requests
        else:
            head.dropped(sqlstate)
        return head

    def got_ready_for_query(self, status: int) -> None:
        head = self.head()
        if head is None or head.kind not in (Kind.QUERY, Kind.SYNC, Kind.FUNCTION_CALL):
            raise RemoteProtocolError("ReadyForQuery that nothing asked for")
        self.requests.popleft()
        self.copy = CopyMode.NONE
        self.transaction_status = status
        if head is not SYNC:
            head.ended()

    def got_copy_in(self) -> None:
        """CopyInResponse: Syncs sent so far are swallowed, up to the end of the data if that was sent already."""
        head = self.head()
        if head is None or head.kind not in (Kind.QUERY, Kind.EXECUTE):
            raise RemoteProtocolError("CopyInResponse that nothing asked for")
        self.copy = CopyMode.IN
        kept: list[Request] = []
        for request in list(self.requests)[1:]:
            if self.copy == CopyMode.IN and request.kind is Kind.COPY_END:
                self.copy = CopyMode.NONE
            elif self.copy == CopyMode.IN and request.kind is Kind.SYNC:
                pass
            else:
                kept.append(request)
        self.requests = deque([head, *kept])

    def got_copy_out(self) -> None:
        self.copy = CopyMode.OUT

    def got_copy_both(self) -> None:
        self.copy = CopyMode.BOTH

    def _finish(self, kind: Kind, reply: str) -> Request:
        head = self.head()
        if head is None or head.kind is not kind:
            raise RemoteProtocolError(f"{reply} that nothing asked for")
        self.requests.popleft()
        head.confirmed(b"")
        head.ended()
        return head
