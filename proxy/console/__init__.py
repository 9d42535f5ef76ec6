"""The operator's console: the HTTP API for programs, pages for people, metrics and health."""

from proxy.console.web import make_console

__all__ = ["make_console"]
