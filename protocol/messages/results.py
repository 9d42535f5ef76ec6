"""What the backend answers with: rows, completions, readiness."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import ClassVar, Self, final

from protocol.errors import RemoteProtocolError
from protocol.messages.base import BackendMessage, EmptyBody
from protocol.wire import BodyReader, BodyWriter


class TransactionStatus(Enum):
    """Of ReadyForQuery."""

    IDLE = b"I"
    IN_TRANSACTION = b"T"
    FAILED = b"E"


def _status(byte: bytes) -> TransactionStatus:
    try:
        return TransactionStatus(byte)
    except ValueError:
        raise RemoteProtocolError("unknown transaction status") from None


@final
@dataclass(frozen=True, slots=True)
class Column:
    """One column of a RowDescription; field for field as the documentation lists them."""

    name: bytes
    table_oid: int
    attribute_number: int
    type_oid: int
    type_size: int
    type_modifier: int
    format: int

    @classmethod
    def decode(cls, body: BodyReader) -> Self:
        return cls(
            body.string(),
            body.uint32(),
            body.int16(),
            body.uint32(),
            body.int16(),
            body.int32(),
            body.int16(),
        )

    def encode(self, out: BodyWriter) -> None:
        out.string(self.name)
        out.uint32(self.table_oid)
        out.int16(self.attribute_number)
        out.uint32(self.type_oid)
        out.int16(self.type_size)
        out.int32(self.type_modifier)
        out.int16(self.format)


@final
@dataclass(frozen=True, slots=True)
class RowDescription(BackendMessage):
    """The columns of the rows that follow.

    Wire: Byte1('T') Int32 length, Int16 n, then n columns.
    Source: protocol-message-formats.html#PROTOCOL-MESSAGE-FORMATS-ROWDESCRIPTION
    """

    type_byte: ClassVar[bytes] = b"T"
    columns: tuple[Column, ...]

    @classmethod
    def decode_body(cls, body: BodyReader) -> Self:
        return cls(tuple(Column.decode(body) for _ in range(body.uint16())))

    def encode_body(self, out: BodyWriter) -> None:
        out.uint16(len(self.columns))
        for column in self.columns:
            column.encode(out)


@final
@dataclass(frozen=True, slots=True)
class DataRow(BackendMessage):
    """One row.

    Wire: Byte1('D') Int32 length, Int16 n, then n values.
    Source: protocol-message-formats.html#PROTOCOL-MESSAGE-FORMATS-DATAROW

    Attributes:
        values: one per column; None is NULL.
    """

    type_byte: ClassVar[bytes] = b"D"
    values: tuple[bytes | None, ...] = field(repr=False)

    @classmethod
    def decode_body(cls, body: BodyReader) -> Self:
        return cls(body.values())

    def encode_body(self, out: BodyWriter) -> None:
        out.values(self.values)


@final
@dataclass(frozen=True, slots=True)
class CommandComplete(BackendMessage):
    """A statement is done.

    Wire: Byte1('C') Int32 length, String tag.
    Source: protocol-message-formats.html#PROTOCOL-MESSAGE-FORMATS-COMMANDCOMPLETE
    """

    type_byte: ClassVar[bytes] = b"C"
    tag: bytes

    @classmethod
    def decode_body(cls, body: BodyReader) -> Self:
        return cls(body.string())

    def encode_body(self, out: BodyWriter) -> None:
        out.string(self.tag)


@final
@dataclass(frozen=True, slots=True)
class EmptyQueryResponse(EmptyBody, BackendMessage):
    """The script held no statement.

    Wire: Byte1('I') Int32(4).
    Source: protocol-message-formats.html#PROTOCOL-MESSAGE-FORMATS-EMPTYQUERYRESPONSE
    """

    type_byte: ClassVar[bytes] = b"I"


@final
@dataclass(frozen=True, slots=True)
class ReadyForQuery(BackendMessage):
    """The backend waits for the next query cycle.

    Wire: Byte1('Z') Int32(5) Byte1 status.
    Source: protocol-message-formats.html#PROTOCOL-MESSAGE-FORMATS-READYFORQUERY
    """

    type_byte: ClassVar[bytes] = b"Z"
    status: TransactionStatus

    @classmethod
    def decode_body(cls, body: BodyReader) -> Self:
        return cls(_status(body.byte()))

    def encode_body(self, out: BodyWriter) -> None:
        out.byte(self.status.value)
