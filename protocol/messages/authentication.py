"""The authentication exchange (protocol-flow.html#PROTOCOL-FLOW-START-UP, sasl-authentication.html).

Four frontend messages share the type byte 'p': only the backend's last request says which one it is."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar, Self, final

from protocol.errors import RemoteProtocolError
from protocol.messages.base import BackendMessage, FrontendMessage
from protocol.wire import BodyReader, BodyWriter


class Authentication(BackendMessage):
    """A request of the backend in the authentication phase; they share the type byte 'R' and differ in a code."""

    __slots__ = ()
    type_byte: ClassVar[bytes] = b"R"
    code: ClassVar[int]

    @abstractmethod
    def encode_fields(self, out: BodyWriter) -> None:
        """Write what follows the code."""

    def encode_body(self, out: BodyWriter) -> None:
        out.int32(self.code)
        self.encode_fields(out)


def decode_authentication(body: BodyReader) -> Authentication:
    """Decode the body of an 'R' message, its code included. Raises RemoteProtocolError."""
    code = body.int32()
    for cls in _BY_CODE:
        if cls.code == code:
            return cls.decode_body(body)
    raise RemoteProtocolError("unknown authentication request")


@final
@dataclass(frozen=True, slots=True)
class AuthenticationOk(Authentication):
    """The frontend is let in.

    Wire: Byte1('R') Int32 length, Int32(0).
    Source: protocol-message-formats.html#PROTOCOL-MESSAGE-FORMATS-AUTHENTICATIONOK
    """

    code: ClassVar[int] = 0

    @classmethod
    def decode_body(cls, body: BodyReader) -> Self:
        return cls()

    def encode_fields(self, out: BodyWriter) -> None:
        return None


@final
@dataclass(frozen=True, slots=True)
class AuthenticationKerberosV5(Authentication):
    """Kerberos V5 is asked for; no longer used.

    Wire: Byte1('R') Int32 length, Int32(2).
    Source: protocol-message-formats.html#PROTOCOL-MESSAGE-FORMATS-AUTHENTICATIONKERBEROSV5
    """

    code: ClassVar[int] = 2

    @classmethod
    def decode_body(cls, body: BodyReader) -> Self:
        return cls()

    def encode_fields(self, out: BodyWriter) -> None:
        return None


@final
@dataclass(frozen=True, slots=True)
class AuthenticationCleartextPassword(Authentication):
    """A password in clear is asked for.

    Wire: Byte1('R') Int32 length, Int32(3).
    Source: protocol-message-formats.html#PROTOCOL-MESSAGE-FORMATS-AUTHENTICATIONCLEARTEXTPASSWORD
    """

    code: ClassVar[int] = 3

    @classmethod
    def decode_body(cls, body: BodyReader) -> Self:
        return cls()

    def encode_fields(self, out: BodyWriter) -> None:
        return None


@final
@dataclass(frozen=True, slots=True)
class AuthenticationMD5Password(Authentication):
    """An MD5 digest is asked for.

    Wire: Byte1('R') Int32 length, Int32(5), Byte4 salt.
    Source: protocol-message-formats.html#PROTOCOL-MESSAGE-FORMATS-AUTHENTICATIONMD5PASSWORD
    """

    code: ClassVar[int] = 5
    salt: bytes = field(repr=False)

    @classmethod
    def decode_body(cls, body: BodyReader) -> Self:
        return cls(body.raw(4))

    def encode_fields(self, out: BodyWriter) -> None:
        out.raw(self.salt)


@final
@dataclass(frozen=True, slots=True)
class AuthenticationGSS(Authentication):
    """GSSAPI is asked for.

    Wire: Byte1('R') Int32 length, Int32(7).
    Source: protocol-message-formats.html#PROTOCOL-MESSAGE-FORMATS-AUTHENTICATIONGSS
    """

    code: ClassVar[int] = 7

    @classmethod
    def decode_body(cls, body: BodyReader) -> Self:
        return cls()

    def encode_fields(self, out: BodyWriter) -> None:
        return None


@final
@dataclass(frozen=True, slots=True)
class AuthenticationGSSContinue(Authentication):
    """GSSAPI or SSPI goes on.

    Wire: Byte1('R') Int32 length, Int32(8), Byten data.
    Source: protocol-message-formats.html#PROTOCOL-MESSAGE-FORMATS-AUTHENTICATIONGSSCONTINUE
    """

    code: ClassVar[int] = 8
    data: bytes = field(repr=False)

    @classmethod
    def decode_body(cls, body: BodyReader) -> Self:
        return cls(body.rest())

    def encode_fields(self, out: BodyWriter) -> None:
        out.raw(self.data)


@final
@dataclass(frozen=True, slots=True)
class AuthenticationSSPI(Authentication):
    """SSPI is asked for.

    Wire: Byte1('R') Int32 length, Int32(9).
    Source: protocol-message-formats.html#PROTOCOL-MESSAGE-FORMATS-AUTHENTICATIONSSPI
    """

    code: ClassVar[int] = 9

    @classmethod
    def decode_body(cls, body: BodyReader) -> Self:
        return cls()

    def encode_fields(self, out: BodyWriter) -> None:
        return None


@final
@dataclass(frozen=True, slots=True)
class AuthenticationSASL(Authentication):
    """SASL is asked for, by one of these mechanisms.

    Wire: Byte1('R') Int32 length, Int32(10), then String mechanism, …, Byte1(0).
    Source: protocol-message-formats.html#PROTOCOL-MESSAGE-FORMATS-AUTHENTICATIONSASL
    """

    code: ClassVar[int] = 10
    mechanisms: tuple[bytes, ...]

    @classmethod
    def decode_body(cls, body: BodyReader) -> Self:
        found: list[bytes] = []
        while mechanism := body.string():
            found.append(mechanism)
        return cls(tuple(found))

    def encode_fields(self, out: BodyWriter) -> None:
        for mechanism in self.mechanisms:
            out.string(mechanism)
        out.byte(b"\0")


@final
@dataclass(frozen=True, slots=True)
class AuthenticationSASLContinue(Authentication):
    """A SASL challenge.

    Wire: Byte1('R') Int32 length, Int32(11), Byten data.
    Source: protocol-message-formats.html#PROTOCOL-MESSAGE-FORMATS-AUTHENTICATIONSASLCONTINUE
    """

    code: ClassVar[int] = 11
    data: bytes = field(repr=False)

    @classmethod
    def decode_body(cls, body: BodyReader) -> Self:
        return cls(body.rest())

    def encode_fields(self, out: BodyWriter) -> None:
        out.raw(self.data)


@final
@dataclass(frozen=True, slots=True)
class AuthenticationSASLFinal(Authentication):
    """The SASL outcome, with its additional data.

    Wire: Byte1('R') Int32 length, Int32(12), Byten data.
    Source: protocol-message-formats.html#PROTOCOL-MESSAGE-FORMATS-AUTHENTICATIONSASLFINAL
    """

    code: ClassVar[int] = 12
    data: bytes = field(repr=False)

    @classmethod
    def decode_body(cls, body: BodyReader) -> Self:
        return cls(body.rest())

    def encode_fields(self, out: BodyWriter) -> None:
        out.raw(self.data)


@final
@dataclass(frozen=True, slots=True)
class PasswordMessage(FrontendMessage):
    """A password, or its digest.

    Wire: Byte1('p') Int32 length, String password.
    Source: protocol-message-formats.html#PROTOCOL-MESSAGE-FORMATS-PASSWORDMESSAGE
    """

    type_byte: ClassVar[bytes] = b"p"
    password: bytes = field(repr=False)

    @classmethod
    def decode_body(cls, body: BodyReader) -> Self:
        return cls(body.string())

    def encode_body(self, out: BodyWriter) -> None:
        out.string(self.password)


@final
@dataclass(frozen=True, slots=True)
class SASLInitialResponse(FrontendMessage):
    """The mechanism chosen, and its first message.

    Wire: Byte1('p') Int32 length, String mechanism, Int32 length or -1, Byten data.
    Source: protocol-message-formats.html#PROTOCOL-MESSAGE-FORMATS-SASLINITIALRESPONSE

    Attributes:
        data: None when there is no initial response.
    """

    type_byte: ClassVar[bytes] = b"p"
    mechanism: bytes
    data: bytes | None = field(repr=False)

    @classmethod
    def decode_body(cls, body: BodyReader) -> Self:
        return cls(body.string(), body.value())

    def encode_body(self, out: BodyWriter) -> None:
        out.string(self.mechanism)
        out.value(self.data)


@final
@dataclass(frozen=True, slots=True)
class SASLResponse(FrontendMessage):
    """The answer to a SASL challenge.

    Wire: Byte1('p') Int32 length, Byten data.
    Source: protocol-message-formats.html#PROTOCOL-MESSAGE-FORMATS-SASLRESPONSE
    """

    type_byte: ClassVar[bytes] = b"p"
    data: bytes = field(repr=False)

    @classmethod
    def decode_body(cls, body: BodyReader) -> Self:
        return cls(body.rest())

    def encode_body(self, out: BodyWriter) -> None:
        out.raw(self.data)


@final
@dataclass(frozen=True, slots=True)
class GSSResponse(FrontendMessage):
    """A GSSAPI or SSPI token.

    Wire: Byte1('p') Int32 length, Byten data.
    Source: protocol-message-formats.html#PROTOCOL-MESSAGE-FORMATS-GSSRESPONSE
    """

    type_byte: ClassVar[bytes] = b"p"
    data: bytes = field(repr=False)

    @classmethod
    def decode_body(cls, body: BodyReader) -> Self:
        return cls(body.rest())

    def encode_body(self, out: BodyWriter) -> None:
        out.raw(self.data)


_BY_CODE: tuple[type[Authentication], ...] = (
    AuthenticationOk,
    AuthenticationKerberosV5,
    AuthenticationCleartextPassword,
    AuthenticationMD5Password,
    AuthenticationGSS,
    AuthenticationGSSContinue,
    AuthenticationSSPI,
    AuthenticationSASL,
    AuthenticationSASLContinue,
    AuthenticationSASLFinal,
)
