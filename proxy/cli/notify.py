"""pghold notify test."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from proxy.cli.holds import ConsoleOption, JsonOption, TokenOption


def add_to(app: typer.Typer) -> None:
    notify = typer.Typer(help="The routes that people are told by.", no_args_is_help=True, rich_markup_mode=None)
    notify.command("test")(send_test)
    notify.command("routes")(routes)
    app.add_typer(notify, name="notify")


def send_test(
    route: Annotated[str, typer.Option(help="Only this one. [default: every route]", show_default=False)] = "",
    as_json: JsonOption = False,
    console: ConsoleOption = None,
    token: TokenOption = None,
) -> None:
    """Have the running proxy send a test message by every route, and say which arrived.

    One try each, without waiting in the queue. Exits 0 when all arrived, 1 when one did not or there is none.
    """
    from proxy.cli.client import Client, ClientError
    from proxy.cli.render import terminal, visible

    results = Client(console, token).request("POST", "/notifications/test", params={"route": route} if route else {})
    if not results:
        raise ClientError("there are no routes: add [[notifications]] to pghold.toml, and reload")
    out = terminal()
    for result in results:
        if as_json:
            print(json.dumps(result))
            continue
        said = "[green]arrived[/]" if result["arrived"] else "[bold red]failed[/] "
        out.print(f"{said}  {result['route']:<20} ", end="")
        out.print(visible(result["problem"], False), markup=False, soft_wrap=True)
    if not all(r["arrived"] for r in results):
        raise typer.Exit(1)


def routes(as_json: JsonOption = False, console: ConsoleOption = None, token: TokenOption = None) -> None:
    """List the routes: what waits, what was delivered, what was given up."""
    from proxy.cli.client import Client
    from proxy.cli.render import terminal, visible

    found = Client(console, token).request("GET", "/notifications")["routes"]
    out = terminal()
    for route in found:
        if as_json:
            print(json.dumps(route))
            continue
        state = (
            f"failing: {visible(route['last_error'], False)}" if route["failing"] else "works" if route["last_delivered"] else "not used"
        )
        counts = f"{route['waiting']} waiting, {route['delivered']} delivered, {route['lost']} given up"
        out.print(f"{route['name']:<20} {route['to']:<40} {counts}; {state}", markup=False, soft_wrap=True)
    if not found and not as_json:
        out.print("There are no routes.")
