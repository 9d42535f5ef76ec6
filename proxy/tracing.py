"""OpenTelemetry traces, for those who ask for them: a span for each hold from its opening to its outcome, and one for each request
to the console. Imported only when `otel_endpoint` is set; the packages come with the extra `otel`.

No text of a statement and no reason is in them: traces go to other places than the audit log, and are read by other people.
"""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from datetime import datetime
from importlib.metadata import version
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from proxy.errors import ConfigError
from proxy.model import HOLD_TRANSITIONS, Hold, HoldId, HoldState
from proxy.seams import HoldBook

try:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.trace import Span, SpanKind, Status, StatusCode
except ImportError as error:
    raise ConfigError(f"otel_endpoint needs packages that are not here ({error}): pip install 'pghold[otel]'") from None

#: Requests that are made all the time, or stay open: they would hide the others.
_UNTRACED: Final = re.compile(r"/(metrics|healthz|readyz|events|api/v1/events|static/.*)")
_CLOSE_S: Final = 3.0
#: Spans that are open at once; of more holds than these nothing is told.
_OPEN_LIMIT: Final = 20_000


class Tracing:
    """One exporter, and the spans of holds that are open."""

    def __init__(self, endpoint: str, environment: str) -> None:
        resource = Resource.create({"service.name": "pghold", "service.version": version("pghold"), "deployment.environment": environment})
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces", timeout=5)))
        self._tracer = self._provider.get_tracer("pghold", version("pghold"))
        self._open: dict[HoldId, tuple[Span, HoldState]] = {}

    async def close(self) -> None:
        """Send what is there; a collector that is away does not keep the process."""
        for span, _ in self._open.values():
            span.end()
        self._open.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_S):
                await asyncio.to_thread(self._provider.shutdown)

    # --- holds --------------------------------------------------------------------------------------------------

    async def follow(self, book: HoldBook) -> None:
        """Until cancelled."""
        async for hold in book.changes():
            self.saw(hold)

    def saw(self, hold: Hold) -> None:
        """A hold was opened, or changed."""
        span, was = self._open.get(hold.id, (None, None))
        if span is None:
            if hold.state is not HoldState.PENDING or len(self._open) >= _OPEN_LIMIT:
                return
            span = self._begin(hold)
        elif hold.state is was:
            return  # one more approval, or the like
        else:
            self._add_event(span, hold)
        if HOLD_TRANSITIONS[hold.state]:
            self._open[hold.id] = span, hold.state
            return
        self._open.pop(hold.id, None)
        span.set_attribute("pghold.hold.state", str(hold.state))
        if hold.state is HoldState.FAILED:
            span.set_status(Status(StatusCode.ERROR))
        span.end(_nanoseconds(hold.ended_at))

    def _begin(self, hold: Hold) -> Span:
        request = hold.request
        attributes: dict[str, str | int | bool | tuple[str, ...]] = {
            "pghold.hold.id": int(hold.id),
            "pghold.rules": request.rule_ids,
            "pghold.severity": request.severity,
            "pghold.environment": request.environment,
            "pghold.session.id": int(request.requester.session_id),
            "pghold.in_transaction": request.in_transaction,
            "pghold.script.sha256": request.script_sha256,
            "db.system.name": "postgresql",
            "db.namespace": request.requester.database,
            "db.user": request.requester.role,
            "db.operation.name": request.statements[0].kind if request.statements else "",
        }
        return self._tracer.start_span("hold", attributes=attributes, start_time=_nanoseconds(hold.created_at))

    def _add_event(self, span: Span, hold: Hold) -> None:
        decision = hold.decision
        attributes: dict[str, str | bool | tuple[str, ...]] = {}
        at = hold.ended_at
        if decision is not None and hold.state in (HoldState.APPROVED, HoldState.DENIED):
            attributes = {
                "pghold.operator": decision.operator,
                "pghold.approvers": decision.approvers,
                "pghold.break_glass": decision.break_glass,
            }
            at = decision.decided_at
        span.add_event(str(hold.state), attributes, _nanoseconds(at))

    # --- the console --------------------------------------------------------------------------------------------

    def wrap(self, app: ASGIApp) -> ASGIApp:
        """The application, with a span around each request that ends by itself."""

        async def traced(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http" or _UNTRACED.fullmatch(scope["path"]):
                await app(scope, receive, send)
                return
            status = 500

            async def watched(message: Message) -> None:
                nonlocal status
                if message["type"] == "http.response.start":
                    status = message["status"]
                await send(message)

            method = scope["method"]
            with self._tracer.start_as_current_span(method, kind=SpanKind.SERVER, record_exception=False) as span:
                span.set_attribute("http.request.method", method)
                await app(scope, receive, watched)
                route = getattr(scope.get("route"), "path", "")
                if route:
                    span.update_name(f"{method} {route}")
                    span.set_attribute("http.route", route)
                span.set_attribute("http.response.status_code", status)
                if status >= 500:
                    span.set_status(Status(StatusCode.ERROR))

        return traced


def _nanoseconds(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp() * 1_000_000) * 1000
