"""The operator's console: the HTTP API for programs, pages for people, metrics and health."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from proxy.services import Services

__all__ = ["make_console"]


def make_console(services: Services) -> ASGIApp:
    """The application, to be served by any ASGI server."""
    # Here, since the command line uses the modules that show scripts, and should not wait for a web framework.
    from proxy.console.web import make_console as make

    return make(services)
