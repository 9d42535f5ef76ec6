"""pghold check, explain."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from policy import Context, Engine
    from proxy.check.checker import Report

ProfileOption = Annotated[str | None, typer.Option(help="guard or strict. [default: the policy's, else guard]", show_default=False)]
EnvironmentOption = Annotated[str | None, typer.Option(help="production, development or test. [default: production]", show_default=False)]
PolicyOption = Annotated[
    Path | None, typer.Option(help="The policy file. [default: ./pghold.toml or DATA_DIR/pghold.toml if there]", show_default=False)
]
RoleOption = Annotated[str, typer.Option(help="Who would run it, for the policy's conditions.")]
DatabaseOption = Annotated[str, typer.Option(help="Where it would run, for the policy's conditions.")]


def add_to(app: typer.Typer) -> None:
    app.command("check")(check)
    app.command("explain")(explain)


def _engine(profile: str | None, environment: str | None, policy: Path | None, role: str, database: str) -> Engine:
    from proxy.config import load, load_policies
    from proxy.policies import Identity

    settings = load({"profile": profile, "environment": environment or "production", "policy": policy})
    return load_policies(settings).engine(Identity(role, database, "pghold check", "local"))


def _context(engine: Engine, role: str, database: str) -> Context:
    from policy import Context

    return Context(role=role, database=database, environment=engine.environment, profile=engine.profile)


def check(
    files: Annotated[list[str], typer.Argument(metavar="FILE…|-", help="SQL files, folders of .sql files, or - for standard input.")],
    form: Annotated[
        str, typer.Option("--format", help='text, json, jsonl (reads JSON lines {"id", "sql", "session"}), sarif or github.')
    ] = "text",
    profile: ProfileOption = None,
    environment: EnvironmentOption = None,
    policy: PolicyOption = None,
    role: RoleOption = "",
    database: DatabaseOption = "",
) -> None:
    """Say what in these scripts would be held or denied. Nothing is run, and no server is needed.

    Exits 0: nothing; 1: something would be held or denied; 2: usage, or text that is not PostgreSQL.
    """
    from proxy.cli.client import ClientError

    if form not in ("text", "json", "jsonl", "sarif", "github"):
        raise ClientError(f"--format {form}: expected text, json, jsonl, sarif or github", 2)
    engine = _engine(profile, environment, policy, role, database)
    if form == "jsonl":
        raise typer.Exit(_check_lines(engine, files, role, database))
    reports = list(_reports(engine, files, role, database))
    _write(reports, form)
    if any(r.errors for r in reports):
        raise typer.Exit(2)
    from policy import Verdict

    raise typer.Exit(1 if any(r.verdict >= Verdict.HOLD for r in reports) else 0)


def _reports(engine: Engine, files: list[str], role: str, database: str) -> Iterator[Report]:
    from proxy.check.checker import check_text, sql_files
    from proxy.cli.client import ClientError

    context = _context(engine, role, database)
    for name in files:
        try:
            sources = [("<stdin>", sys.stdin.buffer.read())] if name == "-" else [(str(p), p.read_bytes()) for p in sql_files([Path(name)])]
        except OSError as error:
            raise ClientError(str(error) if error.filename is None else f"{error.filename}: {error.strerror}", 2) from None
        if not sources:
            print(f"pghold: {name}: no .sql file in it", file=sys.stderr)
        for path, data in sources:
            try:
                text = data.decode("utf-8-sig")
            except UnicodeDecodeError as error:
                raise ClientError(f"{path}: not UTF-8 at byte {error.start}", 2) from None
            yield check_text(engine, context, path, text)


def _write(reports: list[Report], form: str) -> None:
    from proxy.check.formats import as_github, as_json, as_sarif, write_text
    from proxy.cli.render import terminal

    if form == "text":
        write_text(reports, terminal())
        return
    text = {"json": as_json, "sarif": as_sarif, "github": as_github}[form](reports)
    if text:
        print(text)


def _check_lines(engine: Engine, files: list[str], role: str, database: str) -> int:
    from proxy.check.checker import check_lines
    from proxy.cli.client import ClientError

    worst = 0
    for name in files:
        try:
            with sys.stdin if name == "-" else open(name, encoding="utf-8") as lines:  # one of two files
                for result in check_lines(engine, lambda: _context(engine, role, database), lines):
                    print(json.dumps(result, ensure_ascii=False), flush=name == "-" and sys.stdin.isatty())
                    worst = max(worst, 2 if result["error"] else 1 if result["verdict"] != "allow" else 0)
        except OSError as error:
            raise ClientError(f"{name}: {error.strerror}", 2) from None
        except UnicodeDecodeError as error:
            raise ClientError(f"{name}: not UTF-8 at byte {error.start}", 2) from None
    return worst


def explain(
    script: Annotated[str, typer.Argument(metavar="SQL|-", help="A script, or - for standard input.")],
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    profile: ProfileOption = None,
    environment: EnvironmentOption = None,
    policy: PolicyOption = None,
    role: RoleOption = "",
    database: DatabaseOption = "",
) -> None:
    """Print what a script does, which rules find something in it, the verdict, and how long that took.

    Exits as check does.
    """
    from policy import Verdict
    from proxy.check.explain import as_dict, write

    text = sys.stdin.read() if script == "-" else script
    engine = _engine(profile, environment, policy, role, database)
    context = _context(engine, role, database)
    started = time.perf_counter()
    judgement = engine.judge(text.encode("utf-8", "surrogateescape"), context)
    elapsed_s = time.perf_counter() - started
    facts = engine.facts(text.encode("utf-8", "surrogateescape"), context)
    if as_json:
        print(json.dumps(as_dict(judgement, facts, elapsed_s), indent=2, ensure_ascii=False))
    else:
        from proxy.cli.render import terminal

        write(judgement, facts, elapsed_s, text, terminal())
    raise typer.Exit(2 if judgement.syntax_error else 1 if judgement.verdict >= Verdict.HOLD else 0)
