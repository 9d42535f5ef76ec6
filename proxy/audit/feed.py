"""A feed: a thread that reads a source from where it was, delivers to one sink, and goes on; so long as the sink fails, it tries again.

The position is written down after the sink has taken a batch: a crash between the two sends that batch again. Nothing is left out and nothing
overtakes. A batch that fails is tried in halves, so that one record that is too large for the other side keeps back itself and what is behind it,
and the error is about it.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from proxy.audit.follow import Position
from proxy.audit.sinks.base import Sink, SinkError

_BATCH: Final = 500
_BATCH_BYTES: Final = 1 << 20
#: Without news, so often is looked for some.
_LOOK_S: Final = 5.0
_BACK_OFF_S: Final = (1.0, 60.0)


class Source(Protocol):
    def read(self, position: Position, limit: int, limit_bytes: int) -> tuple[list[bytes], Position]: ...

    def lag(self, position: Position) -> int: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class FeedState:
    """For people and metrics.

    Attributes:
        name: of the sink, without secrets.
        lag: what it has not taken yet.
        error: why, when it fails now.
    """

    name: str
    sequence: int
    lag: int
    failures: int
    error: str
    delivered_at: float | None


class Feed:
    """One sink and its thread.

    Args:
        folder: where its position is kept.
        key: names the sink for good; see Target.key.
    """

    def __init__(
        self,
        name: str,
        key: str,
        sink: Sink,
        source: Source,
        folder: Path,
        log_id: Callable[[], str],
        back_off_s: tuple[float, float] = _BACK_OFF_S,
    ) -> None:
        self.name = name
        self._sink = sink
        self._source = source
        self._log_id = log_id
        self._back_off_s = back_off_s
        self._file = folder / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"
        self._failures = 0
        self._error = ""
        self._delivered_at: float | None = None
        self._news = threading.Event()
        self._ending = threading.Event()
        self._log = ""
        self._position = self._load()
        self._thread = threading.Thread(target=self._run, name=f"audit to {name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """There is something new. From any thread."""
        self._news.set()

    def stop(self, timeout_s: float) -> None:
        """Deliver what is there, for so long; what is left goes at the next start."""
        self._ending.set()
        self._news.set()
        self._thread.join(timeout_s)

    @property
    def position(self) -> Position:
        return self._position

    @property
    def state(self) -> FeedState:
        return FeedState(
            self.name, self._position.sequence, self._source.lag(self._position), self._failures, self._error, self._delivered_at
        )

    # --- its thread ---------------------------------------------------------------------------------------------

    def _run(self) -> None:
        pause, limit = self._back_off_s[0], _BATCH
        while True:
            self._news.clear()
            try:
                more = self._step(limit)
            except Exception as error:
                # An edge like that around a session: whatever a sink does, it is tried again, and the log knows nothing of it.
                self._failures += 1
                self._error = _words(error)
                limit = max(1, limit // 2)
                if self._ending.wait(pause * random.uniform(0.8, 1.2)):
                    break
                pause = min(pause * 2, self._back_off_s[1])
                continue
            self._error = ""
            pause, limit = self._back_off_s[0], min(_BATCH, limit * 2)
            if more:
                continue
            if self._ending.is_set():
                break
            self._news.wait(_LOOK_S)
        self._source.close()
        self._sink.close()

    def _step(self, limit: int) -> bool:
        if (log := self._log_id()) and log != self._log:
            if self._log or self._position.sequence:
                # Another log stands in the old one's place: what was delivered of that says nothing about this.
                self._source.close()
                self._position = Position()
            self._log = log
        lines, after = self._source.read(self._position, limit, _BATCH_BYTES)
        if lines:
            self._sink.deliver(self._log_id(), lines)
            self._delivered_at = time.time()
        if after != self._position:
            self._position = after
            self._save()
        return bool(lines)

    def _load(self) -> Position:
        try:
            saved = json.loads(self._file.read_text())
            self._log = str(saved["log"])
            return Position(int(saved["sequence"]), int(saved["first"]), int(saved["offset"]))
        except (OSError, ValueError, KeyError, TypeError):
            return Position()  # from the start: twice rather than never

    def _save(self) -> None:
        part = self._file.with_suffix(".part")
        try:
            self._file.parent.mkdir(mode=0o700, exist_ok=True)
            part.write_text(json.dumps({"sink": self.name, "log": self._log, **self._position.as_json()}))
            os.replace(part, self._file)
        except OSError as error:
            # The sink has it; after a restart it gets it again.
            self._error = f"its position cannot be kept: {error.strerror}"


def _words(error: Exception) -> str:
    if isinstance(error, SinkError):
        return str(error)
    # The text of other errors may hold what only the settings may know.
    return error.strerror or "I/O error" if isinstance(error, OSError) else type(error).__name__
