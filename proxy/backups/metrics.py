"""What /metrics tells of the set of copies, from the keeper's last look."""

from __future__ import annotations

import math
from collections.abc import Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from proxy.backups.keeper import Keeper
from proxy.backups.model import Proof
from proxy.backups.outlook import disk_of
from proxy.config import Settings
from proxy.seams import Clock


class KeepingMetrics(Collector):
    """Databases are those of the schedule: a bounded set."""

    def __init__(self, keeper: Keeper, settings: Settings, clock: Clock) -> None:
        self._keeper = keeper
        self._settings = settings
        self._clock = clock

    def describe(self) -> Iterable[Metric]:
        """Nothing ahead: the registry need not ask at once."""
        return []

    def collect(self) -> Iterable[Metric]:
        figures, settings, now = self._keeper.figures, self._settings, self._clock.now()
        age = GaugeMetricFamily(
            "pghold_kept_proven_age_seconds",
            "Age of the newest proven full copy of each database on schedule; +Inf: none.",
            labels=["database"],
        )
        for database, at in figures.proven_at.items():
            age.add_metric([database], math.inf if at is None else (now - at).total_seconds())
        scheduled = CounterMetricFamily("pghold_full_copies", "Full copies that were taken, or failed.", labels=["outcome"])
        for outcome in ("taken", "failed"):
            scheduled.add_metric([outcome], figures.scheduled[outcome])
        proofs = CounterMetricFamily("pghold_kept_proofs", "Copies that were proven, by result.", labels=["result"])
        for result in (Proof.EQUAL, Proof.DIFFERENT, Proof.FAILED):
            proofs.add_metric([str(result)], figures.proofs[str(result)])
        try:
            total, free = disk_of(settings.backup_folder)
        except OSError:
            total, free = 0, 0
        return [
            age,
            scheduled,
            proofs,
            _gauge("pghold_kept_copies", "Copies that are kept.", figures.kept),
            _gauge("pghold_kept_bytes", "What they take.", figures.bytes),
            _gauge("pghold_kept_disk_bytes", "Size of the disk that they are on.", total),
            _gauge("pghold_kept_free_bytes", "What is free of it.", free),
            _gauge("pghold_kept_reserve_bytes", "What must stay free of it.", settings.backup_min_free_bytes),
            _gauge("pghold_full_copies_late", "Databases whose scheduled copy is late.", len(figures.late)),
            _gauge("pghold_kept_missing", "Copies whose files are gone.", len(figures.missing)),
        ]


def _gauge(name: str, documentation: str, value: float) -> Metric:
    return GaugeMetricFamily(name, documentation, value=value)
