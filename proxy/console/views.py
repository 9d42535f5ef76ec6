"""Templates: Jinja with everything escaped, and the few helpers that pages share."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from datetime import datetime
from importlib.metadata import version
from importlib.resources import files
from typing import Any, Final

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined

from proxy.acts import title_of as act_title
from proxy.console.script import one_line, plain
from proxy.console.sessions import Visitor
from proxy.holds_json import act_as_json, iso
from proxy.impact.model import Consequences
from proxy.impact.words import Figure, blocked_line, figures, percent, some
from proxy.model import Hold
from proxy.services import Services
from proxy.sight_words import size

STATIC: Final = files("proxy.console").joinpath("static")


class Views:
    """Renders pages."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._jinja = Environment(
            loader=PackageLoader("proxy.console"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
        )
        self._jinja.filters.update(plain=plain, line=one_line, flat=flat, iso=iso, ago=self._ago, span=span, size=size, number=number)
        self._jinja.filters.update(figures=_figures, percent=percent, some=some, blocked=lambda b: blocked_line(asdict(b)))
        self._jinja.globals.update(
            version=version("pghold"),
            # Browsers may keep a static file for ever: its name changes with its content.
            asset=lambda name: f"/static/{name}?v={_digest(name)}",
            now=services.clock.now,
            title_of=title_of,
            act_of=act_as_json,
            settings=services.settings,
        )

    def _ago(self, moment: datetime | None) -> str:
        return "" if moment is None else span((self._services.clock.now() - moment).total_seconds())

    def render(self, template: str, **values: Any) -> str:  # any: what the template takes
        return self._jinja.get_template(template).render(**values)

    def page(self, request: Request, template: str, *, visitor: Visitor | None = None, status: int = 200, **values: Any) -> HTMLResponse:
        """A whole page, or a part of one."""
        html = self.render(
            template,
            visitor=visitor,
            path=request.url.path,
            mode=self._services.settings.mode,
            environment=str(self._services.settings.effective_environment),
            pending=self._services.book.pending_count(),
            **values,
        )
        return HTMLResponse(html, status)


def _figures(consequences: Consequences) -> list[Figure]:
    return figures(asdict(consequences))


def flat(script: str) -> str:
    """A script on one line of a list, with the ends of its lines marked: else what follows a comment looks like a part of it."""
    return one_line(script[:4000].strip().replace("\n", " ⏎ "))


def title_of(hold: Hold) -> str:
    """What it does, in our words: the act of a tool, or the kinds of its statements and their objects."""
    if act := act_title(hold):
        return act
    parts = []
    for statement in hold.request.statements[:3]:
        parts.append(" ".join([statement.kind, ", ".join(statement.relations[:3])]).strip())
    more = len(hold.request.statements) - 3
    if more > 0:
        parts.append(f"and {more} more")
    return "; ".join(parts) or "A statement that could not be analysed"


_DIGESTS: dict[str, str] = {}


def _digest(name: str) -> str:
    if name not in _DIGESTS:
        _DIGESTS[name] = hashlib.sha256(STATIC.joinpath(name).read_bytes()).hexdigest()[:12]
    return _DIGESTS[name]


def span(seconds: float) -> str:
    """3 s, 4 min 10 s, 2 h 5 min, 3 days."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min" + (f" {whole % 60} s" if whole < 600 and whole % 60 else "")
    if whole < 48 * 3600:
        return f"{whole // 3600} h" + (f" {whole // 60 % 60} min" if whole // 60 % 60 else "")
    return f"{whole // 86400} days"


def number(count: float) -> str:
    """1,234,567."""
    return f"{count:,.0f}"
