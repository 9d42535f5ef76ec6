"""Errors, and what the backend sends of its own accord (protocol-flow.html#PROTOCOL-ASYNC)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self, final

from protocol.messages.base import BackendMessage
from protocol.wire import BodyReader, BodyWriter


def _decode_fields(body: BodyReader) -> tuple[tuple[bytes, bytes], ...]:
    found: list[tuple[bytes, bytes]] = []
    while (code := body.byte()) != b"\0":
        found.append((code, body.string()))
    return tuple(found)


def _encode_fields(fields: tuple[tuple[bytes, bytes], ...], out: BodyWriter) -> None:
    for code, value in fields:
        out.byte(code)
        out.string(value)
    out.byte(b"\0")


@final
@dataclass(frozen=True, slots=True)
class ErrorResponse(BackendMessage):
    """Something failed.

    Wire: Byte1('E') Int32 length, then Byte1 field code and String value, …, Byte1(0).
    Source: protocol-message-formats.html#PROTOCOL-MESSAGE-FORMATS-ERRORRESPONSE; field codes: protocol-error-fields.html
    """

    type_byte: ClassVar[bytes] = b"E"
    fields: tuple[tuple[bytes, bytes], ...]

    def get(self, code: bytes) -> bytes:
        """The value of a field, b"" when it is missing."""
        return dict(self.fields).get(code, b"")

    @classmethod
    def decode_body(cls, body: BodyReader) -> Self:
        return cls(_decode_fields(body))

    def encode_body(self, out: BodyWriter) -> None:
        _encode_fields(self.fields, out)


@final
@dataclass(frozen=True, slots=True)
class NoticeResponse(BackendMessage):
    """Something to know; changes nothing.

    Wire: Byte1('N') Int32 length, then Byte1 field code and String value, …, Byte1(0).
    Source: protocol-message-formats.html#PROTOCOL-MESSAGE-FORMATS-NOTICERESPONSE; field codes: protocol-error-fields.html
    """

    type_byte: ClassVar[bytes] = b"N"
    fields: tuple[tuple[bytes, bytes], ...]

    def get(self, code: bytes) -> bytes:
        """The value of a field, b"" when it is missing."""
        return dict(self.fields).get(code, b"")

    @classmethod
    def decode_body(cls, body: BodyReader) -> Self:
        return cls(_decode_fields(body))

    def encode_body(self, out: BodyWriter) -> None:
        _encode_fields(self.fields, out)


@final
@dataclass(frozen=True, slots=True)
class NotificationResponse(BackendMessage):
    """A NOTIFY on a channel the session listens to.

    Wire: Byte1('A') Int32 length, Int32 process id, String channel, String payload.
    Source: protocol-message-formats.html#PROTOCOL-MESSAGE-FORMATS-NOTIFICATIONRESPONSE
    """

    type_byte: ClassVar[bytes] = b"A"
    process_id: int
    channel: bytes
    payload: bytes

    @classmethod
    def decode_body(cls, body: BodyReader) -> Self:
        return cls(
            body.uint32(),
            body.string(),
            body.string(),
        )

    def encode_body(self, out: BodyWriter) -> None:
        out.uint32(self.process_id)
        out.string(self.channel)
        out.string(self.payload)


@final
@dataclass(frozen=True, slots=True)
class ParameterStatus(BackendMessage):
    """A reported setting has this value now.

    Wire: Byte1('S') Int32 length, String name, String value.
    Source: protocol-message-formats.html#PROTOCOL-MESSAGE-FORMATS-PARAMETERSTATUS
    """

    type_byte: ClassVar[bytes] = b"S"
    name: bytes
    value: bytes

    @classmethod
    def decode_body(cls, body: BodyReader) -> Self:
        return cls(
            body.string(),
            body.string(),
        )

    def encode_body(self, out: BodyWriter) -> None:
        out.string(self.name)
        out.string(self.value)
