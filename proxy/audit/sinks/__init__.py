"""Where records go besides the file. A sink delivers a batch of lines or raises SinkError; feed.py calls it again until it does."""

from __future__ import annotations

from proxy.audit.sinks.base import Sink, SinkError
from proxy.audit.targets import Target


def make_sink(target: Target) -> Sink:
    """Nothing is connected to yet."""
    if target.kind == "stdout":
        from proxy.audit.sinks.stdout import StdoutSink

        return StdoutSink()
    if target.kind.startswith("syslog"):
        from proxy.audit.sinks.syslog import SyslogSink

        return SyslogSink(target)
    if target.kind == "postgresql":
        from proxy.audit.sinks.postgresql import PostgresSink

        return PostgresSink(target)
    if target.kind.startswith("otlp"):
        from proxy.audit.sinks.otlp import OtlpSink

        return OtlpSink(target)
    from proxy.audit.sinks.webhook import WebhookSink

    return WebhookSink(target)


__all__ = ["Sink", "SinkError", "make_sink"]
