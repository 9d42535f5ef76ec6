"""Writes the generated pages: docs/rules/, docs/configuration.md, docs/metrics.md. With --check, says which are out of date."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path

from pydantic import BaseModel, SecretStr

from policy.rule import Rule
from policy.rules import ALL_RULES
from proxy.config import Settings
from proxy.notify.message import Topic
from proxy.notify.routes import Route
from proxy.policies import ApprovalEntry, BlockingEntry, Condition, EnvironmentEntry, PolicyFile, RuleEntry

DOCS = Path(__file__).parents[1] / "docs"


def rule_page(rule: Rule) -> str:
    cls = type(rule)
    text = inspect.cleandoc(cls.__doc__ or "")
    title = text.partition("\n\n")[0].replace("\n", " ")
    why = cls.section("Why it is held") or cls.section("Why it is denied")
    lines = [
        f"# {rule.id}",
        "",
        title,
        "",
        f"In profile guard: **{rule.verdict.name.lower()}**; strict: **{rule.strict.name.lower()}**. Severity: {rule.severity.label}{', irreversible' if rule.irreversible else ''}. "
        f"Since {rule.since}.",
        "",
    ]
    lines += [f"**Why.** {why[:1].upper() + why[1:]}", ""]
    lines += [f"**Instead.** {cls.section('Instead')[:1].upper() + cls.section('Instead')[1:]}.", ""]
    lines += [f"**Known gaps.** {cls.section('Known gaps')[:1].upper() + cls.section('Known gaps')[1:]}.", ""]
    for heading, examples in (("Finds something in", rule.triggers), ("Lets pass", rule.passes)):
        lines += [f"## {heading}", "", "```sql"]
        lines += [f"{e.script};" + (f"  -- {e.because}" if e.because else "") for e in examples]
        lines += ["```", ""]
    return "\n".join(lines)


def rule_index() -> str:
    lines = [
        "# Rules",
        "",
        "One page each, made from the rule's own source.",
        "",
        "| rule | guard | strict | severity |",
        "| --- | --- | --- | --- |",
    ]
    lines += [
        f"| [{r.id}]({r.id}.md) | {r.verdict.name.lower()} | {r.strict.name.lower()} | {r.severity.label} |"
        for r in sorted(ALL_RULES, key=lambda r: r.id)
    ]
    return "\n".join([*lines, ""])


def configuration() -> str:
    lines = [
        "# Configuration",
        "",
        "Each setting is an option of `pghold run` (where `pghold run --help` lists it), a variable `PGHOLD_…` in the environment, and a key in",
        "`pghold.toml`. The command line wins over the environment, and that over the file.",
        "",
        "| key | default | meaning |",
        "| --- | --- | --- |",
    ]
    for name, field in Settings.model_fields.items():
        default = "~/.local/share/pghold" if name == "data_dir" else field.default
        shown = "" if default is None or default == "" else f"`{getattr(default, 'value', default)}`"
        lines.append(f"| `{name}` | {shown} | {field.description} |")
    lines += [
        "",
        "Also understood: `DB_SAFETY_ENABLED=false` is mode `off`; `DB_ALLOW_FORCE_SYNC` and `DB_BACKUP_BEFORE_DANGER` are read and kept for the",
        "parts that will use them; `DB_AUDIT_LOG_ENABLED=false` is refused, since no decision takes effect without its record.",
        "",
    ]
    return "\n".join(lines)


def policy_reference() -> str:
    lines = [
        "# The policy's keys",
        "",
        "Of `[policy]` in `pghold.toml`; [policy.md](policy.md) says how they work together. A list of one may be written without brackets.",
    ]
    models: list[tuple[str, type[BaseModel]]] = [
        ("[policy]", PolicyFile),
        ("[policy.environments.NAME]", EnvironmentEntry),
        ("[[policy.rules]]", RuleEntry),
        ("[[policy.read_only]]", Condition),
        ("[[policy.approvals]]", ApprovalEntry),
        ("[[policy.blocking]]", BlockingEntry),
    ]
    for title, model in models:
        lines += ["", f"## {title}", "", "| key | meaning |", "| --- | --- |"]
        nested = {"environments", "rules", "read_only", "approvals"} if model is PolicyFile else set()
        lines += [f"| `{name}` | {field.description} |" for name, field in model.model_fields.items() if name not in nested]
    return "\n".join([*lines, ""])


def notifications_reference() -> str:
    lines = [
        "# The keys of a route",
        "",
        "Of each `[[notifications]]` in `pghold.toml`; [notifications.md](notifications.md) says how they work together. A list of one may be",
        "written without brackets.",
        "",
        "| key | default | meaning |",
        "| --- | --- | --- |",
    ]
    for name, field in Route.model_fields.items():
        default = "" if field.is_required() or isinstance(field.default, SecretStr) else field.get_default(call_default_factory=True)
        shown = "" if default in ("", []) else f"`{default}`"
        lines.append(f"| `{name}` | {shown} | {field.description} |")
    lines += ["", "Topics: " + ", ".join(f"`{t}`" for t in Topic if t is not Topic.TEST) + ".", ""]
    return "\n".join(lines)


def pages() -> dict[Path, str]:
    found = {DOCS / "rules" / f"{rule.id}.md": rule_page(rule) for rule in ALL_RULES}
    found[DOCS / "rules" / "README.md"] = rule_index()
    found[DOCS / "configuration.md"] = configuration()
    found[DOCS / "policy-reference.md"] = policy_reference()
    found[DOCS / "notifications-reference.md"] = notifications_reference()
    return found


def main() -> int:
    stale = []
    for path, text in pages().items():
        if not path.exists() or path.read_text() != text:
            stale.append(path)
            if "--check" not in sys.argv:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
    if stale and "--check" in sys.argv:
        print("out of date (make docs):", *(str(p.relative_to(DOCS.parent)) for p in stale), sep="\n  ")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
