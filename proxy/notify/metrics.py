"""What /metrics tells of notifications, read from the couriers when somebody asks."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from proxy.notify.notifier import Notifier


class NotifyMetrics(Collector):
    """By route; a route's name is all that is told of it."""

    def __init__(self, notifier: Notifier) -> None:
        self._notifier = notifier

    def describe(self) -> Iterable[Metric]:
        """Nothing ahead: the registry need not ask at once, when there is nothing yet."""
        return []

    def collect(self) -> Iterable[Metric]:
        deliveries = CounterMetricFamily(
            "pghold_notifications", "Tries to deliver a notification (delivered, failed), and messages lost.", labels=["route", "outcome"]
        )
        waiting = GaugeMetricFamily("pghold_notifications_waiting", "Messages that are not delivered yet.", labels=["route"])
        failing = GaugeMetricFamily("pghold_notifications_failing", "Whether the last try failed.", labels=["route"])
        dead = GaugeMetricFamily("pghold_notifications_dead", "Messages that were given up and not dismissed.", labels=["route"])
        by_route = self._notifier.dead_by_route()
        for state in self._notifier.states():
            for outcome in ("delivered", "failed", "lost", "left_out"):
                deliveries.add_metric([state.name, outcome], getattr(state, outcome))
            waiting.add_metric([state.name], state.waiting)
            failing.add_metric([state.name], float(state.failing))
            dead.add_metric([state.name], by_route.pop(state.name, 0))
        for route, count in by_route.items():
            dead.add_metric([route], count)
        return [deliveries, waiting, failing, dead]
