"""What the package raises. Facts are in attributes; messages are one sentence without user data."""

from __future__ import annotations


class ProtocolError(Exception):
    """Base class; never raised itself.

    Attributes:
        sqlstate: the code PostgreSQL would give (errcodes-appendix.html).
    """

    sqlstate = "XX000"


class RemoteProtocolError(ProtocolError):
    """A peer broke the protocol."""

    sqlstate = "08P01"


class MessageTooLargeError(RemoteProtocolError):
    """A peer announced a message over its limit."""

    sqlstate = "54000"

    def __init__(self, message: str, limit_bytes: int) -> None:
        super().__init__(message)
        self.limit_bytes = limit_bytes


class LocalProtocolError(ProtocolError):
    """We tried to send something illegal: a bug of the caller."""
