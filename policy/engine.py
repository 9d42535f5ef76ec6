"""Judges scripts: parse → facts → rules → findings → the strictest verdict. Pure but for its cache.

Whatever goes wrong inside is a hold, never an allow: text that cannot be decoded or parsed, a rule that raises.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Final, cast

from policy.bounds import look
from policy.context import Context
from policy.extract import VISITORS, Extractor
from policy.facts import Facts, Opaque, Setting, StatementFacts
from policy.judgement import Finding, Judgement, StatementReport
from policy.lexing import ASCII_UNSAFE, UndecodableError, can_only_read, decode, mask_passwords
from policy.limits import limits_of
from policy.parse import GrammarError, Json, Node, TooDeepError, parse, tree, without_comments
from policy.places import place
from policy.rewrite import has_always_true_where
from policy.rule import Rule
from policy.rules import ALL_RULES
from policy.rules._functions import LATER_SCHEMAS, NAMED_ELSEWHERE
from policy.shape import shape
from policy.suggest import suggest
from policy.tools import Act, Reach, marks_of
from policy.verdict import Environment, Profile, Verdict
from policy.view import View

#: Bytes of script text kept in each generation of the cache; two generations are alive.
_CACHE_BYTES: Final = 8 << 20
_SCRIPT_CACHED_BYTES: Final = 64 << 10

_NO_VIEW: Final = View()
#: Of findings about the function-call protocol.
FUNCTION_CALL: Final = "function-call"
_ALLOW: Final = Judgement(Verdict.ALLOW)
_ALLOW_LITERAL_FREE: Final = Judgement(Verdict.ALLOW, literal_free=True)

FORCED_SYNC: Final = "forced-sync"
#: What acts of tools are made of. Findings of other rules are matters of their own, within an act as well.
ACT_RULES: Final = frozenset(
    {
        "alter-column-type",
        "alter-table-drop-column",
        "always-true-where",
        "blocking-constraint",
        "blocking-index",
        "blocking-maintenance",
        "delete-without-where",
        "detach-partition",
        "drop-constraint",
        "drop-database",
        "drop-object",
        "drop-schema",
        "drop-table",
        "rename",
        "sequence-reset",
        "table-rewrite",
        "truncate",
        "update-without-where",
    }
)

#: In the JSON tree. A quote inside a string value is escaped, so a key's closing quote and colon never match in a value.
_FUNCTION: Final = re.compile(rb'"funcname":\[(?:\{"String":\{"sval":"[^"\\]*"\}\},)*\{"String":\{"sval":"([^"\\]*)"\}\}\]')

#: What libpq's and JDBC's large-object calls use through the function-call protocol (lo-interfaces.html), by OID in pg_proc.
_READING_CALLS: Final = {952, 953, 954, 956, 957, 715, 958, 3170, 3171}
_WRITING_CALLS: Final = {955: "lowrite", 964: "lo_unlink", 1004: "lo_truncate", 3172: "lo_truncate64", 3460: "lo_put"}


class Engine:
    """One policy: a profile and an environment, applied by rules.

    Attributes:
        hits, misses: of the cache, for metrics.
    """

    def __init__(
        self,
        *,
        profile: Profile = Profile.GUARD,
        environment: Environment = Environment.PRODUCTION,
        rules: tuple[Rule, ...] = ALL_RULES,
        view: View = _NO_VIEW,
    ) -> None:
        self.profile = profile
        self.environment = environment
        self.hits = 0
        self.misses = 0
        self.view = view
        self._rules = rules
        strict = profile is Profile.STRICT
        verdicts = [(rule, rule.strict if strict else rule.verdict) for rule in rules]
        #: Rules that can find something here, with the profile's verdict.
        self._active = [(r, v) for r, v in verdicts if v is not Verdict.ALLOW or view.concerns(r.id)]
        self._looked_at = tuple(sorted({name for rule, _ in self._active for name in rule.looks_at}))
        #: The rules to ask, by the fields of Facts that hold something.
        self._rules_for: dict[tuple[str, ...], list[tuple[Rule, Verdict]]] = {}
        #: Nothing but a few functions matters in a plain SELECT or INSERT.
        self._glances = not strict and not view.actions and not view.protected and not view.read_only and not view.row_limits
        self._young: dict[bytes, Judgement] = {}
        self._old: dict[bytes, Judgement] = {}
        self._young_bytes = 0
        #: The last script that was looked up by shape, and its key: `judge` follows.
        self._shaped: tuple[bytes, bytes | None] = (b"", None)

    # --- judging ------------------------------------------------------------------------------------------------

    def settled(self, script: bytes, context: Context) -> Judgement | None:
        """A judgement that is known already; None when the script must be judged. Does not parse."""
        found = self._young.get(script)
        if found is not None and context.lexes_plainly:
            self.hits += 1
            return found
        if not context.lexes_plainly:
            return None
        found = self._old.get(script)
        if found is not None:
            self.hits += 1
            self._keep(script, found)
            return found
        key = self._shape(script)
        if key is not None:
            found = self._young.get(key) or self._old.get(key)
            if found is not None:
                self.hits += 1
                self._keep(script, found)
                return found
        return None

    def _shape(self, script: bytes) -> bytes | None:
        last, key = self._shaped
        if last is not script:
            key = shape(script)
            if key is not None:
                # No script begins with a ?, so the two kinds of keys do not meet: one that does is no PostgreSQL, and is not kept.
                key = b"?" + key
            self._shaped = (script, key)
        return key

    def judge(self, script: bytes, context: Context, *, isolated: bool = False) -> Judgement:
        """Judge a script: its exact bytes, without the NUL that ends it. Never raises.

        `isolated` is for a process that may die of it: text that could break the grammar's library is then given to it.
        """
        self.misses += 1
        context = self._own(context)
        try:
            judgement = self._judge_bytes(script, context, isolated)
        except (TooDeepError, RecursionError):
            judgement = self._unanalysable("an expression is nested too deep to be analysed", script)
        except Exception as error:  # Safety: a bug in a rule or in the extraction holds (test_engine).
            judgement = self._unanalysable(f"the analysis failed ({type(error).__name__})", script)
        marks = marks_of(script.decode("utf-8", "replace"))
        if marks:
            judgement = replace(judgement, marks=marks)
        self.remember(script, context, judgement)
        return judgement

    def judge_bound(self, script: bytes, context: Context, values: tuple[bytes | None, ...]) -> Judgement:
        """Judge a statement of one Execute with the values of its Bind, as text. Never milder than without them. Never raises.

        The values stand in the tree as untyped literals; what they are compared with may give them another type, so they can show
        that a pattern matches everything, and never that a condition is false.
        """
        plain = self.judge(script, context)
        try:
            text = decode(script, context.client_encoding)
            statements = tree(_parse(text.encode(), context.standard_conforming_strings))
            bound = self._judge_tree(_with_values(statements, values), self._own(context), 0, text, text.encode())
        except (UndecodableError, GrammarError, TooDeepError, RecursionError):
            return plain
        return bound if bound.verdict > plain.verdict else replace(plain, wants_values=False)

    def as_act(self, judgement: Judgement, act: Act, database: str) -> Judgement:
        """The judgement of a script that is to be held, as what it is of the act that it begins. Never milder than it was, but where forced
        syncs pass: then what the act is made of is allowed for that reason, and anything else in the script is as it was. Migrations pass there too.

        `database` is the session's.
        """
        relations = judgement.relations
        wanted = relations if act.reach is Reach.DATABASE else (database,)
        tested = bool(wanted) and all(any(fnmatchcase(name.strip('"'), p) for p in self.view.test_databases) for name in wanted)
        default = Verdict.HOLD if self.view.allows_forced_sync or self.environment is not Environment.PRODUCTION else Verdict.DENY
        why = ""
        if tested:
            why = "a test database, by its name"
        elif self.environment is Environment.TEST:
            why = "the test environment"
        what = f"{act.tool} {act.kind}"
        if not act.forced and not why:
            return judgement
        rule = next((r for r in self._rules if r.id == FORCED_SYNC), None)
        finding = self._settle(
            Finding(FORCED_SYNC, default, f"{what} begins here", rule.hint() if rule else "", 0, (0, 0), relations), default
        )
        if not act.forced:
            pass  # the rule is not about it, and what the policy makes of the rule neither
        elif finding.verdict is Verdict.ALLOW:
            why = finding.allowed_because or "the policy"
        elif any(a.concerns(FORCED_SYNC) for a in self.view.actions) and finding.verdict is not default:
            why = ""  # the policy says what to do, wherever this is
        if why:
            findings = tuple(
                replace(f, verdict=Verdict.ALLOW, allowed_because=f"{what}: {why}") if f.rule_id in ACT_RULES else f
                for f in judgement.findings
            )
            verdict = max((f.verdict or Verdict.WARN for f in findings), default=Verdict.WARN)
            return replace(judgement, verdict=verdict, findings=findings)
        if finding.verdict is Verdict.DENY:
            where = "in production" if self.environment is Environment.PRODUCTION else "here"
            finding = replace(finding, message=f"forced sync is not allowed {where}: {what}")
        return replace(judgement, verdict=max(judgement.verdict, finding.verdict), findings=(finding, *judgement.findings))

    def remember(self, script: bytes, context: Context, judgement: Judgement) -> None:
        """Keep a judgement, if it may be served to others: one of `judge`, or of an engine of the same policy in another process."""
        if judgement.context_free and context.lexes_plainly and len(script) <= _SCRIPT_CACHED_BYTES and script[:1] != b"?":
            self._keep(script, judgement)
            if judgement.literal_free and judgement.plain:
                # Whoever looked it up first has made its key already.
                last, key = self._shaped
                if last is script and key is not None:
                    self._keep(key, judgement)

    def unanalysable(self, why: str, script: bytes) -> Judgement:
        """The judgement of a script that nobody could analyse."""
        return self._unanalysable(why, script)

    def _own(self, context: Context) -> Context:
        view = self.view
        if (
            context.profile is self.profile
            and context.environment is self.environment
            and context.protected == view.protected
            and context.read_only is view.read_only
            and context.row_limits == view.row_limits
        ):
            return context
        return replace(
            context,
            profile=self.profile,
            environment=self.environment,
            protected=view.protected,
            read_only=view.read_only,
            row_limits=view.row_limits,
        )

    def _keep(self, key: bytes, judgement: Judgement) -> None:
        self._young[key] = judgement
        self._young_bytes += len(key) + 200
        if self._young_bytes > _CACHE_BYTES:
            self._old = self._young
            self._young = {}
            self._young_bytes = 0

    def _judge_bytes(self, script: bytes, context: Context, isolated: bool) -> Judgement:
        try:
            text = decode(script, context.client_encoding)
        except UndecodableError as error:
            return self._unanalysable(str(error), script)
        data = script if script.isascii() and context.client_encoding not in ASCII_UNSAFE else text.encode()
        problem = None if isolated and b"\0" not in data else look(data, context.standard_conforming_strings)
        if problem is not None:
            return self._unanalysable(problem, script, text)
        try:
            parsed = _parse(data, context.standard_conforming_strings)
        except GrammarError as error:
            if self.profile is Profile.GUARD and can_only_read(text):
                return Judgement(Verdict.ALLOW, display=text, syntax_error=str(error))
            judgement = self._unanalysable(f"the text is not PostgreSQL's grammar: {_said(str(error))}", script, text)
            return replace(judgement, syntax_error=str(error))
        if self._glances:
            quick = _harmless_at_a_glance(parsed)
            if quick is not None:
                return quick
        return self._judge_tree(tree(parsed), context, 0, text, data)

    def _judge_tree(self, statements: list[Node], context: Context, depth: int, text: str = "", data: bytes = b"") -> Judgement:
        extractor = Extractor(VISITORS, context, self._judge_tree_below, depth)
        facts = extractor.read(statements, len(data))
        if len(data) != len(text):
            _spans_to_characters(facts, data)
        findings = list(self._check(facts, context))
        if not findings and text and depth == 0:
            findings += self._second_opinion(facts, text)
        if findings and text:
            findings = _explain(findings, facts, text, data)
        return self._conclude(findings, facts, text)

    def _judge_tree_below(self, statements: list[Node], context: Context, depth: int) -> Judgement:
        return self._judge_tree(statements, context, depth)

    def _check(self, facts: Facts, context: Context) -> list[Finding]:
        found: list[Finding] = []
        present = tuple([name for name in self._looked_at if getattr(facts, name)])
        rules = self._rules_for.get(present)
        if rules is None:
            rules = [(r, v) for r, v in self._active if not set(r.looks_at).isdisjoint(present)]
            self._rules_for[present] = rules
        for rule, verdict in rules:
            for finding in rule.check(facts, context):
                # What a rule passes on from text within text has a verdict of its own already.
                found.append(finding if finding.rule_id != rule.id else self._settle(finding, verdict))
        return found

    def _settle(self, finding: Finding, default: Verdict) -> Finding:
        action = self.view.decide(finding.rule_id, finding.relations, default)
        if action is None:
            return replace(finding, verdict=default)
        allows = action.action is Verdict.ALLOW and default > Verdict.WARN
        return replace(finding, verdict=action.action, allowed_because=action.reason if allows else "")

    def _second_opinion(self, facts: Facts, text: str) -> list[Finding]:
        rule, verdict = next(((r, v) for r, v in self._active if r.id == "always-true-where"), (None, Verdict.ALLOW))
        if rule is None or not any(change.wants_second_opinion for change in facts.changes):
            return []
        for index, statement in enumerate(facts.statements):
            start, end = statement.span
            if has_always_true_where(text[start:end]):
                tables = tuple(dict.fromkeys(str(c.table) for c in facts.changes if c.statement == index))
                return [self._settle(rule.found("the condition simplifies to true", index, tables), verdict)]
        return []

    def _conclude(self, findings: list[Finding], facts: Facts, text: str) -> Judgement:
        findings = [f for f in findings if f.verdict is not Verdict.ALLOW or f.allowed_because]
        # What the policy allows for a reason goes on record, as a warning does.
        verdict = max((f.verdict or Verdict.WARN for f in findings), default=Verdict.ALLOW)
        reports = tuple(StatementReport(s.kind, s.span, tuple(s.relations), tuple(s.effects), s.transaction) for s in facts.statements)
        if self.view.row_limits:
            reports = tuple(replace(r, **limits_of(facts, i, self.view.row_limits)) for i, r in enumerate(reports))
        display = text
        if "assword" in text.lower():
            display = mask_passwords(text)
            if display != text:
                reports = tuple(replace(r, span=(0, 0)) for r in reports)
                findings = [replace(f, span=(0, 0), suggestion="", hint=f.hint.partition(", for example")[0]) for f in findings]
        literal_free = facts.literal_free and verdict is Verdict.ALLOW
        return Judgement(
            verdict,
            tuple(findings),
            reports,
            not facts.uses_context,
            literal_free,
            display,
            wants_values=any(c.wants_values for c in facts.changes),
            announced=self.view.announces and any(r.changes_schema for r in reports),
            gated=bool(self.view.row_limits) and any(r.limits or r.transaction is not None for r in reports),
        )

    def _unanalysable(self, why: str, script: bytes, text: str | None = None) -> Judgement:
        display = mask_passwords(script.decode("utf-8", "backslashreplace") if text is None else text)
        return self._hold("unanalysable", why, display)

    def _hold(self, rule_id: str, why: str, display: str = "", deny: bool = False) -> Judgement:
        hint = next((r.hint() for r in self._rules if r.id == rule_id), "")
        default = Verdict.DENY if deny else Verdict.HOLD
        finding = Finding(rule_id, default, why, hint)
        if rule_id != FUNCTION_CALL:  # No rule of the policy file: an OID says too little to decide by.
            finding = self._settle(finding, default)
        # As in `_conclude`: what is allowed for a reason goes on record.
        verdict = Verdict.WARN if finding.allowed_because else finding.verdict or default
        return Judgement(verdict, (finding,), display=display)

    def facts(self, script: bytes, context: Context) -> Facts | None:
        """What a script does, for people; None when it cannot be parsed."""
        try:
            text = decode(script, context.client_encoding)
            data = text.encode()
            if look(data, context.standard_conforming_strings) is not None:
                return None
            statements = tree(_parse(data, context.standard_conforming_strings))
        except (UndecodableError, GrammarError, TooDeepError, UnicodeEncodeError):
            return None
        return Extractor(VISITORS, self._own(context), self._judge_tree_below).read(statements, len(data))

    # --- what is not a script -----------------------------------------------------------------------------------

    def judge_function_call(self, oid: int, context: Context) -> Judgement:
        """A FunctionCall message: it calls any function by its OID, past all inspection of SQL."""
        if oid in _READING_CALLS:
            return _ALLOW
        if oid in _WRITING_CALLS:
            name = _WRITING_CALLS[oid]
            return self._hold(FUNCTION_CALL, f"calls {name}() by the function-call protocol", f"-- FunctionCall {name}()")
        what = f"calls function {oid} by the function-call protocol"
        return self._hold(FUNCTION_CALL, what, f"-- FunctionCall of OID {oid}", deny=True)

    def judge_startup(self, parameters: Mapping[str, str], context: Context) -> Judgement:
        """The settings of a startup packet, `options` included, judged as SET would be."""
        facts = Facts(statements=[StatementFacts("startup")])
        for name, value in startup_settings(parameters).items():
            if name:
                facts.settings.append(Setting(name, value, 0))
            else:
                facts.opaque.append(Opaque(f"options holds {value}, which is not -c name=value", 0))
        return self._conclude(self._check(facts, self._own(context)), facts, "")


def _parse(data: bytes, standard_conforming_strings: bool) -> bytes:
    """Raises GrammarError."""
    try:
        return parse(data, standard_conforming_strings)
    except GrammarError:
        # The scanner knows standard strings only.
        bare = without_comments(data) if standard_conforming_strings else None
        if bare is None:
            raise
        return parse(bare)


def _with_values(node: list[Node], values: tuple[bytes | None, ...]) -> list[Node]:
    stack: list[Json] = [cast(Json, node)]
    while stack:
        item = stack.pop()
        if isinstance(item, list):
            stack.extend(item)
        elif isinstance(item, dict):
            parameter = item.get("ParamRef")
            if isinstance(parameter, dict):
                number = cast(int, parameter.get("number", 0))
                if 0 < number <= len(values):
                    value = values[number - 1]
                    del item["ParamRef"]
                    item["A_Const"] = {"isnull": True} if value is None else {"sval": {"sval": value.decode("utf-8", "replace")}}
                    continue
            stack.extend(item.values())
    return node


def _explain(findings: list[Finding], facts: Facts, text: str, data: bytes) -> list[Finding]:
    creates = frozenset(o for act in facts.acts if act.kind == "CREATE TABLE" for o in act.objects)
    explained = []
    for finding in place(findings, facts, text, data):
        start, end = facts.statements[finding.statement].span if finding.statement < len(facts.statements) else (0, 0)
        suggestion = suggest(finding, text[start:end], creates)
        hint = f"{finding.hint}, for example: {suggestion}" if suggestion else finding.hint
        explained.append(replace(finding, suggestion=suggestion, hint=hint))
    return explained


def _said(message: str) -> str:
    return re.sub(r'"[^"]*"', '"…"', message)


def _harmless_at_a_glance(parsed: bytes) -> Judgement | None:
    """ALLOW for scripts of plain SELECT and INSERT without functions that matter; None says nothing.

    Substring counts, for a walk over the tree costs ten times as much: every key that ends in Stmt must be one of three.
    """
    count = parsed.count
    inserts = count(b'"InsertStmt":')
    if count(b'Stmt":') != count(b'"SelectStmt":') + inserts + count(b'"selectStmt":'):
        return None
    if b'"intoClause":' in parsed:
        return None
    if inserts and (b'"onConflictClause":' in parsed or b'"schemaname":' in parsed or b'"relname":"pg_' in parsed):
        return None
    functions = count(b'"funcname":')
    if functions:
        names = _FUNCTION.findall(parsed)
        if len(names) != functions or not _FLAGGED.isdisjoint(names):
            return None
    return _ALLOW_LITERAL_FREE


_FLAGGED: Final = frozenset(
    name.encode() for name in NAMED_ELSEWHERE | {name for names in LATER_SCHEMAS.values() for name in names} | {"ts_rewrite"}
)


def _spans_to_characters(facts: Facts, data: bytes) -> None:
    """The grammar counts bytes of UTF-8."""
    for statement in facts.statements:
        start, end = statement.span
        before = len(data[:start].decode("utf-8", "replace"))
        statement.span = (before, before + len(data[start:end].decode("utf-8", "replace")))


def startup_settings(parameters: Mapping[str, str]) -> dict[str, str]:
    """The settings that a startup packet makes, by name; under "" a switch in `options` that is not understood."""
    settings = {k.lower(): v for k, v in parameters.items() if k not in ("user", "database", "options", "replication")}
    settings.update(parse_options(parameters.get("options", "")))
    return {k: v for k, v in settings.items() if not k.startswith("_pq_.")}


def parse_options(options: str) -> dict[str, str]:
    """The settings in the startup parameter `options`: -c name=value and --name=value, backslash escapes as
    pg_split_opts() reads them (libpq-connect.html#LIBPQ-CONNECT-OPTIONS). Any other switch is under ""."""
    words: list[str] = []
    current = ""
    started = escaped = False
    for character in options:
        if escaped:
            current += character
            escaped = False
        elif character == "\\":
            escaped = started = True
        elif character.isspace():
            if started:
                words.append(current)
            current, started = "", False
        else:
            current += character
            started = True
    if started:
        words.append(current)
    found: dict[str, str] = {}
    position = 0
    while position < len(words):
        word = words[position]
        position += 1
        if word == "-c" and position < len(words):
            word = words[position]
            position += 1
        elif word.startswith(("-c", "--")):
            word = word[2:]
        else:
            # -O lets system tables be changed, -P ignores their indexes, …: none is for clients (app-postgres.html).
            found[""] = word
            continue
        name, _, value = word.partition("=")
        found[name.replace("-", "_").lower()] = value
    return found
