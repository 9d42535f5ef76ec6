"""Reading and writing the fields of one message body (protocol-message-types.html)."""

from __future__ import annotations

from protocol.errors import LocalProtocolError, RemoteProtocolError


class BodyReader:
    """Takes fields off the front of a body. Every method raises RemoteProtocolError when the body is too short."""

    __slots__ = ("_body", "_position")

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._position = 0

    def raw(self, size: int) -> bytes:
        """`size` bytes as they are (Byten)."""
        end = self._position + size
        if size < 0 or end > len(self._body):
            raise RemoteProtocolError("insufficient data left in message")
        taken = self._body[self._position : end]
        self._position = end
        return taken

    def rest(self) -> bytes:
        """All that is left."""
        return self.raw(len(self._body) - self._position)

    @property
    def left(self) -> int:
        return len(self._body) - self._position

    def byte(self) -> bytes:
        return self.raw(1)

    def int8(self) -> int:
        return self.raw(1)[0]

    def int16(self) -> int:
        return int.from_bytes(self.raw(2), "big", signed=True)

    def uint16(self) -> int:
        """A count: PostgreSQL reads these as unsigned."""
        return int.from_bytes(self.raw(2), "big")

    def int32(self) -> int:
        return int.from_bytes(self.raw(4), "big", signed=True)

    def uint32(self) -> int:
        """An OID, a process id or a secret."""
        return int.from_bytes(self.raw(4), "big")

    def string(self) -> bytes:
        """A String, without its NUL."""
        end = self._body.find(0, self._position)
        if end < 0:
            raise RemoteProtocolError("invalid string in message")
        taken = self._body[self._position : end]
        self._position = end + 1
        return taken

    def value(self) -> bytes | None:
        """Int32 length and as many bytes; -1 is NULL, anything below is refused."""
        size = self.int32()
        if size == -1:
            return None
        return self.raw(size)

    def values(self) -> tuple[bytes | None, ...]:
        """Int16 count, then as many values."""
        return tuple(self.value() for _ in range(self.uint16()))

    def formats(self) -> tuple[int, ...]:
        """Int16 count, then as many format codes: 0 text, 1 binary."""
        codes = tuple(self.uint16() for _ in range(self.uint16()))
        if any(code not in (0, 1) for code in codes):
            raise RemoteProtocolError("unsupported format code")
        return codes

    def finish(self) -> None:
        """Bytes left over are a violation, not slack."""
        if self.left:
            raise RemoteProtocolError("invalid message format")


class BodyWriter:
    """Collects the fields of a body. Raises LocalProtocolError for what cannot be put into a field."""

    __slots__ = ("_parts",)

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def body(self) -> bytes:
        return b"".join(self._parts)

    def raw(self, data: bytes) -> None:
        self._parts.append(data)

    def byte(self, data: bytes) -> None:
        if len(data) != 1:
            raise LocalProtocolError("a Byte1 field takes one byte")
        self._parts.append(data)

    def _integer(self, number: int, size: int, signed: bool) -> None:
        try:
            self._parts.append(number.to_bytes(size, "big", signed=signed))
        except OverflowError:
            raise LocalProtocolError(f"number does not fit into {size} bytes") from None

    def int8(self, number: int) -> None:
        self._integer(number, 1, False)

    def int16(self, number: int) -> None:
        self._integer(number, 2, True)

    def uint16(self, number: int) -> None:
        self._integer(number, 2, False)

    def int32(self, number: int) -> None:
        self._integer(number, 4, True)

    def uint32(self, number: int) -> None:
        self._integer(number, 4, False)

    def string(self, text: bytes) -> None:
        if 0 in text:
            raise LocalProtocolError("a String cannot hold a NUL: it would end the field and begin another")
        self._parts.append(text + b"\0")

    def value(self, value: bytes | None) -> None:
        if value is None:
            self.int32(-1)
        else:
            self.int32(len(value))
            self._parts.append(value)

    def values(self, values: tuple[bytes | None, ...]) -> None:
        self.uint16(len(values))
        for value in values:
            self.value(value)

    def formats(self, codes: tuple[int, ...]) -> None:
        self.uint16(len(codes))
        for code in codes:
            self.uint16(code)
