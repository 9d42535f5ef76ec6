"""The function-call sub-protocol (protocol-flow.html#PROTOCOL-FLOW-FUNCTION-CALL)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Self, final

from protocol.messages.base import BackendMessage, FrontendMessage
from protocol.wire import BodyReader, BodyWriter


@final
@dataclass(frozen=True, slots=True)
class FunctionCall(FrontendMessage):
    """Call a function by its OID.

    Wire: Byte1('F') Int32 length, Int32 OID, formats, values, Int16 result format.
    Source: protocol-message-formats.html#PROTOCOL-MESSAGE-FORMATS-FUNCTIONCALL
    """

    type_byte: ClassVar[bytes] = b"F"
    function_oid: int
    argument_formats: tuple[int, ...]
    arguments: tuple[bytes | None, ...] = field(repr=False)
    result_format: int

    @classmethod
    def decode_body(cls, body: BodyReader) -> Self:
        return cls(
            body.uint32(),
            body.formats(),
            body.values(),
            body.int16(),
        )

    def encode_body(self, out: BodyWriter) -> None:
        out.uint32(self.function_oid)
        out.formats(self.argument_formats)
        out.values(self.arguments)
        out.int16(self.result_format)


@final
@dataclass(frozen=True, slots=True)
class FunctionCallResponse(BackendMessage):
    """What the function returned.

    Wire: Byte1('V') Int32 length, value.
    Source: protocol-message-formats.html#PROTOCOL-MESSAGE-FORMATS-FUNCTIONCALLRESPONSE

    Attributes:
        value: None is NULL.
    """

    type_byte: ClassVar[bytes] = b"V"
    value: bytes | None = field(repr=False)

    @classmethod
    def decode_body(cls, body: BodyReader) -> Self:
        return cls(body.value())

    def encode_body(self, out: BodyWriter) -> None:
        out.value(self.value)
