"""Health for programs."""

from __future__ import annotations

from proxy.health.model import Bypasser, Check, Report
from proxy.holds_json import iso


def report_as_json(report: Report) -> dict[str, object]:
    """All of it, for operators."""
    return {
        "state": str(report.state),
        "checked_at": iso(report.at),
        "checks": [check_as_json(c) for c in report.checks],
        "access": [check_as_json(c) for c in report.access],
        "bypass": [_bypasser(b) for b in report.bypassers],
    }


def check_as_json(check: Check) -> dict[str, object]:
    return {"id": check.id, "state": str(check.state), "text": check.text, "fix": check.fix, "since": iso(check.since)}


def states_as_json(report: Report) -> list[dict[str, object]]:
    """For everybody: /readyz takes no token, so no names are in it."""
    return [{"id": c.id, "state": str(c.state), "since": iso(c.since)} for c in report.checks]


def _bypasser(found: Bypasser) -> dict[str, object]:
    return {
        "pid": found.pid,
        "role": found.role,
        "database": found.database,
        "client_addr": found.address,
        "application_name": found.application_name,
        "seconds": round(found.seconds),
    }
