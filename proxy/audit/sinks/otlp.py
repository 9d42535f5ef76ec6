"""OpenTelemetry logs: OTLP over HTTP with JSON (opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from importlib.metadata import version
from typing import Final

from proxy.audit.chain import Record, read_record
from proxy.audit.sinks.base import SinkError
from proxy.audit.sinks.http import Poster
from proxy.audit.targets import Target
from proxy.holds_json import Json
from proxy.model import AuditEvent

#: The record's field, and the attribute that it becomes; names of the semantic conventions where there is one.
ATTRIBUTES: Final = (
    ("seq", "pghold.audit.seq"),
    ("hash", "pghold.audit.hash"),
    ("hold_id", "pghold.hold.id"),
    ("rule_ids", "pghold.rules"),
    ("relations", "pghold.relations"),
    ("operator", "pghold.operator"),
    ("reason", "pghold.reason"),
    ("outcome", "pghold.outcome"),
    ("session_id", "session.id"),
    ("script", "db.query.text"),
    ("script_sha256", "pghold.script_sha256"),
    ("database", "db.namespace"),
    ("role", "user.name"),
    ("application_name", "pghold.application_name"),
    ("client_addr", "client.address"),
    ("environment", "deployment.environment.name"),
)
#: SeverityNumber (opentelemetry.io/docs/specs/otel/logs/data-model): INFO unless named here.
_WARN: Final = frozenset(
    {
        AuditEvent.HELD, AuditEvent.WARNED, AuditEvent.OBSERVED, AuditEvent.DENIED_BY_POLICY, AuditEvent.LOGIN_FAILED,
        AuditEvent.OPERATOR_REFUSED,
    }
)  # fmt: skip
_ERROR: Final = frozenset({AuditEvent.BREAK_GLASS, AuditEvent.AUDIT_FAILED})


class OtlpSink:
    def __init__(self, target: Target) -> None:
        self._poster = Poster(target)

    def deliver(self, log_id: str, lines: Sequence[bytes]) -> None:
        answer = self._poster.post(json.dumps(_request(log_id, lines)).encode(), {})
        try:
            partial = json.loads(answer or b"{}").get("partialSuccess") or {}
            rejected = int(partial.get("rejectedLogRecords") or 0)
        except (ValueError, AttributeError, TypeError):
            return  # an answer that is no JSON: the status said that it was taken
        if rejected:
            # The protocol forbids to send the same again; here it would lose records in silence, and the receiver must be mended.
            why = "".join(c if c.isprintable() else " " for c in str(partial.get("errorMessage", ""))[:120])
            raise SinkError(f"{rejected} of {len(lines)} records were rejected: {why}")

    def close(self) -> None:
        self._poster.close()


def _request(log_id: str, lines: Sequence[bytes]) -> Json:
    resource: Json = {"attributes": [_attribute("service.name", "pghold"), _attribute("service.instance.id", log_id)]}
    records: list[Json] = [_log_record(record) for line in lines if (record := read_record(line)) is not None]
    scope: Json = {"scope": {"name": "pghold.audit", "version": version("pghold")}, "logRecords": records}
    return {"resourceLogs": [{"resource": resource, "scopeLogs": [scope]}]}


def _log_record(record: Record) -> Json:
    event = str(record.get("event"))
    nanoseconds = str(int(datetime.fromisoformat(str(record["at"])).timestamp() * 1000) * 1_000_000)
    number, text = (17, "ERROR") if event in _ERROR else (13, "WARN") if event in _WARN else (9, "INFO")
    return {
        "timeUnixNano": nanoseconds,
        "observedTimeUnixNano": nanoseconds,
        "severityNumber": number,
        "severityText": text,
        "eventName": f"pghold.{event.replace(' ', '_')}",
        "body": {"stringValue": event},
        "attributes": list(_attributes(record)),
    }


def _attributes(record: Record) -> Iterator[Json]:
    for name, attribute in ATTRIBUTES:
        value = record.get(name)
        if value is not None and value != []:
            yield _attribute(attribute, value)
    detail = record.get("detail")
    for name, value in sorted(detail.items()) if isinstance(detail, dict) else ():
        if value is not None:
            yield _attribute(f"pghold.detail.{name}", value)


def _attribute(name: str, value: Json) -> Json:
    return {"key": name, "value": _value(value)}


def _value(value: Json) -> Json:
    """AnyValue. 64-bit integers are strings in its JSON."""
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    if isinstance(value, list):
        return {"arrayValue": {"values": [_value(v) for v in value]}}
    return {"stringValue": value if isinstance(value, str) else json.dumps(value)}
