"""What goes wrong at start, and on the way to the server."""

from __future__ import annotations


class ConfigError(Exception):
    """The configuration cannot be used: names where, and the expected form. The process exits with 2."""


class BackendLostError(Exception):
    """The server cannot be reached, or went away.

    Attributes:
        reason: one word for metrics: "refused", "timeout", "tls", "name", "closed".
    """

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason
