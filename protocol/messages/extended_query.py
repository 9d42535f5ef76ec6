"""The extended query protocol (protocol-flow.html#PROTOCOL-FLOW-EXT-QUERY)."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import ClassVar, Self, final

from protocol.errors import RemoteProtocolError
from protocol.messages.base import BackendMessage, EmptyBody, FrontendMessage
from protocol.wire import BodyReader, BodyWriter


class ObjectKind(Enum):
    """What Describe and Close are about."""

    STATEMENT = b"S"
    PORTAL = b"P"


def _kind(byte: bytes) -> ObjectKind:
    try:
        return ObjectKind(byte)
    except ValueError:
        raise RemoteProtocolError("invalid message subtype") from None


@final
@dataclass(frozen=True, slots=True)
class Parse(FrontendMessage):
    """Turn SQL text into a prepared statement.

    Wire: Byte1('P') Int32 length, String name, String query, Int16 n, then n * Int32 type OID.
    Source: protocol-message-formats.html#PROTOCOL-MESSAGE-FORMATS-PARSE

    Attributes:
        name: prepared statement to create; empty for the unnamed one.
        query: SQL in the session's client_encoding, without its NUL. Never decoded here.
        parameter_types: type OIDs, 0 for unspecified; may be shorter than the parameter list.
    """

    type_byte: ClassVar[bytes] = b"P"
    name: bytes
    query: bytes
    parameter_types: tuple[int, ...]

    @classmethod
    def decode_body(cls, body: BodyReader) -> Self:
        return cls(
            body.string(),
            body.string(),
            tuple(body.uint32() for _ in range(body.uint16())),
        )

    def encode_body(self, out: BodyWriter) -> None:
        out.string(self.name)
        out.string(self.query)
        out.uint16(len(self.parameter_types))
        for oid in self.parameter_types:
            out.uint32(oid)


@final
@dataclass(frozen=True, slots=True)
class Bind(FrontendMessage):
    """Open a portal: a prepared statement with values for its parameters.

    Wire: Byte1('B') Int32 length, String portal, String statement, formats, values, result formats.
    Source: protocol-message-formats.html#PROTOCOL-MESSAGE-FORMATS-BIND

    Attributes:
        parameter_formats: none (all text), one for all, or one per value; 0 text, 1 binary.
        values: None is NULL.
        result_formats: none (all text), one for all, or one per column.
    """

    type_byte: ClassVar[bytes] = b"B"
    portal: bytes
    statement: bytes
    parameter_formats: tuple[int, ...]
    values: tuple[bytes | None, ...] = field(repr=False)
    result_formats: tuple[int, ...]

    @classmethod
    def decode_body(cls, body: BodyReader) -> Self:
        return cls(
            body.string(),
            body.string(),
            body.formats(),
            body.values(),
            body.formats(),
        )

    def encode_body(self, out: BodyWriter) -> None:
        out.string(self.portal)
        out.string(self.statement)
        out.formats(self.parameter_formats)
        out.values(self.values)
        out.formats(self.result_formats)


@final
@dataclass(frozen=True, slots=True)
class Describe(FrontendMessage):
    """Ask what a prepared statement or portal takes and returns.

    Wire: Byte1('D') Int32 length, Byte1 'S' or 'P', String name.
    Source: protocol-message-formats.html#PROTOCOL-MESSAGE-FORMATS-DESCRIBE
    """

    type_byte: ClassVar[bytes] = b"D"
    kind: ObjectKind
    name: bytes

    @classmethod
    def decode_body(cls, body: BodyReader) -> Self:
        return cls(
            _kind(body.byte()),
            body.string(),
        )

    def encode_body(self, out: BodyWriter) -> None:
        out.byte(self.kind.value)
        out.string(self.name)


@final
@dataclass(frozen=True, slots=True)
class Execute(FrontendMessage):
    """Run a portal.

    Wire: Byte1('E') Int32 length, String portal, Int32 row limit.
    Source: protocol-message-formats.html#PROTOCOL-MESSAGE-FORMATS-EXECUTE

    Attributes:
        row_limit: 0 for no limit.
    """

    type_byte: ClassVar[bytes] = b"E"
    portal: bytes
    row_limit: int

    @classmethod
    def decode_body(cls, body: BodyReader) -> Self:
        return cls(
            body.string(),
            body.int32(),
        )

    def encode_body(self, out: BodyWriter) -> None:
        out.string(self.portal)
        out.int32(self.row_limit)


@final
@dataclass(frozen=True, slots=True)
class Close(FrontendMessage):
    """Forget a prepared statement or portal.

    Wire: Byte1('C') Int32 length, Byte1 'S' or 'P', String name.
    Source: protocol-message-formats.html#PROTOCOL-MESSAGE-FORMATS-CLOSE
    """

    type_byte: ClassVar[bytes] = b"C"
    kind: ObjectKind
    name: bytes

    @classmethod
    def decode_body(cls, body: BodyReader) -> Self:
        return cls(
            _kind(body.byte()),
            body.string(),
        )

    def encode_body(self, out: BodyWriter) -> None:
        out.byte(self.kind.value)
        out.string(self.name)


@final
@dataclass(frozen=True, slots=True)
class Sync(EmptyBody, FrontendMessage):
    """End a series: closes the implicit transaction and is answered by ReadyForQuery.

    Wire: Byte1('S') Int32(4).
    Source: protocol-message-formats.html#PROTOCOL-MESSAGE-FORMATS-SYNC
    """

    type_byte: ClassVar[bytes] = b"S"


@final
@dataclass(frozen=True, slots=True)
class Flush(EmptyBody, FrontendMessage):
    """Ask for the replies that the backend still holds back.

    Wire: Byte1('H') Int32(4).
    Source: protocol-message-formats.html#PROTOCOL-MESSAGE-FORMATS-FLUSH
    """

    type_byte: ClassVar[bytes] = b"H"


@final
@dataclass(frozen=True, slots=True)
class ParseComplete(EmptyBody, BackendMessage):
    """Parse took effect.

    Wire: Byte1('1') Int32(4).
    Source: protocol-message-formats.html#PROTOCOL-MESSAGE-FORMATS-PARSECOMPLETE
    """

    type_byte: ClassVar[bytes] = b"1"


@final
@dataclass(frozen=True, slots=True)
class BindComplete(EmptyBody, BackendMessage):
    """Bind took effect.

    Wire: Byte1('2') Int32(4).
    Source: protocol-message-formats.html#PROTOCOL-MESSAGE-FORMATS-BINDCOMPLETE
    """

    type_byte: ClassVar[bytes] = b"2"


@final
@dataclass(frozen=True, slots=True)
class CloseComplete(EmptyBody, BackendMessage):
    """Close took effect.

    Wire: Byte1('3') Int32(4).
    Source: protocol-message-formats.html#PROTOCOL-MESSAGE-FORMATS-CLOSECOMPLETE
    """

    type_byte: ClassVar[bytes] = b"3"


@final
@dataclass(frozen=True, slots=True)
class ParameterDescription(BackendMessage):
    """The parameter types of a prepared statement.

    Wire: Byte1('t') Int32 length, Int16 n, then n * Int32 type OID.
    Source: protocol-message-formats.html#PROTOCOL-MESSAGE-FORMATS-PARAMETERDESCRIPTION
    """

    type_byte: ClassVar[bytes] = b"t"
    parameter_types: tuple[int, ...]

    @classmethod
    def decode_body(cls, body: BodyReader) -> Self:
        return cls(tuple(body.uint32() for _ in range(body.uint16())))

    def encode_body(self, out: BodyWriter) -> None:
        out.uint16(len(self.parameter_types))
        for oid in self.parameter_types:
            out.uint32(oid)


@final
@dataclass(frozen=True, slots=True)
class NoData(EmptyBody, BackendMessage):
    """The statement or portal returns no rows.

    Wire: Byte1('n') Int32(4).
    Source: protocol-message-formats.html#PROTOCOL-MESSAGE-FORMATS-NODATA
    """

    type_byte: ClassVar[bytes] = b"n"


@final
@dataclass(frozen=True, slots=True)
class PortalSuspended(EmptyBody, BackendMessage):
    """Execute reached its row limit; the portal has more.

    Wire: Byte1('s') Int32(4).
    Source: protocol-message-formats.html#PROTOCOL-MESSAGE-FORMATS-PORTALSUSPENDED
    """

    type_byte: ClassVar[bytes] = b"s"
