"""pghold schema: the versions of a database's schema."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from proxy.cli.holds import ConsoleOption, JsonOption, TokenOption

DatabaseOption = Annotated[str, typer.Option("--database", "-d", help="[default: that of pghold's own connection]", show_default=False)]
_COLOURS = {"+": "green", "-": "red", "@": "cyan", "~": "yellow"}


def add_to(app: typer.Typer) -> None:
    schema = typer.Typer(help="The versions of a database's schema, and who changed it.", no_args_is_help=True, rich_markup_mode=None)
    schema.command("log")(log)
    schema.command("show")(show)
    schema.command("diff")(diff)
    schema.command("accept")(accept)
    app.add_typer(schema, name="schema")


def log(
    database: DatabaseOption = "",
    limit: Annotated[int, typer.Option("-n", help="At most this many, the newest.", min=1, max=1000)] = 20,
    as_json: JsonOption = False,
    console: ConsoleOption = None,
    token: TokenOption = None,
) -> None:
    """List the versions, newest last: when, by whom, and what changed."""
    from proxy.cli.render import terminal, visible

    found = _ask(console, token, "log", database, limit=limit)
    out = terminal()
    for version in reversed(found):
        if as_json:
            print(json.dumps(version, ensure_ascii=False))
            continue
        drift = "  drift: not seen by pghold" if version["drift"] else ""
        accepted = f", accepted by {visible(version['accepted_by'], False)}" if version["accepted_by"] else ""
        out.print(f"version {version['version']}", style="bold", end="")
        out.print(f"  {version['at']}  {version['objects']:,} objects", end="", markup=False)
        out.print(drift + accepted, style="bold red" if drift and not accepted else "yellow", markup=False)
        for who in version["by"]:
            out.print(f"  by {visible(who, False)}", markup=False, soft_wrap=True)
        for line in version["summary"]:
            out.print(f"  {visible(line, False)}", style=_COLOURS.get(line[:1], ""), markup=False, soft_wrap=True)


def show(
    version: Annotated[int | None, typer.Argument(help="[default: the newest]", min=1, show_default=False)] = None,
    database: DatabaseOption = "",
    as_json: JsonOption = False,
    console: ConsoleOption = None,
    token: TokenOption = None,
) -> None:
    """Print one version's schema."""
    from proxy.cli.render import visible

    found = _ask(console, token, "show", database, version=version)
    print(json.dumps(found, ensure_ascii=False) if as_json else visible(found["text"]), end="\n" if as_json else "")


def diff(
    before: Annotated[int | None, typer.Argument(help="[default: the one before]", min=1, show_default=False)] = None,
    version: Annotated[int | None, typer.Argument(help="[default: the newest]", min=1, show_default=False)] = None,
    database: DatabaseOption = "",
    as_json: JsonOption = False,
    console: ConsoleOption = None,
    token: TokenOption = None,
) -> None:
    """Show what changed from one version to another. Exits 1 when something did, as diff does."""
    from proxy.cli.render import terminal, visible

    found = _ask(console, token, "diff", database, before=before, version=version)
    if as_json:
        print(json.dumps(found, ensure_ascii=False))
    else:
        out = terminal()
        for line in found["summary"]:
            out.print(visible(line, False), style=_COLOURS.get(line[:1], ""), markup=False, soft_wrap=True)
        out.print()
        for line in found["diff"]:
            out.print(
                visible(line, False),
                style="bold" if line[:3] in ("+++", "---") else _COLOURS.get(line[:1], ""),
                markup=False,
                soft_wrap=True,
            )
    if found["summary"]:
        raise typer.Exit(1)


def accept(as_json: JsonOption = False, console: ConsoleOption = None, token: TokenOption = None) -> None:
    """Say that drift was on purpose (admin)."""
    from proxy.cli.client import Client

    told = Client(console, token).request("POST", "/schema/accept")
    print(json.dumps(told) if as_json else f"accepted: {told['accepted']}")


def _ask(console: str | None, token: str | None, what: str, database: str, **more: int | None) -> Any:  # any: the API's JSON
    from proxy.cli.client import Client

    given = {name: value for name, value in more.items() if value is not None}
    return Client(console, token).request("GET", f"/schema/{what}", params={"database": database, **given})
