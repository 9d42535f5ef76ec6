"""syslog: RFC 5424 messages over UDP (RFC 5426), TCP with octet counting (RFC 6587, 3.4.1) or a Unix socket.

The message is the record as JSON. Over UDP and datagram sockets nobody says whether it arrived, and what is longer than a datagram goes with
its long texts cut. Over TCP a batch counts as delivered when the other machine's kernel has acknowledged it.
"""

from __future__ import annotations

import array
import errno
import fcntl
import json
import os
import select
import socket
import termios
import time
from collections.abc import Sequence
from typing import Final

from proxy.audit.chain import Record, read_record
from proxy.audit.sinks.base import SinkError
from proxy.audit.targets import Target
from proxy.model import AuditEvent

_TIMEOUT_S: Final = 10.0
#: Of a datagram; RFC 5426 has no larger one on IPv4.
_DATAGRAM_BYTES: Final = 65_000
#: A text is cut to this when the whole is too long for a datagram.
_CUT_CHARACTERS: Final = 2_000
_SEVERITIES: Final = {
    AuditEvent.BREAK_GLASS: 1,
    AuditEvent.AUDIT_FAILED: 2,
    AuditEvent.HELD: 4,
    AuditEvent.DENIED_BY_POLICY: 4,
    AuditEvent.WARNED: 4,
    AuditEvent.OBSERVED: 4,
    AuditEvent.LOGIN_FAILED: 4,
    AuditEvent.OPERATOR_REFUSED: 4,
}
_NOTICE: Final = 5


class SyslogSink:
    def __init__(self, target: Target) -> None:
        self._target = target
        self._socket: socket.socket | None = None
        self._host = _printable(socket.gethostname(), 255)

    def deliver(self, log_id: str, lines: Sequence[bytes]) -> None:
        try:
            link = self._socket = self._socket or self._connect()
            if link.type == socket.SOCK_STREAM:
                self._stream(link, [self._message(log_id, line) for line in lines])
            else:
                for line in lines:
                    message = self._message(log_id, line)
                    link.send(message if len(message) <= _DATAGRAM_BYTES else self._message(log_id, _cut(line)))
        except OSError as error:
            self.close()
            raise SinkError(f"{error.strerror or error}") from None

    def _stream(self, link: socket.socket, messages: list[bytes]) -> None:
        if _hung_up(link):
            raise OSError("the other side closed the connection")
        link.sendall(b"".join(b"%d %s" % (len(m), m) for m in messages))
        if link.family == socket.AF_UNIX:
            return
        deadline = time.monotonic() + _TIMEOUT_S
        while _unacknowledged(link):
            if time.monotonic() > deadline:
                raise OSError("the other side does not acknowledge")
            if _hung_up(link):
                raise OSError("the other side closed the connection")
            time.sleep(0.002)

    def _message(self, log_id: str, line: bytes) -> bytes:
        """RFC 5424, section 6. The id of the structured data is for examples (RFC 5612), since pghold has no number of its own."""
        record = read_record(line) or {}
        event = str(record.get("event", ""))
        severity = _SEVERITIES.get(event, _NOTICE)  # type: ignore[call-overload]  # an AuditEvent is its text
        head = (
            f"<{self._target.facility * 8 + severity}>1 {record.get('at') or '-'} {self._host} pghold {os.getpid()} "
            f"{_printable(event.replace(' ', '-'), 32)} "
            f'[pghold@32473 log="{_value(log_id)}" seq="{record.get("seq")}" hash="{_value(str(record.get("hash")))}"] '
        )
        return head.encode("ascii", "replace") + b"\xef\xbb\xbf" + line.rstrip(b"\n")

    def _connect(self) -> socket.socket:
        target = self._target
        if target.kind == "syslog+unix":
            for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                link = socket.socket(socket.AF_UNIX, kind)
                link.settimeout(_TIMEOUT_S)
                try:
                    link.connect(target.path)
                except OSError as error:
                    link.close()
                    if kind == socket.SOCK_STREAM or error.errno != errno.EPROTOTYPE:  # not of the other kind
                        raise
                else:
                    return link
        if target.kind == "syslog+udp":
            family, _, _, _, address = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_DGRAM)[0]
            link = socket.socket(family, socket.SOCK_DGRAM)
            link.settimeout(_TIMEOUT_S)
            link.connect(address)
            return link
        return socket.create_connection((target.host, target.port), _TIMEOUT_S)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _hung_up(link: socket.socket) -> bool:
    readable = select.poll()
    readable.register(link, select.POLLIN)
    return bool(readable.poll(0)) and link.recv(1, socket.MSG_PEEK) == b""


def _unacknowledged(link: socket.socket) -> int:
    """Bytes that the peer's kernel has not acknowledged (tcp(7), SIOCOUTQ)."""
    count = array.array("i", [0])
    fcntl.ioctl(link, termios.TIOCOUTQ, count)
    return count[0]


def _cut(line: bytes) -> bytes:
    record = read_record(line) or {}
    short: Record = {k: v[:_CUT_CHARACTERS] if isinstance(v, str) else v for k, v in record.items()}
    for name in ("relations", "rule_ids", "detail"):
        if len(json.dumps(short.get(name))) > _CUT_CHARACTERS:
            short[name] = None
    return json.dumps({**short, "shortened": True}, ensure_ascii=False).encode()


def _printable(text: str, limit: int) -> str:
    """PRINTUSASCII of RFC 5424."""
    return "".join(c for c in text if "!" <= c <= "~")[:limit] or "-"


def _value(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("]", "\\]")
