"""The policy file: which rule does what, for whom, where and when.

A session has an identity; the conditions on it, on the environment and on the time of day pick entries of the file; what is left of
those is a policy.view.View, and each different View has one Engine, with caches of its own.
"""

from __future__ import annotations

import difflib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, time
from fnmatch import fnmatchcase
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Annotated, Any, Final, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from policy import Engine, Environment, Profile, Verdict
from policy.rules import ALL_RULES
from policy.view import RowLimit, RuleAction, View
from proxy.model import ErrandKind

#: Engines kept; each has caches of some megabytes.
_ENGINES: Final = 32
_DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_RULE_IDS: Final = [rule.id for rule in ALL_RULES]


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a session is: the login role, whatever SET ROLE says later. The application's name is the client's own word."""

    role: str = ""
    database: str = ""
    application: str = ""
    address: str = ""  # without the port; "local" for a Unix socket

    def with_application(self, name: str) -> Identity:
        return replace(self, application=name)


def _one_or_more(value: object) -> object:
    return [value] if isinstance(value, str) else value


Patterns = Annotated[list[str], BeforeValidator(_one_or_more), Field(default_factory=list)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Condition(_Model):
    """Whom an entry is for. Everything that is given must hold; of a list one is enough. Names are patterns with * and ?."""

    databases: Patterns = Field(description="Databases.")
    roles: Patterns = Field(description="Login roles.")
    groups: Patterns = Field(description="Groups of roles, from [policy.groups].")
    applications: Patterns = Field(description="application_name, which is the client's own word.")
    networks: Patterns = Field(description="Addresses of clients, such as 10.0.0.0/8; local is a Unix socket.")
    environments: list[Environment] = Field(default_factory=list, description="production, development, test.")
    hours: str = Field("", description="From and to, such as 09:00-17:30; 22:00-06:00 goes over midnight.")
    days: list[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]] = Field(default_factory=list, description="Days of the week.")
    timezone: str = Field("UTC", description="Of hours and days, such as Europe/Berlin.")

    @field_validator("networks")
    @classmethod
    def _networks_read(cls, value: list[str]) -> list[str]:
        for network in value:
            if network != "local":
                try:
                    ip_network(network)
                except ValueError:
                    raise ValueError(f"{network!r}: expected a network such as 10.0.0.0/8, or local") from None
        return value

    @field_validator("hours")
    @classmethod
    def _hours_read(cls, value: str) -> str:
        if value:
            _hours(value)
        return value

    @field_validator("timezone")
    @classmethod
    def _zone_is_known(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError(f"{value!r}: expected a time zone such as Europe/Berlin") from None
        return value

    @property
    def changes(self) -> bool:
        """Whether it may hold now and not later in the same session."""
        return bool(self.applications or self.hours or self.days)

    def holds(self, identity: Identity, environment: Environment, groups: dict[str, list[str]], now: datetime) -> bool:
        roles = [*self.roles, *(role for group in self.groups for role in groups.get(group, []))]
        return (
            _matches(identity.database, self.databases)
            and (_matches(identity.role, roles) if self.roles or self.groups else True)
            and _matches(identity.application, self.applications)
            and (not self.networks or _is_in(identity.address, self.networks))
            and (not self.environments or environment in self.environments)
            and self._is_time(now)
        )

    def _is_time(self, now: datetime) -> bool:
        if not self.hours and not self.days:
            return True
        local = now.astimezone(ZoneInfo(self.timezone))
        day = local.weekday()
        if self.hours:
            first, last = _hours(self.hours)
            at = local.time()
            if first <= last:
                if not first <= at < last:
                    return False
            elif at < last:
                day = (day - 1) % 7  # the window began yesterday
            elif at < first:
                return False
        return not self.days or _DAYS[day] in self.days


def _matches(name: str, patterns: list[str]) -> bool:
    return not patterns or any(fnmatchcase(name, p) for p in patterns)


def _is_in(address: str, networks: list[str]) -> bool:
    if address == "local":
        return "local" in networks
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if found.version == 6 and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    known: list[IPv4Network | IPv6Network] = [ip_network(n) for n in networks if n != "local"]
    return any(found.version == n.version and found in n for n in known)


def _hours(text: str) -> tuple[time, time]:
    try:
        first, last = (time.fromisoformat(part.strip()) for part in text.split("-"))
    except ValueError:
        raise ValueError(f"{text!r}: expected hours such as 09:00-17:30") from None
    return first, last


def _known_rules(value: list[str], known: Sequence[str] = ()) -> list[str]:
    known = known or _RULE_IDS
    for pattern in value:
        if not any(fnmatchcase(rule_id, pattern) for rule_id in known):
            near = difflib.get_close_matches(pattern, known, 1)
            raise ValueError(f"{pattern!r} is no rule" + (f"; did you mean {near[0]}?" if near else "; docs/rules/ lists them"))
    return value


class RuleEntry(Condition):
    """What to do with the findings of some rules."""

    rules: Annotated[list[str], BeforeValidator(_one_or_more)] = Field(description="Ids of rules, or patterns such as drop-*.")
    action: Literal["allow", "warn", "hold", "deny"] = Field(
        description="allow, warn, hold or deny; of those that apply the strictest wins."
    )
    relations: Patterns = Field(description="Relations as written, such as billing.* or tmp_*.")
    rows_over: int | None = Field(None, ge=0, description="Only when more rows than this are estimated; an unknown estimate is many.")
    reason: str = Field("", description="Why; an allow needs it, and it goes on record.")

    @field_validator("rules")
    @classmethod
    def _rules_are_known(cls, value: list[str]) -> list[str]:
        if not value:
            raise ValueError("expected the id of a rule, such as drop-table")
        return _known_rules(value)

    @model_validator(mode="after")
    def _allow_says_why(self) -> Self:
        if self.action == "allow" and not self.reason.strip():
            raise ValueError('an allow needs a reason, such as reason = "test databases are rebuilt each night"')
        return self

    def as_action(self) -> RuleAction:
        return RuleAction(tuple(self.rules), Verdict[self.action.upper()], tuple(self.relations), self.rows_over, self.reason.strip())


class ApprovalEntry(_Model):
    """What approving takes, for the holds that match. Of several entries the most demanding counts."""

    approvers: int = Field(1, ge=1, le=10, description="Distinct people who must approve.")
    second_factor: bool = Field(False, description="Each gives a code of his TOTP device.")
    break_glass: bool = Field(True, description="One of them may approve alone, which goes on record and to every route of notifications.")
    min_severity: Literal["low", "medium", "high", "critical"] = Field("low", description="From this severity on.")
    rules: Patterns = Field(description="Ids of rules, or patterns such as drop-*; one of the hold's is enough.")
    databases: Patterns = Field(description="Databases.")
    roles: Patterns = Field(description="Login roles of the requester.")
    applications: Patterns = Field(description="application_name, which is the client's own word.")
    environments: list[Environment] = Field(default_factory=list, description="production, development, test.")

    @field_validator("rules")
    @classmethod
    def _rules_are_known(cls, value: list[str]) -> list[str]:
        return _known_rules(value, (*_RULE_IDS, *map(str, ErrandKind)))


class OnHoldEntry(Condition):
    """Whether clients wait for a decision. The last entry that matches counts; a client's own pghold.on_hold comes first."""

    action: Literal["wait", "reject"] = Field(description="wait, or reject: refused at once, and sent again once it is approved.")


