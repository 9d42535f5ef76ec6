"""The operator's HTTP interface: decisions, sessions, events, metrics, health."""

from proxy.console.api import make_api

__all__ = ["make_api"]
