"""Pages about operators: all of them for admins, one's own account for everybody."""

from __future__ import annotations

from typing import Annotated, Final

import segno
from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse, Response
from pyotp import TOTP

from policy.verdict import Severity
from proxy.console.sessions import Visitor, WebSessions
from proxy.console.signin import NotAllowedError, SignIn, require
from proxy.console.views import Views
from proxy.model import Operator, Role
from proxy.operators import OperatorError
from proxy.people import NameTakenError, People, Scope
from proxy.seams import LockedOutError
from proxy.services import Services

#: Lifetimes of API tokens to choose from, in days.
TOKEN_DAYS: Final = (1, 7, 30, 90, 365)
_DAY_S: Final = 86400.0
#: What outlives a session (a token, a device, a first password, another operator) needs one that began no longer ago.
FRESH_S: Final = 1800.0


class PeoplePages:
    """/people, /account."""

    def __init__(self, services: Services, signin: SignIn, sessions: WebSessions, views: Views) -> None:
        self._services = services
        self._signin = signin
        self._sessions = sessions
        self._views = views
        self._changes = People(services.operators, services.audit)

    def routes(self) -> APIRouter:
        router = APIRouter(include_in_schema=False)
        router.add_api_route("/people", self._people, methods=["GET"])
        router.add_api_route("/people/add", self._add, methods=["POST"])
        router.add_api_route("/people/change", self._change, methods=["POST"])
        router.add_api_route("/account", self._account, methods=["GET"])
        router.add_api_route("/account/password", self._password, methods=["POST"])
        router.add_api_route("/account/second-factor", self._second_factor, methods=["POST"])
        router.add_api_route("/account/token", self._token, methods=["POST"])
        router.add_api_route("/account/token/revoke", self._revoke, methods=["POST"])
        return router

    def _needs_fresh(self, visitor: Visitor) -> None:
        """Whoever finds an open browser must not make himself a way to come back. Raises NotAllowedError."""
        # In header mode the proxy proves each request.
        if visitor.source != "header" and (self._services.clock.now() - visitor.began_at).total_seconds() > FRESH_S:
            raise NotAllowedError("you signed in a while ago; for this, sign out and in again")

    # --- all operators ------------------------------------------------------------------------------------------

    async def _people(self, request: Request) -> Response:
        visitor = await self._signin.visitor(request)
        require(visitor, Role.ADMIN, Role.AUDITOR)
        return await self._show_people(request, visitor)

    async def _show_people(
        self, request: Request, visitor: Visitor, *, error: str = "", status: int = 200, secret: str = "", about: str = ""
    ) -> Response:
        return self._views.page(
            request,
            "people.html",
            visitor=visitor,
            status=status,
            people=await self._services.operators.people(),
            roles=[str(r) for r in Role],
            severities=[s.label for s in Severity],
            error=error,
            secret=secret,
            about=about,
        )

    async def _add(
        self,
        request: Request,
        name: Annotated[str, Form(max_length=120)],
        role: Annotated[Role, Form()],
        databases: Annotated[str, Form(max_length=2000)] = "",
        max_severity: Annotated[str, Form(pattern="^(low|medium|high|critical|)$")] = "",
        database_roles: Annotated[str, Form(max_length=2000)] = "",
        may_skip_backup: Annotated[bool, Form()] = False,
    ) -> Response:
        visitor = await self._signin.changing(request)
        require(visitor, Role.ADMIN)
        self._needs_fresh(visitor)
        name = name.strip()
        scope = Scope(_words(databases), max_severity, _words(database_roles), may_skip_backup)
        try:
            token = await self._changes.add(visitor.operator.name, name, role, scope)
        except OperatorError as error:
            status = 409 if isinstance(error, NameTakenError) else 422
            return await self._show_people(request, visitor, error=str(error), status=status)
        return await self._show_people(request, visitor, secret=token, about=name)

    async def _change(
        self,
        request: Request,
        name: Annotated[str, Form(max_length=120)],
        action: Annotated[str, Form(pattern="^(disable|enable|remove|forget-second-factor)$")],
    ) -> Response:
        visitor = await self._signin.changing(request)
        require(visitor, Role.ADMIN)
        if name == visitor.operator.name:
            return await self._show_people(request, visitor, error="another admin must do that to you", status=409)
        if action in ("enable", "forget-second-factor"):
            self._needs_fresh(visitor)
        by = visitor.operator.name
        try:
            match action:
                case "disable" | "enable":
                    await self._changes.disable(by, name, action == "disable")
                case "remove":
                    await self._changes.remove(by, name)
                case _:
                    await self._changes.remove_second_factor(by, name)
        except OperatorError as error:
            return await self._show_people(request, visitor, error=str(error), status=404)
        return RedirectResponse("/people", 303)

    # --- one's own ----------------------------------------------------------------------------------------------

    async def _account(self, request: Request) -> Response:
        return await self._show_account(request, await self._signin.visitor(request))

    async def _show_account(
        self, request: Request, visitor: Visitor, *, error: str = "", done: str = "", status: int = 200, secret: str = "", totp: str = ""
    ) -> Response:
        operator = await self._services.operators.get(visitor.operator.name)
        person = next((p for p in await self._services.operators.people() if p.operator.name == visitor.operator.name), None)
        if not totp and operator is not None and not operator.second_factor:
            totp = await self._services.operators.begin_totp(operator.name)
        return self._views.page(
            request,
            "account.html",
            visitor=visitor,
            status=status,
            person=person,
            operator=operator or visitor.operator,
            token_days=TOKEN_DAYS,
            error=error,
            done=done,
            secret=secret,
            totp=totp,
            qr=_qr(visitor.operator, totp) if totp else "",
        )

    async def _password(
        self,
        request: Request,
        new: Annotated[str, Form(max_length=1000)],
        again: Annotated[str, Form(max_length=1000)],
        current: Annotated[str, Form(max_length=1000)] = "",
    ) -> Response:
        visitor = await self._signin.changing(request)
        operators = self._services.operators
        if visitor.operator.source != "local":
            raise NotAllowedError(f"your password is kept by {visitor.operator.source}, not here")
        person = next(p for p in await operators.people() if p.operator.name == visitor.operator.name)
        if not person.has_password:
            self._needs_fresh(visitor)
        try:
            if person.has_password and await operators.by_password(visitor.operator.name, current, self._signin.address(request)) is None:
                return await self._show_account(request, visitor, error="the current password is wrong", status=403)
        except LockedOutError:
            return await self._show_account(request, visitor, error="too many wrong passwords; wait a while", status=429)
        if new != again:
            return await self._show_account(request, visitor, error="the two new passwords differ", status=422)
        try:
            await self._changes.set_password(visitor.operator.name, visitor.operator.name, new)
        except OperatorError as error:
            return await self._show_account(request, visitor, error=str(error), status=422)
        # All sessions ended with it; this browser gets a new one.
        fresh = await self._sessions.begin(visitor.operator, visitor.source, self._signin.address(request))
        response = await self._show_account(request, fresh, done="The password is set; all other browsers are signed out.")
        self._signin.keep(response, fresh.session_id)
        return response

    async def _second_factor(
        self,
        request: Request,
        action: Annotated[str, Form(pattern="^(confirm|remove)$")],
        code: Annotated[str, Form(max_length=20)],
        secret: Annotated[str, Form(pattern="^[A-Z2-7]{0,64}$")] = "",
    ) -> Response:
        visitor = await self._signin.changing(request)
        operators, name = self._services.operators, visitor.operator.name
        current = await operators.get(name)
        try:
            if current is not None and current.second_factor:
                # Whoever found an open browser must not replace the device.
                if not await operators.check_totp(name, code):
                    return await self._show_account(request, visitor, error="the code is wrong, or was used before", status=403)
                await self._changes.remove_second_factor(name, name)
                return await self._show_account(request, visitor, done="The second factor is removed.")
            self._needs_fresh(visitor)
            if action != "confirm" or len(secret) < 16 or not await self._changes.confirm_second_factor(name, name, secret, code):
                return await self._show_account(request, visitor, error="the code does not fit; try the next one", status=422, totp=secret)
        except LockedOutError:
            return await self._show_account(request, visitor, error="too many wrong codes; wait a while", status=429)
        return await self._show_account(request, visitor, done="The second factor is set up.")

    async def _token(
        self, request: Request, name: Annotated[str, Form(max_length=120)], days: Annotated[int, Form(ge=1, le=3650)]
    ) -> Response:
        visitor = await self._signin.changing(request)
        self._needs_fresh(visitor)
        try:
            token = await self._changes.add_token(visitor.operator.name, visitor.operator.name, name.strip(), days * _DAY_S)
        except OperatorError as error:
            return await self._show_account(request, visitor, error=str(error), status=422)
        return await self._show_account(request, visitor, secret=token)

    async def _revoke(self, request: Request, name: Annotated[str, Form(max_length=120)]) -> Response:
        visitor = await self._signin.changing(request)
        try:
            await self._changes.revoke_token(visitor.operator.name, visitor.operator.name, name)
        except OperatorError as error:
            return await self._show_account(request, visitor, error=str(error), status=404)
        return RedirectResponse("/account", 303)


def _words(text: str) -> list[str]:
    return [word for word in text.replace(",", " ").split() if word]


def _qr(operator: Operator, secret: str) -> str:
    """A data: address of the picture that an authenticator reads (otpauth://)."""
    uri = TOTP(secret).provisioning_uri(name=operator.name, issuer_name="pghold")
    return str(segno.make(uri, error="m").svg_data_uri(scale=4, border=2, dark="#000", light="#fff"))
