"""What /metrics tells of copies that were taken."""

from __future__ import annotations

import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)


class CopyMetrics:
    """Of one process."""

    def __init__(self, registry: CollectorRegistry, before_danger: bool = True, running: Callable[[], float] = lambda: 0) -> None:
        self._copies = Counter("pghold_copies", "Copies, by kind and what became of them.", ["kind", "outcome"], registry=registry)
        self._seconds = Histogram("pghold_copy_seconds", "Taking a copy, without its proof.", buckets=_SECONDS, registry=registry)
        self._bytes = Counter("pghold_copied_bytes", "Bytes of the files of copies that were taken.", registry=registry)
        self._last = Gauge("pghold_copy_last_success_timestamp_seconds", "When the last copy was done.", ["kind"], registry=registry)
        Gauge("pghold_copies_running", "Copies that are being taken now.", registry=registry).set_function(running)
        switched = Gauge("pghold_copies_before_danger", "Whether a copy is taken before a destructive statement runs.", registry=registry)
        switched.set(before_danger)
        for kind in ("dump", "rows", "full"):
            for outcome in ("done", "failed", "cancelled"):
                self._copies.labels(kind, outcome)

    def ended(self, kind: str, outcome: str, seconds: float, size: int) -> None:
        self._copies.labels(kind, outcome).inc()
        if outcome == "done":
            self._seconds.observe(seconds)
            self._bytes.inc(size)
            self._last.labels(kind).set(time.time())
