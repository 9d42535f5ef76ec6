"""The simple query protocol (protocol-flow.html#PROTOCOL-FLOW-SIMPLE-QUERY), and the end of a session."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self, final

from protocol.messages.base import EmptyBody, FrontendMessage
from protocol.wire import BodyReader, BodyWriter


@final
@dataclass(frozen=True, slots=True)
class Query(FrontendMessage):
    """Run a script: any number of statements.

    Wire: Byte1('Q') Int32 length, String script.
    Source: protocol-message-formats.html#PROTOCOL-MESSAGE-FORMATS-QUERY

    Attributes:
        query: SQL in the session's client_encoding, without its NUL. Never decoded here.
    """

    type_byte: ClassVar[bytes] = b"Q"
    query: bytes

    @classmethod
    def decode_body(cls, body: BodyReader) -> Self:
        return cls(body.string())

    def encode_body(self, out: BodyWriter) -> None:
        out.string(self.query)


@final
@dataclass(frozen=True, slots=True)
class Terminate(EmptyBody, FrontendMessage):
    """End the session.

    Wire: Byte1('X') Int32(4).
    Source: protocol-message-formats.html#PROTOCOL-MESSAGE-FORMATS-TERMINATE
    """

    type_byte: ClassVar[bytes] = b"X"
