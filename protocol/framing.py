"""A byte stream cut into frames, with a limit for each type of message.

Framing is by length only, never by what one read happened to return. A length under 4 is refused, as is a type that the
protocol does not have: whoever sends one is not speaking this protocol, or is trying to make two readers disagree.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from protocol.errors import MessageTooLargeError, RemoteProtocolError
from protocol.messages.startup import STARTUP_LIMIT_BYTES

#: PostgreSQL's PQ_LARGE_MESSAGE_LIMIT: MaxAllocSize - 1.
LARGE_LIMIT_BYTES: Final = (1 << 30) - 2
#: PostgreSQL's PQ_SMALL_MESSAGE_LIMIT.
SMALL_LIMIT_BYTES: Final = 10000
#: PostgreSQL's PG_MAX_AUTH_TOKEN_LENGTH: GSSAPI tokens and SASL data.
AUTHENTICATION_LIMIT_BYTES: Final = 65535

#: As SocketBackend() in the backend sets them; CopyFail and CopyDone as CopyGetData() does.
FRONTEND_LIMITS: Final[Mapping[int, int]] = {
    ord("Q"): LARGE_LIMIT_BYTES,
    ord("F"): LARGE_LIMIT_BYTES,
    ord("B"): LARGE_LIMIT_BYTES,
    ord("P"): LARGE_LIMIT_BYTES,
    ord("d"): LARGE_LIMIT_BYTES,
    ord("C"): SMALL_LIMIT_BYTES,
    ord("D"): SMALL_LIMIT_BYTES,
    ord("E"): SMALL_LIMIT_BYTES,
    ord("H"): SMALL_LIMIT_BYTES,
    ord("S"): SMALL_LIMIT_BYTES,
    ord("X"): SMALL_LIMIT_BYTES,
    ord("c"): SMALL_LIMIT_BYTES,
    ord("f"): SMALL_LIMIT_BYTES,
    ord("p"): AUTHENTICATION_LIMIT_BYTES,
}

#: The backend is trusted with more than libpq's 30,000 bytes for types that are short by nature, but not with all.
#: 64 MiB holds an ErrorResponse that quotes a long statement.
_LONG_REPLY_BYTES: Final = 64 << 20
_SHORT_REPLY_BYTES: Final = 1 << 20
BACKEND_LIMITS: Final[Mapping[int, int]] = {
    **dict.fromkeys(b"DdV", (1 << 31) - 1),
    **dict.fromkeys(b"ENTtA", _LONG_REPLY_BYTES),
    **dict.fromkeys(b"123CIKRSWZGHcnsv", _SHORT_REPLY_BYTES),
}


class Framer:
    """Collects bytes and gives out whole frames.

    Args:
        limits: the largest length allowed, by type byte; a type that is not listed is refused.
    """

    __slots__ = ("_buffer", "_limits")

    def __init__(self, limits: Mapping[int, int]) -> None:
        self._buffer = bytearray()
        self._limits = limits

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Add bytes; yield (type byte, body) for each frame that is complete.

        Raises RemoteProtocolError or MessageTooLargeError, as soon as the header is known.
        """
        buffer = self._buffer
        buffer += data
        while len(buffer) >= 5:
            kind = buffer[0]
            length = int.from_bytes(buffer[1:5], "big")
            limit = self._limits.get(kind)
            if limit is None:
                raise RemoteProtocolError(f"invalid message type {kind}")
            if length < 4:
                raise RemoteProtocolError("invalid message length")
            if length > limit:
                raise MessageTooLargeError(f"message type 0x{kind:02X} of {length} bytes is over the limit", limit)
            if len(buffer) < 1 + length:
                return
            body = bytes(buffer[5 : 1 + length])
            del buffer[: 1 + length]
            yield kind, body

    @property
    def leftover(self) -> bytes:
        """Bytes of a frame that is not complete yet."""
        return bytes(self._buffer)


class StartupFramer:
    """Collects the one packet without a type byte that opens a link."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> bytes | None:
        """Add bytes; return the packet's body once it is complete; what came behind it is `leftover`.

        Raises RemoteProtocolError.
        """
        buffer = self._buffer
        buffer += data
        if len(buffer) < 4:
            return None
        length = int.from_bytes(buffer[:4], "big")
        if not 8 <= length <= STARTUP_LIMIT_BYTES:
            raise RemoteProtocolError("invalid length of startup packet")
        if len(buffer) < length:
            return None
        body = bytes(buffer[4:length])
        del buffer[:length]
        return body

    @property
    def leftover(self) -> bytes:
        return bytes(self._buffer)