class RowLimitEntry(Condition):
    """How many rows a transaction may change before its commit is held. Each entry that matches counts by itself."""

    rows: int = Field(ge=0, description="More rows than this, as the server counts them.")
    relations: Patterns = Field(description="Relations as written, such as billing.*; default: all together.")

    def as_limit(self) -> RowLimit:
        return RowLimit(self.rows, tuple(self.relations))


class BlockingEntry(Condition):
    """What happens when other sessions wait behind the locks of a held one."""

    after_s: float = Field(gt=0, description="Once one has waited for so many seconds.")
    action: Literal["warn", "deny"] = Field(description="warn, or deny: the hold is denied, so that the transaction ends.")


class EnvironmentEntry(_Model):
    profile: Profile | None = Field(None, description="The profile in this environment.")


class PolicyFile(_Model):
    """[policy] of pghold.toml."""

    groups: dict[str, list[str]] = Field(default_factory=dict, description="Groups of roles, by name; patterns with * and ?.")
    protected: Patterns = Field(description="Relations of which any change is held, such as billing.*.")
    environments: dict[Environment, EnvironmentEntry] = Field(default_factory=dict, description="What differs by environment.")
    test_databases: Annotated[list[str], BeforeValidator(_one_or_more)] = Field(
        default_factory=lambda: ["test", "test_*", "*_test", "*_test_[0-9]*"],
        description="Databases in which forced syncs of tools are left alone.",
    )
    rules: list[RuleEntry] = Field(default_factory=list, description="What rules do.")
    read_only: list[Condition] = Field(default_factory=list, description="Identities that only read.")
    approvals: list[ApprovalEntry] = Field(default_factory=list, description="What approving takes.")
    on_hold: list[OnHoldEntry] = Field(default_factory=list, description="Who waits for a decision, and who is refused at once.")
    row_limits: list[RowLimitEntry] = Field(
        default_factory=list, description="How many rows a transaction may change before its commit is held."
    )
    blocking: list[BlockingEntry] = Field(default_factory=list, description="What happens when others wait behind a held session.")

    @model_validator(mode="after")
    def _groups_are_known(self) -> Self:
        for where, entries in (
            ("rules", self.rules),
            ("read_only", self.read_only),
            ("on_hold", self.on_hold),
            ("row_limits", self.row_limits),
            ("blocking", self.blocking),
        ):
            for index, entry in enumerate(entries):
                for group in entry.groups:
                    if group not in self.groups:
                        raise ValueError(f"{where}[{index}].groups: {group!r} is not in [policy.groups]")
        return self


