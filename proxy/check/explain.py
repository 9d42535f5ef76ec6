"""Why a script gets its verdict, for people and as JSON."""

from __future__ import annotations

from dataclasses import asdict, fields, is_dataclass

from rich.console import Console
from rich.text import Text

from policy import Judgement, Verdict
from policy.facts import Facts
from proxy.check.checker import verdict_word
from proxy.cli.render import visible

_STYLE = {Verdict.ALLOW: "green", Verdict.WARN: "cyan", Verdict.HOLD: "bold yellow", Verdict.DENY: "bold red"}
#: Facts that are lists of dataclasses with the index of their statement.
_OF_STATEMENT = ("changes", "merges", "upserts", "drops", "truncates", "alters", "acts", "locks", "copies", "calls", "settings", "roles")


def as_dict(judgement: Judgement, facts: Facts | None, elapsed_s: float) -> dict[str, object]:
    statements: list[dict[str, object]] = []
    for index, statement in enumerate(facts.statements if facts is not None else []):
        own: dict[str, object] = {
            "kind": statement.kind,
            "reads": sorted({str(r) for r in statement.reads}),
            "writes": sorted({str(r) for r in statement.writes}),
            "certain": statement.certain,
        }
        for name in _OF_STATEMENT:
            found = [_plain(f) for f in getattr(facts, name) if f.statement == index]
            if found:
                own[name] = found
        statements.append(own)
    return {
        "verdict": verdict_word(judgement.verdict),
        "elapsed_us": round(elapsed_s * 1e6),
        "error": judgement.syntax_error or None,
        "findings": [
            {k: v for k, v in asdict(f).items() if k != "verdict"} | {"verdict": f.verdict.name.lower()} for f in judgement.findings
        ],
        "statements": statements,
    }


def _plain(fact: object) -> dict[str, object]:
    assert is_dataclass(fact)
    found: dict[str, object] = {}
    for field in fields(fact):
        value = getattr(fact, field.name)
        if field.name != "statement" and value not in (None, "", (), False, 0):
            found[field.name] = (
                value if isinstance(value, str | int | bool) else [str(v) for v in value] if isinstance(value, tuple) else _word(value)
            )
    return found


def _word(value: object) -> str:
    name = getattr(value, "name", None)
    return name.lower() if isinstance(name, str) and not is_dataclass(value) else str(value)


def write(judgement: Judgement, facts: Facts | None, elapsed_s: float, script: str, out: Console) -> None:
    out.print(Text.assemble("verdict  ", (verdict_word(judgement.verdict), _STYLE[judgement.verdict]), f"  in {elapsed_s * 1e6:,.0f} µs"))
    if judgement.syntax_error:
        out.print(Text(f"grammar  {visible(judgement.syntax_error, False)}"))
    for finding in judgement.findings:
        word = "allowed" if finding.allowed_because else finding.verdict.name.lower()
        out.print(
            Text.assemble((f"{word:<9}", _STYLE[finding.verdict]), (finding.rule_id, "bold"), ": ", visible(finding.message, False)),
            soft_wrap=True,
        )
        start, end = finding.span
        if end > start:
            out.print(Text.assemble("  words    ", (visible(script[start:end], False), "yellow")), soft_wrap=True)
        if finding.allowed_because:
            out.print(Text(f"  because  {visible(finding.allowed_because, False)}"), soft_wrap=True)
        if finding.hint:
            out.print(Text.assemble("  instead  ", visible(finding.hint, False)), soft_wrap=True)
    described = as_dict(judgement, facts, elapsed_s)["statements"]
    for number, statement in enumerate(described if isinstance(described, list) else [], 1):
        out.print(
            Text.assemble(
                (f"statement {number}  ", "bold"), str(statement["kind"]), "" if statement["certain"] else "  (not all of it is understood)"
            )
        )
        for name, value in statement.items():
            if name in ("kind", "certain") or not value:
                continue
            parts = [", ".join(f"{k} {v}" for k, v in f.items()) if isinstance(f, dict) else str(f) for f in value]
            out.print(Text(f"  {name:<9} {visible('; '.join(parts), False)}"), soft_wrap=True)
