"""pghold doctor."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from proxy.health.as_json import check_as_json

if TYPE_CHECKING:
    from proxy.config import Settings


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `state` is ok, note (works, but look at it, or it could not be looked at) or bad; `fix`: lines."""

    what: str
    state: str
    text: str
    fix: str = ""


def add_to(app: typer.Typer) -> None:
    app.command("doctor")(doctor)


def doctor(
    policy: Annotated[
        Path | None, typer.Option(help="The file to check. [default: ./pghold.toml or DATA_DIR/pghold.toml if there]", show_default=False)
    ] = None,
    upstream: Annotated[str | None, typer.Option(help="The server to try. [default: the configured one]", show_default=False)] = None,
    data_dir: Annotated[Path | None, typer.Option(help="[default: ~/.local/share/pghold]", show_default=False)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One object a line.")] = False,
) -> None:
    """Check configuration and policy, files and programs, the audit log, the server, and ways around pghold; say how to mend each.

    While pghold runs on this data directory its own checks are shown; else the server is asked directly. Exits 0 when all is well, 1 when something is bad, 2 when the configuration cannot be read (with file, key and expected form).
    """
    from proxy.cli.render import terminal, visible
    from proxy.config import load

    settings = load({"policy": policy, "upstream": upstream, "data_dir": data_dir})
    found = list(_look(settings))
    out = terminal()
    for finding in found:
        if as_json:
            print(json.dumps(asdict(finding), ensure_ascii=False))
        else:
            colour = {"ok": "green", "note": "yellow", "bad": "bold red"}[finding.state]
            out.print(f"[{colour}]{finding.state:<5}[/]{finding.what:<17}", end="")
            out.print(visible(finding.text, False), markup=False, soft_wrap=True)
            for line in finding.fix.splitlines() if finding.state != "ok" else ():
                out.print(f"{'':<22}{visible(line, False)}", style="dim", markup=False, soft_wrap=True)
    if any(f.state == "bad" for f in found):
        raise typer.Exit(1)


def _look(settings: Settings) -> Iterator[Finding]:
    looks: tuple[Callable[[Settings], Iterator[Finding]], ...] = (
        _configuration,
        _policy,
        _notifications,
        _data_dir,
        _audit,
        _files,
        _server,
    )
    for look in looks:
        yield from look(settings)


def _configuration(settings: Settings) -> Iterator[Finding]:
    where = settings.policy or "no file: defaults, the environment and the command line"
    yield Finding("settings", "ok", f"{where}; environment {settings.effective_environment}, profile {settings.profile}")
    if settings.mode != "enforce":
        yield Finding("mode", "note", f"{settings.mode}: nothing is held")


def _policy(settings: Settings) -> Iterator[Finding]:
    from proxy.config import load_policies

    policies = load_policies(settings)
    file = policies.file
    parts = [f"{len(file.rules)} rules", f"{len(file.protected)} protected", f"{len(file.read_only)} read-only identities"]
    yield Finding("policy", "ok", ", ".join(parts))
    allowed = [e for e in file.rules if e.action == "allow"]
    for entry in allowed:
        yield Finding("policy", "note", f"allows {', '.join(entry.rules)}: {entry.reason}")
    if any(e.applications for e in [*file.rules, *file.read_only]):
        yield Finding("policy", "note", "applications are told apart by application_name, which every client chooses itself")
    if any(e.rows_over is not None for e in file.rules):
        yield Finding("policy", "note", "rows_over: no row estimates are known to this version, so it makes stricter and never milder")


def _notifications(settings: Settings) -> Iterator[Finding]:
    from proxy.errors import ConfigError
    from proxy.notify.routes import load_routes

    try:
        routes = load_routes(settings.policy)
    except ConfigError as error:
        yield Finding("notify", "bad", str(error))
        return
    if routes:
        yield Finding("notify", "ok", ", ".join(f"{r.name} ({r.shown})" for r in routes))
    else:
        yield Finding("notify", "note", "no [[notifications]]: nobody is told when something is held")


def _data_dir(settings: Settings) -> Iterator[Finding]:
    folder = settings.data_dir
    if not folder.exists():
        yield Finding("data", "note", f"{folder} is not there yet; the first start makes it")
    elif not os.access(folder, os.W_OK | os.X_OK):
        yield Finding("data", "bad", f"{folder} cannot be written: holds and the audit log need it")
    else:
        status = os.statvfs(folder)
        free = status.f_bavail * status.f_frsize
        yield Finding("data", "ok" if free > 1 << 30 else "note", f"{folder}, {free >> 20:,} MiB free")


def _audit(settings: Settings) -> Iterator[Finding]:
    from proxy.audit import verify
    from proxy.audit.files import rotated_files

    path = settings.data_dir / "audit.jsonl"
    if not path.exists() and not rotated_files(path):
        yield Finding("audit", "note", "no record yet")
        return
    report = verify(path)
    if report.problem is None:
        yield Finding("audit", "ok", f"{report.records} records, the chain is whole")
    else:
        yield Finding("audit", "bad", f"broken at {report.problem} ({report.kind})")


def _server(settings: Settings) -> Iterator[Finding]:
    running = _running(settings)
    if running is not None:
        yield Finding("running", "ok", "pghold runs on this data directory; what follows are its checks")
        yield from map(_finding, running)
    yield from _asked(settings, running is not None)
    server = settings.server
    if server is None:
        yield Finding("server", "ok", "embedded PostgreSQL 18, started by pghold run")
        return
    try:
        if server.socket_path:
            with socket.socket(socket.AF_UNIX) as link:
                link.settimeout(settings.connect_timeout_s)
                link.connect(server.socket_path)
        else:
            socket.create_connection((server.host, server.port), settings.connect_timeout_s).close()
    except OSError as error:
        yield Finding("server", "bad", f"{server}: {error.strerror or error}")
    else:
        yield Finding("server", "ok", f"{server} takes connections")


def _files(settings: Settings) -> Iterator[Finding]:
    from proxy.health.setup import files

    yield from map(_finding, map(check_as_json, files(settings)))


def _running(settings: Settings) -> list[dict[str, Any]] | None:
    """The checks of the pghold on the data directory; None when none runs there, or it does not answer."""
    from proxy.cli.client import Client, ClientError
    from proxy.config import CONSOLE_FILE

    try:
        console = (settings.data_dir / CONSOLE_FILE).read_text().strip()
        token = os.environ.get("PGHOLD_TOKEN") or (settings.data_dir / "operator.token").read_text().strip()
        report = Client(console, token).request("GET", "/health")
        return [*report["checks"], *report["access"]]
    except (OSError, ClientError, KeyError, TypeError):
        return None


def _asked(settings: Settings, running: bool) -> Iterator[Finding]:
    import asyncio

    from proxy.health.model import Check
    from proxy.health.setup import control_of, on_server, targets

    async def ask() -> list[Check]:
        control = control_of(settings)
        there = await on_server(settings, control, running=running) if control is not None else []
        return [*there, *await targets(settings)]

    yield from map(_finding, map(check_as_json, asyncio.run(ask())))


def _finding(check: dict[str, Any]) -> Finding:
    state = {"ok": "ok", "fail": "bad"}.get(check["state"], "note")
    return Finding(check["id"], state, check["text"], check["fix"])
