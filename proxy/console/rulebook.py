"""The policy's page: what is in force for whom, what changed, and what would become of a statement; and a page for each rule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import RedirectResponse, Response

from policy import Context, Engine
from policy.catalogue import RULES, severity_of
from policy.rule import Rule
from policy.verdict import Profile, Verdict
from policy.view import RuleAction
from proxy.console.record import policy_changes
from proxy.console.script import pieces, unusual_characters
from proxy.console.section import Section
from proxy.console.signin import require
from proxy.errors import ConfigError
from proxy.model import ErrandKind, Role
from proxy.policies import Identity

#: What stands in the place of a rule where the statement is pghold's own.
ERRANDS: Final[dict[str, str]] = {
    ErrandKind.UNDO: "No rule: an operator asked pghold to take back what a statement did. The hold says what will run (docs/undo.md).",
    ErrandKind.RESTORE: "No rule: an operator asked pghold to restore a copy. The hold says what will run (docs/undo.md).",
    ErrandKind.PURGE: "No rule: tables that were moved to the trash have been there for long enough to be dropped (docs/undo.md).",
}
_SCRIPT_LIMIT: Final = 100_000


@dataclass(frozen=True, slots=True)
class RuleRow:
    """One rule as it is for an identity.

    Attributes:
        profile: what the profile does with its findings.
        actions: what the file says besides, in its order; conditions on relations and rows remain to be seen.
    """

    rule: Rule
    title: str
    profile: Verdict
    actions: tuple[RuleAction, ...]

    @property
    def effective(self) -> Verdict:
        """What a finding gets when no condition is left open."""
        certain = [a.action for a in self.actions if not a.relations and a.rows_over is None]
        return max(certain) if certain else self.profile


class RulePages(Section):
    """/policy, /rules/{id}."""

    def routes(self) -> APIRouter:
        router = APIRouter(include_in_schema=False)
        router.add_api_route("/policy", self._policy, methods=["GET"])
        router.add_api_route("/policy/try", self._try, methods=["POST"])
        router.add_api_route("/policy/reload", self._reload, methods=["POST"])
        router.add_api_route("/rules/{rule_id}", self._rule, methods=["GET"])
        return router

    async def _policy(
        self,
        request: Request,
        role: Annotated[str, Query(max_length=200)] = "",
        database: Annotated[str, Query(max_length=200)] = "",
        application: Annotated[str, Query(max_length=200)] = "",
        address: Annotated[str, Query(max_length=60)] = "local",
    ) -> Response:
        await self._signin.visitor(request)
        return await self._show(request, Identity(role, database, application, address))

    async def _show(
        self,
        request: Request,
        identity: Identity,
        *,
        script: str = "",
        tried: dict[str, object] | None = None,
        error: str = "",
        status: int = 200,
    ) -> Response:
        visitor = await self._signin.visitor(request)
        policies = self._services.judging.policies
        view = policies.view(identity)
        return self._views.page(
            request,
            "policy.html",
            visitor=visitor,
            status=status,
            identity=identity,
            policies=policies,
            file=policies.file,
            view=view,
            rows=[_row(rule, policies.profile, view.actions) for rule in RULES.values()],
            approvals=policies.file.approvals,
            changes=await policy_changes(self._services),
            script=script,
            tried=tried,
            error=error,
        )

    async def _try(
        self,
        request: Request,
        script: Annotated[str, Form(max_length=_SCRIPT_LIMIT)],
        role: Annotated[str, Form(max_length=200)] = "",
        database: Annotated[str, Form(max_length=200)] = "",
        application: Annotated[str, Form(max_length=200)] = "",
        address: Annotated[str, Form(max_length=60)] = "local",
    ) -> Response:
        """Nothing runs. Judged in a process apart, as the text may be of the kind that kills a parser."""
        await self._signin.changing(request)
        identity = Identity(role, database, application, address)
        policies = self._services.judging.policies
        # An engine of its own: what is tried here does not fill the caches of the sessions.
        engine = Engine(profile=policies.profile, environment=policies.environment, view=policies.view(identity))
        context = Context(
            role=role, database=database, application_name=application, environment=policies.environment, profile=policies.profile
        )
        script = script.replace("\r\n", "\n")
        judgement = await self._services.judging.isolated.judge(engine, script.encode("utf-8", "surrogatepass"), context)
        findings = [f for f in judgement.findings if f.verdict is not Verdict.ALLOW or f.allowed_because]
        tried: dict[str, object] = {
            "verdict": "rejected by the server" if judgement.syntax_error else str(judgement.verdict.name.lower()),
            "error": judgement.syntax_error,
            "findings": findings,
            "severity": severity_of(judgement.rule_ids).label if judgement.rule_ids else "",
            "pieces": pieces(script, [f.span for f in findings]),
            "unusual": unusual_characters(script),
            "statements": judgement.statements,
        }
        return await self._show(request, identity, script=script, tried=tried)

    async def _reload(self, request: Request) -> Response:
        visitor = await self._signin.changing(request)
        require(visitor, Role.ADMIN)
        try:
            await self._services.reload(visitor.operator.name)
        except ConfigError as error:
            return await self._show(request, Identity(address="local"), error=f"not reloaded: {error}", status=422)
        return RedirectResponse("/policy", 303)

    async def _rule(self, request: Request, rule_id: str) -> Response:
        visitor = await self._signin.visitor(request)
        rule = RULES.get(rule_id)
        if rule_id in ERRANDS:
            return self._views.page(request, "error.html", visitor=visitor, title=rule_id, detail=ERRANDS[rule_id])
        if rule is None:
            return self._views.page(
                request,
                "error.html",
                visitor=visitor,
                status=404,
                title="Not found",
                detail=f"There is no rule of the name {rule_id} here.",
            )
        return self._views.page(request, "rule.html", visitor=visitor, rule=rule, doc=rule_text(rule))


def _row(rule: Rule, profile: Profile, actions: tuple[RuleAction, ...]) -> RuleRow:
    default = rule.strict if profile is Profile.STRICT else rule.verdict
    return RuleRow(rule, _title(rule), default, tuple(a for a in actions if a.concerns(rule.id)))


def _title(rule: Rule) -> str:
    return (type(rule).__doc__ or "").strip().partition("\n\n")[0].replace("\n", " ")


def rule_text(rule: Rule) -> dict[str, str]:
    """The parts of a rule's documentation."""
    why = rule.section("Why it is held") or rule.section("Why it is denied")
    return {"title": _title(rule), "why": why, "instead": rule.section("Instead"), "gaps": rule.section("Known gaps")}
