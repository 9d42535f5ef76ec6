"""All of the console as one ASGI application: the API, the pages, the static files, the errors, and the guard around them."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote, urlsplit

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse, Response
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp

from proxy.config import Settings, address
from proxy.console.api import make_api
from proxy.console.backups import BackupPages
from proxy.console.browsers import BrowserPages
from proxy.console.notices import NoticePages
from proxy.console.overview import OverviewPages
from proxy.console.pages import HoldPages
from proxy.console.people import PeoplePages
from proxy.console.record import RecordPages
from proxy.console.rulebook import RulePages
from proxy.console.schema import SchemaPages
from proxy.console.security import Guard
from proxy.console.sessions import WebSessions
from proxy.console.signin import NotAllowedError, NotSignedInError, SignIn
from proxy.console.views import STATIC, Views
from proxy.grants import UnknownGrantError
from proxy.seams import AuditError, StoreError, UnknownHoldError
from proxy.services import Services
from proxy.store.backups import UnknownBackupError

_MEDIA: Final = {
    "console.css": "text/css",
    "console.js": "text/javascript",
    "htmx.min.js": "text/javascript",
    "icon.svg": "image/svg+xml",
    "theme.js": "text/javascript",
}


def make_console(services: Services) -> ASGIApp:
    """The application, to be served by any ASGI server."""
    settings = services.settings
    views = Views(services)
    sessions = WebSessions(services.store, services.operators, services.clock, settings.console_session_hours * 3600)
    signin = SignIn(services, sessions, views)
    app = make_api(services)
    for pages in (
        signin,
        HoldPages(services, signin, views),
        OverviewPages(services, signin, views),
        SchemaPages(services, signin, views),
        BackupPages(services, signin, views),
        RecordPages(services, signin, views),
        RulePages(services, signin, views),
        PeoplePages(services, signin, sessions, views),
        BrowserPages(services, signin, sessions, views),
        NoticePages(services, signin, views),
    ):
        app.include_router(pages.routes())
    app.add_api_route("/static/{name}", _static, methods=["GET"], include_in_schema=False)
    _add_errors(app, signin, views)
    _keep_sessions(app, signin)
    parts = urlsplit(settings.console_url)
    by_header = settings.console_auth == "header"
    return Guard(
        app,
        own_origin=f"{parts.scheme}://{parts.netloc}" if settings.console_url else "",
        tls=settings.console_has_tls or parts.scheme == "https",
        hosts=_hosts(settings, parts.hostname),
        proxies=settings.console_proxies if by_header else None,
    )


def _hosts(settings: Settings, public: str | None) -> frozenset[str] | None:
    """The names we have; None: those of the certificate, which browsers compare."""
    if public is None and settings.console_has_tls:
        return None
    listening = {address(part)[0].lower() for part in settings.console.split(",")}
    return frozenset({"localhost", *listening, *([public.lower()] if public else [])})


async def _static(name: str) -> Response:
    if name not in _MEDIA:
        return PlainTextResponse("not found\n", 404)
    # The name in the page carries the content's digest, so what a browser has stays right.
    headers = {"Cache-Control": "public, max-age=31536000, immutable"}
    return Response(STATIC.joinpath(name).read_bytes(), media_type=_MEDIA[name], headers=headers)


def _keep_sessions(app: FastAPI, signin: SignIn) -> None:
    """A session that began while a page was made (header mode) is put into its answer."""

    @app.middleware("http")
    async def keep(request: Request, call_next):  # type: ignore[no-untyped-def]  # starlette's type is private
        response = await call_next(request)
        fresh = getattr(request.state, "new_session", None)
        if fresh is not None:
            signin.keep(response, fresh)
        return response


def _add_errors(app: FastAPI, signin: SignIn, views: Views) -> None:
    """Errors of pages are pages; those of the API stay as api.py made them."""

    async def page(request: Request, status: int, title: str, detail: str) -> Response:
        try:
            visitor = await signin.visitor(request)  # so that there is a way on from here
        except (NotSignedInError, NotAllowedError, StoreError):
            visitor = None
        return views.page(request, "error.html", visitor=visitor, status=status, title=title, detail=detail)

    @app.exception_handler(NotSignedInError)
    async def not_signed_in(request: Request, error: NotSignedInError) -> Response:
        if request.headers.get("hx-request"):
            # A part of a page was wanted: the whole page goes to the login.
            return Response(status_code=401, headers={"HX-Refresh": "true"})
        if request.method != "GET" or request.url.path == "/events":
            return await page(request, 401, "Not signed in", "Your session is over. Sign in, and try again.")
        return RedirectResponse(f"/login?next={quote(error.target, safe='')}", 303)

    @app.exception_handler(NotAllowedError)
    async def not_allowed(request: Request, error: NotAllowedError) -> Response:
        return await page(request, 403, "Not allowed", f"{str(error)[:1].upper()}{str(error)[1:]}.")

    @app.exception_handler(UnknownGrantError)
    @app.exception_handler(UnknownHoldError)
    @app.exception_handler(UnknownBackupError)
    async def unknown(request: Request, error: LookupError) -> Response:
        return await page(request, 404, "Not found", "There is nothing of that name.")

    for kind in (StoreError, AuditError, RequestValidationError, StarletteHTTPException, HTTPException):
        api_handler = app.exception_handlers.get(kind)

        async def failed(request: Request, error: Exception, api_handler=api_handler) -> Response:  # type: ignore[no-untyped-def]
            if request.url.path.startswith("/api/") and api_handler is not None:
                return await api_handler(request, error)  # type: ignore[no-any-return]
            match error:
                case StarletteHTTPException():
                    return await page(request, error.status_code, "Not found" if error.status_code == 404 else "Error", str(error.detail))
                case RequestValidationError():
                    first = error.errors()[0]
                    return await page(request, 422, "Not understood", f"{'.'.join(map(str, first['loc'][1:]))}: {first['msg']}")
                case _:
                    return await page(request, 503, "Not done", f"{error}.")

        app.add_exception_handler(kind, failed)
