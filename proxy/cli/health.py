"""pghold health."""

from __future__ import annotations

import json
from typing import Any

import typer

from proxy.cli.holds import ConsoleOption, JsonOption, TokenOption

COLOURS = {"ok": "green", "warn": "yellow", "note": "yellow", "fail": "bold red", "bad": "bold red", "unknown": "magenta"}


def add_to(app: typer.Typer) -> None:
    health = typer.Typer(help="The checks of the server and of pghold.", no_args_is_help=True, rich_markup_mode=None)
    health.command("show")(show)
    health.command("accept")(accept)
    app.add_typer(health, name="health")


def show(as_json: JsonOption = False, console: ConsoleOption = None, token: TokenOption = None) -> None:
    """The last round of checks of the running proxy. Exits 0 when nothing fails, 1 when something does or could not be looked at."""
    from proxy.cli.client import Client

    report = Client(console, token).request("GET", "/health")
    for check in [*report["checks"], *report["access"]]:
        print_check(check, as_json)
    if any(c["state"] in ("fail", "unknown") for c in report["checks"]):
        raise typer.Exit(1)


def print_check(check: dict[str, Any], as_json: bool) -> None:
    """One line, and what to do about it below."""
    if as_json:
        print(json.dumps(check, ensure_ascii=False))
        return
    from proxy.cli.render import terminal, visible

    out = terminal()
    out.print(f"[{COLOURS[check['state']]}]{check['state']:<8}[/]{check['id']:<18}", end="")
    out.print(visible(check["text"], False), markup=False, soft_wrap=True)
    if check["state"] != "ok":
        for line in check["fix"].splitlines():
            out.print(f"{'':<26}{visible(line, False)}", style="dim", markup=False, soft_wrap=True)


def accept(as_json: JsonOption = False, console: ConsoleOption = None, token: TokenOption = None) -> None:
    """Say that tables and databases that are missed are gone on purpose (admin)."""
    from proxy.cli.client import Client

    told = Client(console, token).request("POST", "/health/accept")
    print(json.dumps(told) if as_json else f"accepted: {told['accepted']}")
