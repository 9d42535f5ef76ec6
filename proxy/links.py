"""A transport while its link is being set up: bytes collect until somebody asks for them."""

from __future__ import annotations

import asyncio
from typing import cast

#: More than this unread stops the reading.
_LIMIT_BYTES = 1 << 20


class Intake(asyncio.Protocol):
    """Collects what comes in before a session takes the transport over.

    Attributes:
        transport: set once connected.
        closed: nothing more will come.
    """

    def __init__(self, wake: asyncio.Event, initial: bytes = b"") -> None:
        self.transport: asyncio.Transport | None = None
        self.closed = False
        self._buffer = bytearray(initial)
        self._wake = wake

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the methods, but not the class.
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if len(self._buffer) > _LIMIT_BYTES and self.transport is not None:
            self.transport.pause_reading()
        self._wake.set()

    def eof_received(self) -> bool:
        self.closed = True
        self._wake.set()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self._wake.set()

    def take(self) -> bytes:
        """All bytes so far."""
        taken = bytes(self._buffer)
        self._buffer.clear()
        if self.transport is not None and not self.transport.is_closing() and not self.transport.is_reading():
            self.transport.resume_reading()
        return taken
