"""Signing in and out: by name and password, by a token, by OIDC, or by the word of a trusted proxy.

What every way ends in is a session of our own (sessions.py), so that the rest of the console knows one kind of visitor.
"""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import Annotated, Final

from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse, Response

from proxy.console.oidc import Oidc, OidcError, OidcSettings, role_for
from proxy.console.security import RateLimit, client_address, is_from, local_path
from proxy.console.sessions import Visitor, WebSessions
from proxy.console.views import Views
from proxy.model import AuditEntry, AuditEvent, Operator, Role
from proxy.operators import OperatorError
from proxy.seams import AuditError, LockedOutError
from proxy.services import Services

#: From one address: failed ones, and ones begun at the provider.
_LOGINS: Final = (20, 60.0)
_STARTS: Final = (60, 60.0)


class NotSignedInError(Exception):
    """The page needs somebody; carries where to go afterwards."""

    def __init__(self, target: str) -> None:
        super().__init__("not signed in")
        self.target = target


class NotAllowedError(Exception):
    """Somebody is there, and may not do that. The message is for people."""


class SignIn:
    """Who the visitor is, and the routes that change it."""

    def __init__(self, services: Services, sessions: WebSessions, views: Views, cookie_path: str = "/") -> None:
        settings = services.settings
        self._services = services
        self._sessions = sessions
        self._views = views
        self._rate = RateLimit(*_LOGINS)
        self._starts = RateLimit(*_STARTS)
        self._by_header = settings.console_auth == "header"
        secure = settings.console_has_tls or settings.console_url.startswith("https:")
        # With the prefix, browsers take the cookie from this very host over TLS only (RFC 6265bis section 4.1.3).
        self.cookie = "__Host-pghold" if secure else "pghold"
        self._browser_cookie = "__Host-pghold-login" if secure else "pghold-login"
        self._secure = secure
        self._oidc: Oidc | None = None
        if settings.oidc_issuer:
            self._oidc = Oidc(
                OidcSettings(
                    settings.oidc_issuer,
                    settings.oidc_client_id,
                    settings.oidc_client_secret,
                    f"{services.console_url()}/login/oidc/callback",
                    settings.oidc_scopes,
                    settings.oidc_name_claim,
                    settings.oidc_groups_claim,
                    settings.oidc_unverified_email,
                )
            )

    # --- who is it ----------------------------------------------------------------------------------------------

    async def visitor(self, request: Request) -> Visitor:
        """Raises NotSignedInError, NotAllowedError (header mode), StoreError."""
        visitor = await self._sessions.find(request.cookies.get(self.cookie, ""))
        if self._by_header:
            operator = await self._from_header(request)
            if visitor is None or visitor.operator.name != operator.name or visitor.source != "header":
                visitor = await self._sessions.begin(operator, "header", self.address(request))
                request.state.new_session = visitor.session_id
            # What the proxy says now counts, not what it said when the session began.
            visitor = replace(visitor, operator=operator)
        if visitor is None:
            raise NotSignedInError(request.url.path + (f"?{request.url.query}" if request.url.query else ""))
        return visitor

    async def changing(self, request: Request) -> Visitor:
        """For requests that change something: the form's token must be the session's. Raises as `visitor`."""
        visitor = await self.visitor(request)
        form = await request.form()
        sent = form.get("csrf") or request.headers.get("x-csrf-token", "")
        if not isinstance(sent, str) or not visitor.owns(sent):
            raise NotAllowedError("this form is not of your session; go back, reload the page, and try again")
        return visitor

    async def _from_header(self, request: Request) -> Operator:
        settings = self._services.settings
        if not is_from(request.client.host if request.client else "", settings.console_proxies):
            raise NotAllowedError("the console is reached through its proxy only")
        names = request.headers.getlist(settings.console_user_header)
        lines = request.headers.getlist(settings.console_groups_header)
        # Two of one name: one may be the visitor's own, which the proxy should have taken away.
        if len(names) != 1 or not names[0].strip():
            raise NotAllowedError(f"the proxy in front did not say who you are ({settings.console_user_header})")
        if len(lines) > 1:
            raise NotAllowedError(f"the proxy in front sent {settings.console_groups_header} twice")
        groups = [g.strip() for line in lines for g in line.split(",")]
        return await self._admit(names[0].strip(), groups, "header")

    async def _admit(self, name: str, groups: list[str], source: str, subject: str = "") -> Operator:
        settings = self._services.settings
        role = role_for(groups, settings.console_roles, settings.console_default_role)
        if role is None:
            await self._services.operators.withdraw_external(name, source, subject)
            raise NotAllowedError(f"{name[:120]} is in no group that has a role here (console_roles)")
        try:
            return await self._services.operators.upsert_external(name, role, source, subject)
        except OperatorError as error:
            raise NotAllowedError(str(error)) from None

    def address(self, request: Request) -> str:
        """Where the visitor sits, for limits and the record; by a trusted proxy's word when he comes through one."""
        return client_address(request, self._services.settings.console_proxies)

    def keep(self, response: Response, session_id: str) -> None:
        """Put the session's cookie into an answer."""
        response.set_cookie(
            self.cookie,
            session_id,
            max_age=int(self._sessions.lifetime_s),
            httponly=True,
            # Lax: links from a chat must find the session. What changes something also needs the form's token.
            samesite="lax",
            secure=self._secure,
            path="/",
        )

    # --- routes -------------------------------------------------------------------------------------------------

    def routes(self) -> APIRouter:
        router = APIRouter(include_in_schema=False)
        router.add_api_route("/login", self._page, methods=["GET"])
        router.add_api_route("/login", self._login, methods=["POST"])
        router.add_api_route("/logout", self._logout, methods=["POST"])
        if self._oidc is not None:
            router.add_api_route("/login/oidc", self._oidc_start, methods=["GET"])
            router.add_api_route("/login/oidc/callback", self._oidc_finish, methods=["GET"])
        return router

    def _form(self, request: Request, target: str, error: str = "", status: int = 200, name: str = "") -> Response:
        return self._views.page(
            request,
            "login.html",
            status=status,
            target=local_path(target),
            error=error,
            name=name,
            oidc=self._oidc is not None,
            token_file=str(self._services.settings.data_dir / "operator.token"),
        )

    async def _page(self, request: Request, next: str = "/") -> Response:
        if self._by_header or await self._sessions.find(request.cookies.get(self.cookie, "")) is not None:
            return RedirectResponse(local_path(next), 303)
        return self._form(request, next)

    async def _login(
        self,
        request: Request,
        password: Annotated[str, Form(max_length=1000)],
        name: Annotated[str, Form(max_length=200)] = "",
        next: Annotated[str, Form(max_length=2000)] = "/",
    ) -> Response:
        if self._by_header:
            raise NotAllowedError("the proxy in front signs people in here")
        address = self.address(request)
        if not self._rate.take(address):
            return self._form(request, next, "Too many attempts from your address. Wait a minute.", 429, name)
        name = name.strip()
        try:
            if password.strip().startswith("pghold_"):
                operator = await self._services.operators.by_token(password.strip())
                if operator is not None and name not in ("", operator.name):
                    operator = None
                source = "token"
            else:
                operator = await self._services.operators.by_password(name, password, address)
                source = "password"
        except LockedOutError as error:
            seconds = max(1, round((error.until - self._services.clock.now()).total_seconds()))
            await self._record(AuditEvent.LOGIN_FAILED, name, "locked out", address)
            return self._form(request, next, f"Too many failed attempts for this name. Try again in {seconds} s.", 429, name)
        if operator is None:
            await self._record(AuditEvent.LOGIN_FAILED, name, "wrong name, password or token", address)
            return self._form(request, next, "Wrong name, password or token.", 401, name)
        self._rate.give_back(address)
        return await self._begin(request, operator, source, next)

    async def _begin(self, request: Request, operator: Operator, source: str, target: str) -> Response:
        await self._sessions.end(request.cookies.get(self.cookie, ""))
        visitor = await self._sessions.begin(operator, source, self.address(request))
        await self._record(AuditEvent.LOGGED_IN, operator.name, source, self.address(request))
        response = RedirectResponse(local_path(target), 303)
        self.keep(response, visitor.session_id)
        return response

    async def _logout(self, request: Request) -> Response:
        visitor = await self.changing(request)
        await self._sessions.end(visitor.session_id)
        await self._record(AuditEvent.LOGGED_OUT, visitor.operator.name, "", self.address(request))
        response = RedirectResponse("/login", 303)
        response.delete_cookie(self.cookie, path="/", secure=self._secure, httponly=True, samesite="lax")
        return response

    async def _oidc_start(self, request: Request, next: str = "/") -> Response:
        assert self._oidc is not None
        if not self._starts.take(self.address(request)) or not self._rate.allows(self.address(request)):
            return self._form(request, next, "Too many attempts from your address. Wait a minute.", 429)
        browser = secrets.token_urlsafe(32)
        try:
            url = await self._oidc.start(local_path(next), browser)
        except OidcError as error:
            return self._form(request, next, f"{str(error).capitalize()}.", 502)
        response = RedirectResponse(url, 303)
        response.set_cookie(self._browser_cookie, browser, max_age=600, httponly=True, samesite="lax", secure=self._secure, path="/")
        return response

    async def _oidc_finish(self, request: Request) -> Response:
        assert self._oidc is not None
        address = self.address(request)
        if not self._rate.take(address):
            return self._form(request, "/", "Too many attempts from your address. Wait a minute.", 429)
        name = ""
        try:
            claims, target = await self._oidc.finish(dict(request.query_params), request.cookies.get(self._browser_cookie, ""))
            name = self._oidc.name(claims)
            operator = await self._admit(name, self._oidc.groups(claims), "oidc", self._oidc.subject(claims))
        except (OidcError, NotAllowedError) as error:
            await self._record(AuditEvent.LOGIN_FAILED, name, f"OIDC: {error}", address)
            return self._form(request, "/", f"{str(error)[:1].upper()}{str(error)[1:]}.", 403)
        self._rate.give_back(address)
        response = await self._begin(request, operator, "oidc", target)
        response.delete_cookie(self._browser_cookie, path="/", secure=self._secure, httponly=True, samesite="lax")
        return response

    async def _record(self, event: AuditEvent, name: str, how: str, address: str) -> None:
        try:
            await self._services.audit.append(AuditEntry(event, operator=name[:120], outcome=how, detail={"client_addr": address}))
        except AuditError:
            pass  # signing in changes nothing; decisions are recorded, or not taken


def require(visitor: Visitor, *roles: Role) -> None:
    """Raises NotAllowedError."""
    if visitor.operator.role not in roles:
        raise NotAllowedError(f"the role {visitor.operator.role} may not do that")
