"""Operators over the HTTP API: all of them for admins, one's own password, second factor and tokens for everybody."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Body, Depends, Path
from fastapi.responses import Response
from pydantic import BaseModel, Field
from pyotp import TOTP

from policy.verdict import Severity
from proxy.console.problems import ProblemError, pick
from proxy.holds_json import iso
from proxy.model import Operator, Role
from proxy.operators import OperatorError
from proxy.people import People, Scope, UnknownOperatorError, person_as_json
from proxy.seams import LockedOutError
from proxy.services import Services

_SEVERITIES = "|".join(s.label for s in Severity)
_Words = Annotated[list[Annotated[str, Field(min_length=1, max_length=200)]] | None, Field(max_length=100)]


class ScopeFields(BaseModel):
    """What he may decide; what is left out stays as it is."""

    databases: _Words = Field(None, description="Patterns of those he decides for; none: all.")
    max_severity: str | None = Field(None, pattern=f"^({_SEVERITIES}|)$", description="The worst he decides; empty: any.")
    database_roles: _Words = Field(None, description="Whose statements are his own.")
    may_skip_backup: bool | None = Field(None, description="Whether he may approve without a copy.")

    def scope(self) -> Scope:
        return Scope(self.databases, self.max_severity, self.database_roles, self.may_skip_backup)


class NewOperator(ScopeFields):
    name: str = Field(max_length=120)
    role: Role = Role.APPROVER


class Change(ScopeFields):
    role: Role | None = None
    disabled: bool | None = Field(None, description="A disabled operator's tokens and sessions are good for nothing.")


class NewToken(BaseModel):
    name: str = Field(description="What it is for.", max_length=120)
    expires_in_s: float | None = Field(None, gt=0, le=3650 * 86400, description="How long it is good for; null: until revoked.")


class Password(BaseModel):
    password: str = Field(max_length=1000)
    current: str = Field("", description="One's own, where there is one; an admin may do without for others.", max_length=1000)


class Device(BaseModel):
    secret: str = Field(pattern="^[A-Z2-7]{16,64}$")
    code: str = Field(max_length=20)


class Code(BaseModel):
    code: str = Field("", max_length=20)


def people_routes(services: Services, operator: Callable[..., Awaitable[Operator]]) -> APIRouter:
    """/api/v1/operators."""
    router = APIRouter(prefix="/api/v1/operators", tags=["operators"])
    people = People(services.operators, services.audit)
    Who = Annotated[Operator, Depends(operator)]
    Name = Annotated[str, Path(max_length=120)]
    TokenName = Annotated[str, Path(max_length=120)]

    @router.get("", operation_id="listOperators", responses=pick(401, 403, 503))
    async def list_operators(who: Who) -> list[dict[str, object]]:
        """All operators, with the names of their tokens."""
        if who.role not in (Role.ADMIN, Role.AUDITOR):
            raise ProblemError(403, "not allowed", f"the role {who.role} may not do that; it takes an admin or an auditor")
        return [person_as_json(p) for p in await services.operators.people()]

    @router.get("/{name}", operation_id="getOperator", responses=pick(401, 403, 404, 503))
    async def get_operator(who: Who, name: Name) -> dict[str, object]:
        """One operator; oneself, unless admin or auditor."""
        if who.name != name and who.role not in (Role.ADMIN, Role.AUDITOR):
            raise ProblemError(403, "not allowed", f"the role {who.role} may not do that for others; it takes an admin or an auditor")
        return person_as_json(await people.find(name))

    @router.post("", operation_id="addOperator", status_code=201, responses=pick(400, 401, 403, 503))
    async def add_operator(who: Who, body: NewOperator) -> dict[str, object]:
        """Add an operator. The token is in no other answer."""
        _admin(who)
        return {"name": body.name, "token": await people.add(who.name, body.name, body.role, body.scope())}

    @router.patch("/{name}", operation_id="changeOperator", responses=pick(400, 401, 403, 404, 409, 503))
    async def change_operator(who: Who, name: Name, body: Change) -> dict[str, object]:
        """Another role or scope, disabled or not."""
        _admin_for_another(who, name)
        if body.disabled is not None:
            await people.disable(who.name, name, body.disabled)
        if body.role is not None or body.scope() != Scope() or body.disabled is None:
            await people.change(who.name, name, body.role, body.scope())
        return person_as_json(await people.find(name))

    @router.delete("/{name}", operation_id="removeOperator", status_code=204, responses=pick(401, 403, 404, 409, 503))
    async def remove_operator(who: Who, name: Name) -> Response:
        """Remove an operator and all that is his."""
        _admin_for_another(who, name)
        await people.remove(who.name, name)
        return Response(status_code=204)

    @router.post("/{name}/tokens", operation_id="addToken", status_code=201, responses=pick(400, 401, 403, 404, 503))
    async def add_token(who: Who, name: Name, body: NewToken) -> dict[str, object]:
        """A further token. It is in no other answer."""
        _self_or_admin(who, name)
        token = await people.add_token(who.name, name, body.name, body.expires_in_s)
        expires_at = None if body.expires_in_s is None else services.clock.now() + timedelta(seconds=body.expires_in_s)
        return {"operator": name, "name": body.name, "token": token, "expires_at": iso(expires_at)}

    @router.delete("/{name}/tokens/{token}", operation_id="revokeToken", status_code=204, responses=pick(401, 403, 404, 503))
    async def revoke_token(who: Who, name: Name, token: TokenName) -> Response:
        """A token stops working at once."""
        _self_or_admin(who, name)
        await people.revoke_token(who.name, name, token)
        return Response(status_code=204)

    @router.put("/{name}/password", operation_id="setPassword", status_code=204, responses=pick(400, 401, 403, 404, 503))
    async def set_password(who: Who, name: Name, body: Password) -> Response:
        """Set a password; all browsers of that operator are signed out."""
        _self_or_admin(who, name)
        person = await people.find(name)
        if person.operator.source != "local":
            raise ProblemError(400, "not done", f"the password of {name} is kept by {person.operator.source}, not here")
        if who.name == name and person.has_password:
            try:
                good = await services.operators.by_password(name, body.current) is not None
            except LockedOutError:
                raise ProblemError(403, "not allowed", "too many wrong passwords; wait a while") from None
            if not good:
                raise ProblemError(403, "not allowed", "the current password is wrong")
        await people.set_password(who.name, name, body.password)
        return Response(status_code=204)

    @router.post("/{name}/second-factor", operation_id="beginSecondFactor", responses=pick(400, 401, 403, 404, 503))
    async def begin_second_factor(who: Who, name: Name) -> dict[str, object]:
        """A secret for an authenticator; it counts once a code of it is sent back."""
        _oneself(who, name)
        secret = await people.begin_second_factor(name)
        return {"secret": secret, "uri": TOTP(secret).provisioning_uri(name=name, issuer_name="pghold")}

    @router.put("/{name}/second-factor", operation_id="confirmSecondFactor", status_code=204, responses=pick(400, 401, 403, 404, 503))
    async def confirm_second_factor(who: Who, name: Name, body: Device) -> Response:
        """Keep the device that this is a code of."""
        _oneself(who, name)
        if not await people.confirm_second_factor(who.name, name, body.secret, body.code):
            raise ProblemError(403, "not allowed", "the code does not fit; try the next one")
        return Response(status_code=204)

    @router.delete("/{name}/second-factor", operation_id="removeSecondFactor", status_code=204, responses=pick(401, 403, 404, 503))
    async def remove_second_factor(who: Who, name: Name, body: Annotated[Code, Body()]) -> Response:
        """Forget the device: one's own with a code of it, others' by an admin."""
        _self_or_admin(who, name)
        try:
            if who.name == name and not await services.operators.check_totp(name, body.code):
                raise ProblemError(403, "not allowed", "the code is wrong, or was used before")
        except LockedOutError:
            raise ProblemError(403, "not allowed", "too many wrong codes; wait a while") from None
        await people.remove_second_factor(who.name, name)
        return Response(status_code=204)

    return router


def operator_problem(error: OperatorError) -> ProblemError:
    """As an answer of the API."""
    return ProblemError(404 if isinstance(error, UnknownOperatorError) else 400, "not done", str(error))


def _admin(who: Operator) -> None:
    if not who.role.may_administer:
        raise ProblemError(403, "not allowed", f"the role {who.role} may not do that; it takes an admin")


def _admin_for_another(who: Operator, name: str) -> None:
    _admin(who)
    if who.name == name:
        raise ProblemError(409, "not done", "another admin must do that to you")


def _self_or_admin(who: Operator, name: str) -> None:
    if who.name != name and not who.role.may_administer:
        raise ProblemError(403, "not allowed", f"the role {who.role} may not do that for others; it takes an admin")


def _oneself(who: Operator, name: str) -> None:
    if who.name != name:
        raise ProblemError(403, "not allowed", f"only {name} can set up a device; an admin can remove it")
