"""Standard output: the lines of the log as they are."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from proxy.audit.sinks.base import SinkError


class StdoutSink:
    def deliver(self, log_id: str, lines: Sequence[bytes]) -> None:
        """Blocks while nobody reads: this thread only."""
        try:
            view = memoryview(b"".join(lines))
            while view:
                view = view[os.write(sys.__stdout__.fileno() if sys.__stdout__ else 1, view) :]
        except (OSError, ValueError) as error:
            raise SinkError(f"cannot write: {getattr(error, 'strerror', None) or error}") from None

    def close(self) -> None:
        return
