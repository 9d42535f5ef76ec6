"""What feeds ask of a sink."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class SinkError(Exception):
    """It was not delivered, or nobody knows whether it was: the batch comes again. Its words hold no secret."""


class Sink(Protocol):
    def deliver(self, log_id: str, lines: Sequence[bytes]) -> None:
        """Return when the other side has taken all of them, in order. Raises SinkError."""
        ...

    def close(self) -> None: ...
