"""What /metrics tells of the last round."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from proxy.health.model import Report


class HealthMetrics(Collector):
    """Read from the last report; what is not known has no value."""

    def __init__(self, report: Callable[[], Report]) -> None:
        self._report = report

    def describe(self) -> Iterable[Metric]:
        """Nothing ahead: the registry need not ask at once."""
        return []

    def collect(self) -> Iterable[Metric]:
        report = self._report()
        measured = report.measured
        states = GaugeMetricFamily("pghold_health_check", "Each check: 0 ok, 1 warn, 2 fail, -1 unknown.", labels=["check"])
        for check in [*report.checks, *report.access]:
            states.add_metric([check.id], check.state.number)
        checked = GaugeMetricFamily("pghold_health_checked_timestamp_seconds", "When the checks were made last.")
        checked.add_metric([], report.at.timestamp() if report.at is not None else 0.0)
        tables = GaugeMetricFamily("pghold_server_tables", "Tables of each database that is watched.", labels=["database"])
        for database, count in measured.tables.items():
            tables.add_metric([database], count)
        found = [states, checked, tables]
        for name, text, value in (
            ("pghold_server_connect_seconds", "How long connecting to the server took last.", measured.latency_s),
            ("pghold_server_replication_lag_seconds", "Of the replica that is furthest behind, or of a standby itself.", measured.lag_s),
            ("pghold_server_slot_bytes", "Most write-ahead log that a replication slot keeps.", measured.slot_bytes),
            ("pghold_server_clock_offset_seconds", "The server's clock against pghold's; positive: ahead.", measured.clock_s),
            ("pghold_bypass_sessions", "Sessions of the server that did not come through pghold.", measured.bypass_sessions),
        ):
            family = GaugeMetricFamily(name, text)
            if value is not None:
                family.add_metric([], value)
            found.append(family)
        return found
