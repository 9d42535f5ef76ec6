"""Frontend and backend messages written out by hand, so that tests of the core do not rest on the codec under test."""

from __future__ import annotations


def message(kind: bytes, body: bytes = b"") -> bytes:
    return kind + (len(body) + 4).to_bytes(4, "big") + body


def query(script: str) -> bytes:
    return message(b"Q", script.encode() + b"\0")


def parse(script: str, name: str = "") -> bytes:
    return message(b"P", name.encode() + b"\0" + script.encode() + b"\0\0\0")


def bind(portal: str = "", statement: str = "", *values: str | None) -> bytes:
    body = portal.encode() + b"\0" + statement.encode() + b"\0\0\0" + len(values).to_bytes(2, "big")
    for value in values:
        body += b"\xff\xff\xff\xff" if value is None else len(value.encode()).to_bytes(4, "big") + value.encode()
    return message(b"B", body + b"\0\0")


def describe(name: str = "", kind: bytes = b"P") -> bytes:
    return message(b"D", kind + name.encode() + b"\0")


def execute(portal: str = "", limit: int = 0) -> bytes:
    return message(b"E", portal.encode() + b"\0" + limit.to_bytes(4, "big"))


def close(name: str = "", kind: bytes = b"S") -> bytes:
    return message(b"C", kind + name.encode() + b"\0")


SYNC = message(b"S")
FLUSH = message(b"H")
TERMINATE = message(b"X")

PARSE_COMPLETE = message(b"1")
BIND_COMPLETE = message(b"2")
CLOSE_COMPLETE = message(b"3")
NO_DATA = message(b"n")
PORTAL_SUSPENDED = message(b"s")
EMPTY_QUERY = message(b"I")


def ready(status: str = "I") -> bytes:
    return message(b"Z", status.encode())


def complete(tag: str) -> bytes:
    return message(b"C", tag.encode() + b"\0")


def row(*values: str) -> bytes:
    body = len(values).to_bytes(2, "big")
    for value in values:
        body += len(value.encode()).to_bytes(4, "big") + value.encode()
    return message(b"D", body)


def error(code: str = "42601", text: str = "syntax error", severity: str = "ERROR") -> bytes:
    return message(
        b"E",
        b"".join(k + v.encode() + b"\0" for k, v in ((b"S", severity), (b"V", severity), (b"C", code), (b"M", text))) + b"\0",
    )


def parameter_status(name: str, value: str) -> bytes:
    return message(b"S", name.encode() + b"\0" + value.encode() + b"\0")


def split(stream: bytes) -> list[tuple[str, bytes]]:
    """Whole messages as (type, body)."""
    found: list[tuple[str, bytes]] = []
    position = 0
    while position < len(stream):
        end = position + 1 + int.from_bytes(stream[position + 1 : position + 5], "big")
        assert end <= len(stream), "a message was cut off"
        found.append((chr(stream[position]), stream[position + 5 : end]))
        position = end
    return found


def fields(body: bytes) -> dict[str, str]:
    """Of an ErrorResponse or NoticeResponse."""
    return {part[:1].decode(): part[1:].decode() for part in body.split(b"\0") if part}
