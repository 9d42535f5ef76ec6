"""Packets that open a link, before messages carry a type byte, and the keys that cancel requests use.

Source: Message Formats, protocol-message-formats.html; the order of events: protocol-flow.html#PROTOCOL-FLOW-START-UP.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Final, Self, final

from protocol.errors import LocalProtocolError, RemoteProtocolError
from protocol.messages.base import BackendMessage
from protocol.wire import BodyReader, BodyWriter

SSL_REQUEST_CODE: Final = 80877103
GSSENC_REQUEST_CODE: Final = 80877104
CANCEL_REQUEST_CODE: Final = 80877102

#: "MAX_STARTUP_PACKET_LENGTH" of the backend.
STARTUP_LIMIT_BYTES: Final = 10000


def _packet(body: bytes) -> bytes:
    return (len(body) + 4).to_bytes(4, "big") + body


@final
@dataclass(frozen=True, slots=True)
class StartupMessage:
    """Open a session.

    Wire: Int32 length, Int32 version, then String name, String value, … , Byte1(0).
    Source: protocol-message-formats.html#PROTOCOL-MESSAGE-FORMATS-STARTUPMESSAGE

    Attributes:
        major, minor: of the protocol version asked for, e.g. 3 and 0.
        parameters: in the order they were sent; names beginning with `_pq_.` are protocol extensions.
    """

    major: int
    minor: int
    parameters: tuple[tuple[bytes, bytes], ...]

    def get(self, name: bytes, default: bytes = b"") -> bytes:
        """The value of a parameter; the last one counts, as in the backend."""
        for key, value in reversed(self.parameters):
            if key == name:
                return value
        return default

    def encode(self) -> bytes:
        out = BodyWriter()
        out.uint16(self.major)
        out.uint16(self.minor)
        for name, value in self.parameters:
            if not name:
                raise LocalProtocolError("a parameter needs a name: an empty one ends the list")
            out.string(name)
            out.string(value)
        out.raw(b"\0")
        return _packet(out.body())


@final
@dataclass(frozen=True, slots=True)
class SSLRequest:
    """Ask for TLS. Wire: Int32(8) Int32(80877103). #PROTOCOL-MESSAGE-FORMATS-SSLREQUEST"""

    def encode(self) -> bytes:
        return _packet(SSL_REQUEST_CODE.to_bytes(4, "big"))


@final
@dataclass(frozen=True, slots=True)
class GSSENCRequest:
    """Ask for GSSAPI encryption. Wire: Int32(8) Int32(80877104). #PROTOCOL-MESSAGE-FORMATS-GSSENCREQUEST"""

    def encode(self) -> bytes:
        return _packet(GSSENC_REQUEST_CODE.to_bytes(4, "big"))


@final
@dataclass(frozen=True, slots=True)
class CancelRequest:
    """Cancel what another session is doing.

    Wire: Int32 length, Int32(80877102), Int32 process id, then the key: 4 bytes up to protocol 3.0, 4 to 256 since 3.2.
    Source: protocol-message-formats.html#PROTOCOL-MESSAGE-FORMATS-CANCELREQUEST
    """

    process_id: int
    secret_key: bytes = field(repr=False)

    def encode(self) -> bytes:
        _check_key(self.secret_key, LocalProtocolError)
        return _packet(CANCEL_REQUEST_CODE.to_bytes(4, "big") + self.process_id.to_bytes(4, "big") + self.secret_key)


def _check_key(key: bytes, error: type[LocalProtocolError] | type[RemoteProtocolError]) -> None:
    if not 4 <= len(key) <= 256:
        raise error("a cancel key has 4 to 256 bytes")


StartupPacket = StartupMessage | SSLRequest | GSSENCRequest | CancelRequest


def decode_startup(body: bytes) -> StartupPacket:
    """Decode the packet behind its Int32 length. Raises RemoteProtocolError.

    Any protocol version is decoded, so that the caller can refuse it in the words that fit.
    """
    reader = BodyReader(body)
    code = reader.uint32()
    if code == SSL_REQUEST_CODE:
        reader.finish()
        return SSLRequest()
    if code == GSSENC_REQUEST_CODE:
        reader.finish()
        return GSSENCRequest()
    if code == CANCEL_REQUEST_CODE:
        request = CancelRequest(reader.uint32(), reader.rest())
        _check_key(request.secret_key, RemoteProtocolError)
        return request
    parameters: list[tuple[bytes, bytes]] = []
    if code >> 16 < 3:
        # Before 3.0 the packet had fixed fields; only the version matters, it will be refused.
        return StartupMessage(code >> 16, code & 0xFFFF, ())
    while True:
        name = reader.string()
        if not name:
            break
        parameters.append((name, reader.string()))
    if reader.left:
        raise RemoteProtocolError("invalid startup packet layout: expected terminator as last byte")
    return StartupMessage(code >> 16, code & 0xFFFF, tuple(parameters))


@final
@dataclass(frozen=True, slots=True)
class BackendKeyData(BackendMessage):
    """What a CancelRequest for this session must name.

    Wire: Byte1('K') Int32 length, Int32 process id, Byten key (4 bytes up to 3.0, up to 256 since 3.2).
    Source: protocol-message-formats.html#PROTOCOL-MESSAGE-FORMATS-BACKENDKEYDATA
    """

    type_byte: ClassVar[bytes] = b"K"
    process_id: int
    secret_key: bytes = field(repr=False)

    @classmethod
    def decode_body(cls, body: BodyReader) -> Self:
        process_id, key = body.uint32(), body.rest()
        _check_key(key, RemoteProtocolError)
        return cls(process_id, key)

    def encode_body(self, out: BodyWriter) -> None:
        _check_key(self.secret_key, LocalProtocolError)
        out.uint32(self.process_id)
        out.raw(self.secret_key)


@final
@dataclass(frozen=True, slots=True)
class NegotiateProtocolVersion(BackendMessage):
    """The backend speaks less than was asked for.

    Wire: Byte1('v') Int32 length, Int32 newest version supported, Int32 n, then n * String unknown option.
    Source: protocol-message-formats.html#PROTOCOL-MESSAGE-FORMATS-NEGOTIATEPROTOCOLVERSION

    Attributes:
        version: major in the upper 16 bits, minor in the lower, as in StartupMessage.
    """

    type_byte: ClassVar[bytes] = b"v"
    version: int
    options: tuple[bytes, ...] = ()

    @classmethod
    def decode_body(cls, body: BodyReader) -> Self:
        version, count = body.uint32(), body.uint32()
        return cls(version, tuple(body.string() for _ in range(count)))

    def encode_body(self, out: BodyWriter) -> None:
        out.uint32(self.version)
        out.uint32(len(self.options))
        for option in self.options:
            out.string(option)
