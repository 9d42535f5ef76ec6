"""What /metrics tells. Sessions keep plain counters; what they sum up to is read when somebody asks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib.metadata import version

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, disable_created_metrics, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

_FAST = (0.000001, 0.000005, 0.00001, 0.00005, 0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 1.0, 10.0)
_FLUSH = (0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0)
# A series of its own for the time at which each counter began would double them, and nobody asks for it.
disable_created_metrics()  # type: ignore[no-untyped-call]  # it has none

_WAIT = (1, 5, 15, 30, 60, 120, 300, 600, 1800, 3600)


class Metrics:
    """All metrics of one process, in a registry of its own.

    Attributes:
        on_judged: told each verdict that was not plain allow.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        r = self.registry
        self._findings = Counter("pghold_findings", "Rules that found something.", ["rule"], registry=r)
        self._statements = Counter("pghold_flagged_scripts", "Judged scripts that were not plain, by verdict.", ["verdict"], registry=r)
        self._judging = Histogram("pghold_judging_seconds", "Judging a script that was not cached.", buckets=_FAST, registry=r)
        self._decided = Counter(
            "pghold_holds_decided", "Holds that are no longer pending, by the state they went to.", ["state"], registry=r
        )
        self._wait = Histogram("pghold_hold_wait_seconds", "How long holds were pending.", buckets=_WAIT, registry=r)
        self._connect = Counter("pghold_upstream_connect_failures", "Failed connections to the server.", ["reason"], registry=r)
        self._violations = Counter("pghold_protocol_violations", "Links that were closed for breaking the protocol.", ["kind"], registry=r)
        self._flush = Histogram("pghold_audit_flush_seconds", "Writing and flushing the audit log.", buckets=_FLUSH, registry=r)
        self._connections = Counter("pghold_connections", "Accepted connections.", registry=r)
        self._refused = Counter("pghold_connections_refused", "Connections refused before a session began.", ["reason"], registry=r)
        info = Gauge("pghold_build_info", "The version that runs.", ["version", "mode", "profile", "environment"], registry=r)
        self._info = info
        self._sources: dict[str, tuple[str, str, str, Callable[[], float]]] = {}
        self.on_judged: Callable[[str], None] | None = None
        r.register(_Sources(self._sources))
        ProcessCollector(registry=r)
        # There from the start: what first appears as 1 has not grown, as far as rate() knows.
        for state in ("approved", "denied", "expired", "withdrawn", "abandoned"):
            self._decided.labels(state)
        for verdict in ("warn", "hold", "deny"):
            self._statements.labels(verdict)
        for kind in ("session", "startup", "admin"):
            self._violations.labels(kind)

    def add_source(self, name: str, kind: str, documentation: str, read: Callable[[], float], label: str = "") -> None:
        """A gauge or counter whose value is read when asked; `label` is `name=value`."""
        self._sources[f"{name}{{{label}}}"] = (name, kind, documentation, read)

    def describe(self, mode: str, profile: str, environment: str) -> None:
        self._info.labels(version("pghold"), mode, profile, environment).set(1)

    def judged(self, verdict: str, rule_ids: tuple[str, ...]) -> None:
        self._statements.labels(verdict).inc()
        if self.on_judged is not None:
            self.on_judged(verdict)
        for rule_id in rule_ids:
            self._findings.labels(rule_id).inc()

    def judging_seconds(self, seconds: float) -> None:
        self._judging.observe(seconds)

    def hold_ended(self, state: str, waited_s: float) -> None:
        self._decided.labels(state).inc()
        self._wait.observe(waited_s)

    def upstream_connect_failed(self, reason: str) -> None:
        self._connect.labels(reason).inc()

    def protocol_violation(self, kind: str) -> None:
        self._violations.labels(kind).inc()

    def audit_flushed(self, seconds: float) -> None:
        self._flush.observe(seconds)

    def connected(self) -> None:
        self._connections.inc()

    def refused(self, reason: str) -> None:
        self._refused.labels(reason).inc()

    def render(self) -> bytes:
        """The text format of Prometheus."""
        return generate_latest(self.registry)


class _Sources(Collector):
    def __init__(self, sources: dict[str, tuple[str, str, str, Callable[[], float]]]) -> None:
        self._sources = sources

    def collect(self) -> Iterable[Metric]:
        families: dict[str, CounterMetricFamily | GaugeMetricFamily] = {}
        for key, (name, kind, documentation, read) in self._sources.items():
            label, _, value = key[len(name) + 1 : -1].partition("=")
            if name not in families:
                family = CounterMetricFamily if kind == "counter" else GaugeMetricFamily
                families[name] = family(name, documentation, labels=[label] if label else [])
            families[name].add_metric([value] if label else [], read())
        return families.values()
