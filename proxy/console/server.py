"""The HTTP server under the console: uvicorn, with what it lacks for a door that strangers can reach.

The idea. A connection must send a whole request within a time, and its body within another: whoever drips bytes is let go. There are so
many connections at once, and so many from one address (but for trusted proxies, behind which everybody comes from one). Requests that
are no HTTP get an answer with the same headers as all others. There are no web sockets and no chunked bodies (security.py), so that whoever stands
in front of us and we cannot disagree about where a request ends.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import Counter
from typing import Any, Final, cast

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import STATUS_PHRASES, H11Protocol

from proxy.attempts import network
from proxy.console.security import HEAD_LIMIT_BYTES, SECURITY_HEADERS, is_from

#: From the first byte, or from the last answer, to the end of a request's headers; and from there to the end of its body.
HEAD_S: Final = 10.0
BODY_S: Final = 30.0
CONNECTIONS: Final = 1000
#: Browsers open six, and one for the events of each page.
CONNECTIONS_OF_ONE: Final = 200


def make_server(app: ASGIApp, tls: ssl.SSLContext | None, proxies: list[str]) -> uvicorn.Server:
    """Not started, and without its handling of signals."""
    connections = _Connections(proxies)

    class Protocol(_Protocol):
        book = connections

    config = uvicorn.Config(
        app,
        log_level="error",
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=2,
        loop="none",
        server_header=False,
        # Who is trusted to say where a request comes from is decided in the console, by console_proxies.
        proxy_headers=False,
        http=Protocol,
        ws="none",
        h11_max_incomplete_event_size=HEAD_LIMIT_BYTES,
        ssl_context_factory=(lambda _config, _default: tls) if tls is not None else None,
    )
    config.load()
    return uvicorn.Server(config)


class _Connections:
    """How many there are."""

    def __init__(self, proxies: list[str]) -> None:
        self._proxies = proxies
        self._of: Counter[str] = Counter()

    def enter(self, address: str) -> str | None:
        """The key to leave by; None when there are too many."""
        key = network(address)
        if self._of.total() >= CONNECTIONS or (self._of[key] >= CONNECTIONS_OF_ONE and not is_from(address, self._proxies)):
            return None
        self._of[key] += 1
        return key

    def leave(self, key: str) -> None:
        self._of[key] -= 1
        if self._of[key] <= 0:
            del self._of[key]


class _Protocol(H11Protocol):
    """One connection."""

    book: _Connections

    def __init__(self, *arguments: Any, **options: Any) -> None:  # any: uvicorn's own, passed on
        super().__init__(*arguments, **options)
        self._key: str | None = None
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self._key = self.book.enter(self.client[0] if self.client else "local")
        if self._key is None:
            transport.abort()
            return
        self._wait(HEAD_S)

    def connection_lost(self, exc: Exception | None) -> None:
        self._rest()
        if self._key is not None:
            self.book.leave(self._key)
            self._key = None
        super().connection_lost(exc)

    def handle_events(self) -> None:
        before = self.cycle
        super().handle_events()
        if self.transport.is_closing() or self.conn.their_state in (h11.DONE, h11.MUST_CLOSE, h11.CLOSED, h11.ERROR):
            self._rest()
        elif self.conn.their_state is h11.SEND_BODY and self.cycle is not before:
            self._wait(BODY_S)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self.transport.is_closing() and self.conn.their_state is h11.IDLE:
            self._wait(HEAD_S)

    def send_400_response(self, msg: str) -> None:
        """As uvicorn's, with our headers."""
        self._rest()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close"), (b"cache-control", b"no-store")]
            headers += [(name.lower().encode(), value.encode()) for name, value in SECURITY_HEADERS.items()]
            self._write(h11.Response(status_code=400, headers=headers, reason=STATUS_PHRASES[400]))
            self._write(h11.Data(data=msg.encode()))
            self._write(h11.EndOfMessage())
        self.transport.close()

    def _write(self, event: h11.Event) -> None:
        data = self.conn.send(cast(Any, event))  # any: h11 has an overload for each event
        if data:
            self.transport.write(data)

    # --- deadlines ----------------------------------------------------------------------------------------------

    def _wait(self, seconds: float) -> None:
        self._rest()
        self._deadline = self.loop.call_later(seconds, self._late)

    def _rest(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _late(self) -> None:
        self._deadline = None
        if not self.transport.is_closing():
            self.transport.abort()
