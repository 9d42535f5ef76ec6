"""What a file, or a line of JSON, is found to hold."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from policy import Context, Engine, Judgement, Verdict
from policy.judgement import Finding
from proxy.check.psql import split
from proxy.check.session import SessionJudge


@dataclass(frozen=True, slots=True)
class Place:
    """Lines and columns count from 1, columns in characters; the end is behind the last one."""

    line: int
    column: int
    end_line: int
    end_column: int


@dataclass(frozen=True, slots=True)
class Located:
    finding: Finding
    place: Place
    source: str  # the line where it begins


@dataclass(slots=True)
class Report:
    """One file.

    Attributes:
        path: as given; "<stdin>" for standard input.
        findings: held, denied or warned of, in order of their place.
        errors: texts that PostgreSQL's grammar rejects, with their places.
    """

    path: str
    findings: list[Located] = field(default_factory=list)
    errors: list[tuple[str, Place, str]] = field(default_factory=list)
    statements: int = 0

    @property
    def verdict(self) -> Verdict:
        return max((f.finding.verdict for f in self.findings), default=Verdict.ALLOW)


def sql_files(paths: Iterable[Path]) -> Iterator[Path]:
    """Files as given, and every .sql under a directory, sorted. Raises FileNotFoundError."""
    for path in paths:
        if path.is_dir():
            yield from sorted(p for p in path.rglob("*.sql") if not any(part.startswith(".") for part in p.relative_to(path).parts))
        elif path.exists():
            yield path
        else:
            raise FileNotFoundError(f"{path}: no such file or directory")


def check_text(engine: Engine, context: Context, path: str, text: str) -> Report:
    """Judge a psql script as one session."""
    report = Report(path)
    session = SessionJudge(engine, context)
    lines = [0, *(i + 1 for i, c in enumerate(text) if c == "\n")]

    def place(start: int, end: int) -> Place:
        first, last = bisect_right(lines, start), bisect_right(lines, max(start, end))
        return Place(first, start - lines[first - 1] + 1, last, max(end, start) - lines[last - 1] + 1)

    for piece in split(text):
        judgement = session.judge(piece.text.encode("utf-8", "surrogatepass"))
        report.statements += max(1, len(judgement.statements))
        words = len(piece.text) - len(piece.text.lstrip())
        whole = (piece.start + words, piece.start + len(piece.text.rstrip()))
        if judgement.syntax_error:
            where = place(whole[0], min(whole[1], _line_end(text, whole[0])))
            report.errors.append((judgement.syntax_error, where, _line(text, lines, where.line)))
            continue
        found = [f for f in judgement.findings if not f.allowed_because]
        if piece.executes_result:
            found.append(Finding("unanalysable", Verdict.HOLD, "\\gexec runs SQL that is made at run time", "write the statements out"))
        for finding in found:
            start, end = (piece.start + p for p in finding.span) if any(finding.span) else whole
            where = place(start, min(end, _line_end(text, start)))
            report.findings.append(Located(finding, where, _line(text, lines, where.line)))
    report.findings.sort(key=lambda f: (f.place.line, f.place.column))
    return report


def _line_end(text: str, start: int) -> int:
    end = text.find("\n", start)
    return len(text) if end < 0 else end


def _line(text: str, lines: list[int], number: int) -> str:
    return text[lines[number - 1] : _line_end(text, lines[number - 1])].rstrip("\r")


def check_lines(engine: Engine, context: Callable[[], Context], lines: Iterable[str]) -> Iterator[dict[str, object]]:
    """Judge one JSON object a line, {"id", "sql"}; those of one "session" in order as one connection's."""
    sessions: dict[str, SessionJudge] = {}
    for line in lines:
        if not line.strip():
            continue
        try:
            case = json.loads(line)
            script = case["sql"].encode("utf-8", "surrogatepass")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            yield {"id": None, "verdict": "hold", "rules": [], "error": f'not a JSON object with "sql": {error}'}
            continue
        name = case.get("session")
        if name is None:
            session = SessionJudge(engine, context())
        else:
            session = sessions.setdefault(json.dumps(name), SessionJudge(engine, context()))
        yield line_of(case.get("id"), session.judge(script))


def verdict_word(verdict: Verdict) -> str:
    """A warning lets pass."""
    return "allow" if verdict is Verdict.WARN else verdict.name.lower()


def line_of(identity: object, judgement: Judgement) -> dict[str, object]:
    return {
        "id": identity,
        "verdict": verdict_word(judgement.verdict),
        "rules": list(judgement.rule_ids),
        "error": judgement.syntax_error or None,
    }