def _utc_now() -> datetime:
    from datetime import UTC

    return datetime.now(UTC)


class Policies:
    """The policy in force: the engine for each identity.

    Attributes:
        changes: the engine for a session may change while it lasts (time windows, names of applications).
    """

    def __init__(
        self,
        file: PolicyFile | None = None,
        *,
        profile: Profile = Profile.GUARD,
        environment: Environment = Environment.PRODUCTION,
        now: Callable[[], datetime] = _utc_now,
        announces: bool = False,
        allows_forced_sync: bool = False,
    ) -> None:
        self.file = file or PolicyFile.model_validate({})
        here = self.file.environments.get(environment)
        self.profile = here.profile if here is not None and here.profile is not None else profile
        self.environment = environment
        self.hits_before = self.misses_before = 0
        self._now = now
        self._announces = announces
        self._allows_forced_sync = allows_forced_sync
        self._engines: OrderedDict[View, Engine] = OrderedDict()
        entries: list[Condition] = [*self.file.rules, *self.file.read_only, *self.file.row_limits]
        self.changes = any(e.changes for e in entries)

    def view(self, identity: Identity) -> View:
        now = self._now()
        groups = self.file.groups
        return View(
            tuple(e.as_action() for e in self.file.rules if e.holds(identity, self.environment, groups, now)),
            tuple(self.file.protected),
            any(e.holds(identity, self.environment, groups, now) for e in self.file.read_only),
            self._announces,
            tuple(e.as_limit() for e in self.file.row_limits if e.holds(identity, self.environment, groups, now)),
            self._allows_forced_sync,
            tuple(self.file.test_databases),
        )

    def rejects(self, identity: Identity) -> bool:
        """Whether this identity's held statements are refused at once; decided when it connects."""
        now = self._now()
        actions = [e.action for e in self.file.on_hold if e.holds(identity, self.environment, self.file.groups, now)]
        return bool(actions) and actions[-1] == "reject"

    def denies_blocking_after(self, identity: Identity) -> float | None:
        """How long others may wait behind this identity's hold before it is denied; None: as long as it takes."""
        now = self._now()
        groups = self.file.groups
        denying = [e.after_s for e in self.file.blocking if e.action == "deny" and e.holds(identity, self.environment, groups, now)]
        return min(denying, default=None)

    def engine(self, identity: Identity) -> Engine:
        view = self.view(identity)
        engine = self._engines.get(view)
        if engine is None:
            engine = self._engines[view] = Engine(profile=self.profile, environment=self.environment, view=view)
            if len(self._engines) > _ENGINES:
                _, old = self._engines.popitem(last=False)
                self.hits_before += old.hits
                self.misses_before += old.misses
        self._engines.move_to_end(view)
        return engine

    @property
    def hits(self) -> int:
        return self.hits_before + sum(e.hits for e in self._engines.values())

    @property
    def misses(self) -> int:
        return self.misses_before + sum(e.misses for e in self._engines.values())


def describe(error: dict[str, Any]) -> tuple[str, str]:  # any: pydantic's own shape of an error
    """The key and the problem of one validation error, in the words of the file."""
    where = ""
    for part in error["loc"]:
        where += f"[{part}]" if isinstance(part, int) else f".{part}" if where else str(part)
    kind, context = error["type"], error.get("ctx", {})
    if kind == "literal_error":
        return where, f"expected {context['expected'].replace(chr(39), '')}, not {error['input']!r}"
    if kind == "enum":
        return where, f"expected {context['expected'].replace(chr(39), '')}, not {error['input']!r}"
    if kind == "extra_forbidden":
        return where, "unknown key"
    if kind == "missing":
        return where, "is missing"
    return where, str(error["msg"]).removeprefix("Value error, ")
