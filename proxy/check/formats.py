"""A report as people, scripts, code hosts and editors read it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import PurePath
from typing import Final
from urllib.parse import quote

from rich.console import Console
from rich.text import Text

from policy import Verdict
from policy.rules import ALL_RULES
from proxy.check.checker import Located, Place, Report, verdict_word
from proxy.cli.render import visible

_RULES_URL: Final = "https://github.com/pghold/pghold/blob/main/docs/rules"
_WORDS: Final = {Verdict.DENY: ("deny", "bold red"), Verdict.HOLD: ("hold", "bold yellow"), Verdict.WARN: ("warn", "cyan")}


def write_text(reports: Iterable[Report], out: Console) -> None:
    """Place, verdict, rule and message; the line of source with a caret; what to write instead; a summary."""
    files = statements = held = denied = errors = 0
    for report in reports:
        files += 1
        statements += report.statements
        errors += len(report.errors)
        for message, place, source in report.errors:
            _head(out, report.path, place, "error", "bold red", "syntax", message)
            _excerpt(out, source, place)
        for located in report.findings:
            held += located.finding.verdict is Verdict.HOLD
            denied += located.finding.verdict is Verdict.DENY
            word, style = _WORDS[located.finding.verdict]
            _head(out, report.path, located.place, word, style, located.finding.rule_id, located.finding.message)
            _excerpt(out, located.source, located.place)
            if located.finding.hint:
                out.print(Text.assemble(("  instead: ", "green"), visible(located.finding.hint, False)), soft_wrap=True)
    counts = [f"{held} held", f"{denied} denied", *([f"{errors} not PostgreSQL"] if errors else [])]
    colour = "red" if held + denied + errors else "green"
    out.print(Text(f"{files} {'file' if files == 1 else 'files'}, {statements} statements: {', '.join(counts)}", colour))


def _head(out: Console, path: str, place: Place, word: str, style: str, rule: str, message: str) -> None:
    where = f"{visible(path, False)}:{place.line}:{place.column}: "
    out.print(Text.assemble((where, "bold"), (word, style), f" {rule}: ", visible(message, False)), soft_wrap=True)


def _excerpt(out: Console, source: str, place: Place) -> None:
    start = max(0, place.column - 60)
    shown, before = visible(source[start : start + 140], False), visible(source[start : place.column - 1], False)
    end = place.end_column if place.end_line == place.line else len(source) + 1
    length = max(1, len(visible(source[place.column - 1 : min(end - 1, start + 140)], False)))
    number = f"{place.line:>6} | "
    out.print(Text(number + shown), soft_wrap=True)
    out.print(Text(" " * (len(number) + len(before)) + "^" * length, "yellow"), soft_wrap=True)


def as_json(reports: Iterable[Report]) -> str:
    files = [
        {
            "path": r.path,
            "verdict": verdict_word(r.verdict),
            "statements": r.statements,
            "findings": [_finding(f) for f in r.findings],
            "errors": [{"message": m, **_place(p)} for m, p, _ in r.errors],
        }
        for r in reports
    ]
    return json.dumps({"version": 1, "files": files}, indent=2, ensure_ascii=False)


def _finding(located: Located) -> dict[str, object]:
    finding = located.finding
    return {
        "rule": finding.rule_id,
        "verdict": _WORDS[finding.verdict][0],
        "message": finding.message,
        "hint": finding.hint,
        "suggestion": finding.suggestion or None,
        "relations": list(finding.relations),
        **_place(located.place),
    }


def _place(place: Place) -> dict[str, int]:
    return {"line": place.line, "column": place.column, "end_line": place.end_line, "end_column": place.end_column}


# --- SARIF 2.1.0 (docs.oasis-open.org/sarif/sarif/v2.1.0) ---------------------------------------------------------------


def as_sarif(reports: Iterable[Report]) -> str:
    reports = list(reports)
    used = sorted({f.finding.rule_id for r in reports for f in r.findings} | ({"syntax"} if any(r.errors for r in reports) else set()))
    described = {rule.id: type(rule) for rule in ALL_RULES}
    rules: list[dict[str, object]] = []
    for rule_id in used:
        rule: dict[str, object] = {"id": rule_id}
        if rule_id in described:
            title = (described[rule_id].__doc__ or "").strip().partition("\n\n")[0]
            rule |= {
                "shortDescription": {"text": " ".join(title.split())},
                "help": {"text": described[rule_id].hint()},
                "helpUri": f"{_RULES_URL}/{rule_id}.md",
            }
        rules.append(rule)
    results = [r for report in reports for r in _sarif_results(report, used)]
    run = {
        "tool": {"driver": {"name": "pghold", "version": version("pghold"), "rules": rules}},
        "columnKind": "unicodeCodePoints",
        "results": results,
    }
    document = {"$schema": "https://json.schemastore.org/sarif-2.1.0.json", "version": "2.1.0", "runs": [run]}
    return json.dumps(document, indent=2, ensure_ascii=False)


def _sarif_results(report: Report, used: list[str]) -> Iterable[dict[str, object]]:
    for located in report.findings:
        finding = located.finding
        level = {Verdict.DENY: "error", Verdict.HOLD: "warning", Verdict.WARN: "note"}[finding.verdict]
        text = f"{finding.message}. Instead: {finding.hint}" if finding.hint else finding.message
        yield _sarif_result(report.path, finding.rule_id, used, level, text, located.place)
    for message, place, _ in report.errors:
        yield _sarif_result(report.path, "syntax", used, "error", message, place)


def _sarif_result(path: str, rule_id: str, used: list[str], level: str, text: str, place: Place) -> dict[str, object]:
    region = {"startLine": place.line, "startColumn": place.column, "endLine": place.end_line, "endColumn": place.end_column}
    artifact = {"uri": quote(PurePath(path).as_posix())}
    return {
        "ruleId": rule_id,
        "ruleIndex": used.index(rule_id),
        "level": level,
        "message": {"text": text},
        "locations": [{"physicalLocation": {"artifactLocation": artifact, "region": region}}],
    }


# --- GitHub's workflow commands -----------------------------------------------------------------------------------------


def as_github(reports: Iterable[Report]) -> str:
    lines = []
    for report in reports:
        for located in report.findings:
            finding = located.finding
            command = {Verdict.DENY: "error", Verdict.HOLD: "error", Verdict.WARN: "warning"}[finding.verdict]
            text = f"{finding.message}. Instead: {finding.hint}" if finding.hint else finding.message
            lines.append(_annotation(command, report.path, located.place, f"pghold {finding.rule_id}", text))
        lines += [_annotation("error", report.path, p, "pghold syntax", m) for m, p, _ in report.errors]
    return "\n".join(lines)


def _annotation(command: str, path: str, place: Place, title: str, text: str) -> str:
    end = f",endColumn={place.end_column}" if place.end_line == place.line else ""
    where = f"file={_property(path)},line={place.line},endLine={place.end_line},col={place.column}{end}"
    return f"::{command} {where},title={_property(title)}::{_data(text)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
