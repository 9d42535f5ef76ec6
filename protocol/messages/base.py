"""What all messages have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Self

from protocol.wire import BodyReader, BodyWriter


class Message(ABC):
    """A message with a type byte: Byte1 type, Int32 length (itself included, the type byte not), body."""

    __slots__ = ()
    type_byte: ClassVar[bytes]

    @classmethod
    @abstractmethod
    def decode_body(cls, body: BodyReader) -> Self:
        """Read the fields. Raises RemoteProtocolError."""

    @abstractmethod
    def encode_body(self, out: BodyWriter) -> None:
        """Write the fields. Raises LocalProtocolError."""

    def encode(self) -> bytes:
        """The whole message as it goes over the wire."""
        out = BodyWriter()
        self.encode_body(out)
        body = out.body()
        return self.type_byte + (len(body) + 4).to_bytes(4, "big") + body


class FrontendMessage(Message):
    """Sent by the frontend."""

    __slots__ = ()


class BackendMessage(Message):
    """Sent by the backend."""

    __slots__ = ()


class EmptyBody(Message):
    """Mixin for messages without fields."""

    __slots__ = ()

    @classmethod
    def decode_body(cls, body: BodyReader) -> Self:
        return cls()

    def encode_body(self, out: BodyWriter) -> None:
        return None
