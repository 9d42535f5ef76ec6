"""The COPY sub-protocol (protocol-flow.html#PROTOCOL-COPY). CopyData and CopyDone go both ways."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Self, final

from protocol.errors import RemoteProtocolError
from protocol.messages.base import BackendMessage, EmptyBody, FrontendMessage
from protocol.wire import BodyReader, BodyWriter


def _formats(body: BodyReader) -> tuple[int, tuple[int, ...]]:
    overall = body.int8()
    codes = body.formats()
    if overall not in (0, 1):
        raise RemoteProtocolError("unsupported format code")
    return overall, codes


@final
@dataclass(frozen=True, slots=True)
class CopyData(FrontendMessage):
    """A piece of COPY data; both ways. Its boundaries mean nothing to the frontend's data.

    Wire: Byte1('d') Int32 length, Byten data.
    Source: protocol-message-formats.html#PROTOCOL-MESSAGE-FORMATS-COPYDATA
    """

    type_byte: ClassVar[bytes] = b"d"
    data: bytes = field(repr=False)

    @classmethod
    def decode_body(cls, body: BodyReader) -> Self:
        return cls(body.rest())

    def encode_body(self, out: BodyWriter) -> None:
        out.raw(self.data)


@final
@dataclass(frozen=True, slots=True)
class CopyDone(EmptyBody, FrontendMessage):
    """The end of COPY data; both ways.

    Wire: Byte1('c') Int32(4).
    Source: protocol-message-formats.html#PROTOCOL-MESSAGE-FORMATS-COPYDONE
    """

    type_byte: ClassVar[bytes] = b"c"


@final
@dataclass(frozen=True, slots=True)
class CopyFail(FrontendMessage):
    """The frontend gives up; the backend answers with an error.

    Wire: Byte1('f') Int32 length, String reason.
    Source: protocol-message-formats.html#PROTOCOL-MESSAGE-FORMATS-COPYFAIL
    """

    type_byte: ClassVar[bytes] = b"f"
    reason: bytes

    @classmethod
    def decode_body(cls, body: BodyReader) -> Self:
        return cls(body.string())

    def encode_body(self, out: BodyWriter) -> None:
        out.string(self.reason)


@final
@dataclass(frozen=True, slots=True)
class CopyInResponse(BackendMessage):
    """The backend waits for COPY data.

    Wire: Byte1('G') Int32 length, Int8 overall format, Int16 n, then n * Int16 column format.
    Source: protocol-message-formats.html#PROTOCOL-MESSAGE-FORMATS-COPYINRESPONSE

    Attributes:
        overall_format: 0 text, 1 binary.
        column_formats: one per column.
    """

    type_byte: ClassVar[bytes] = b"G"
    overall_format: int
    column_formats: tuple[int, ...] = ()

    @classmethod
    def decode_body(cls, body: BodyReader) -> Self:
        return cls(*_formats(body))

    def encode_body(self, out: BodyWriter) -> None:
        out.int8(self.overall_format)
        out.formats(self.column_formats)


@final
@dataclass(frozen=True, slots=True)
class CopyOutResponse(BackendMessage):
    """COPY data follows.

    Wire: Byte1('H') Int32 length, Int8 overall format, Int16 n, then n * Int16 column format.
    Source: protocol-message-formats.html#PROTOCOL-MESSAGE-FORMATS-COPYOUTRESPONSE

    Attributes:
        overall_format: 0 text, 1 binary.
        column_formats: one per column.
    """

    type_byte: ClassVar[bytes] = b"H"
    overall_format: int
    column_formats: tuple[int, ...] = ()

    @classmethod
    def decode_body(cls, body: BodyReader) -> Self:
        return cls(*_formats(body))

    def encode_body(self, out: BodyWriter) -> None:
        out.int8(self.overall_format)
        out.formats(self.column_formats)


@final
@dataclass(frozen=True, slots=True)
class CopyBothResponse(BackendMessage):
    """COPY data both ways: streaming replication.

    Wire: Byte1('W') Int32 length, Int8 overall format, Int16 n, then n * Int16 column format.
    Source: protocol-message-formats.html#PROTOCOL-MESSAGE-FORMATS-COPYBOTHRESPONSE

    Attributes:
        overall_format: 0 text, 1 binary.
        column_formats: one per column.
    """

    type_byte: ClassVar[bytes] = b"W"
    overall_format: int
    column_formats: tuple[int, ...] = ()

    @classmethod
    def decode_body(cls, body: BodyReader) -> Self:
        return cls(*_formats(body))

    def encode_body(self, out: BodyWriter) -> None:
        out.int8(self.overall_format)
        out.formats(self.column_formats)
