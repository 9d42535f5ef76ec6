"""pghold holds, show, approve, deny, watch."""

from __future__ import annotations

import json
import sys
import time
from typing import Annotated

import typer

ConsoleOption = Annotated[str | None, typer.Option("--console", envvar="PGHOLD_CONSOLE", help="The console's address.", show_default=False)]
TokenOption = Annotated[str | None, typer.Option("--token", envvar="PGHOLD_TOKEN", help="An operator's token.", show_default=False)]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object per line.")]
IdArgument = Annotated[int, typer.Argument(help="The hold's id.", min=1, metavar="ID")]


def add_to(app: typer.Typer) -> None:
    app.command("holds")(holds)
    app.command("show")(show)
    app.command("approve")(approve)
    app.command("deny")(deny)
    app.command("watch")(watch)


def holds(
    every: Annotated[bool, typer.Option("--all", help="Ended holds too.")] = False,
    limit: Annotated[int, typer.Option(help="At most this many.", min=1, max=1000)] = 100,
    as_json: JsonOption = False,
    console: ConsoleOption = None,
    token: TokenOption = None,
) -> None:
    """List what waits for a decision."""
    from proxy.cli.client import Client

    found = Client(console, token).request("GET", "/holds", params={"state": "all" if every else "pending", "limit": limit})
    if as_json:
        for hold in reversed(found):
            print(json.dumps(hold))
        return
    from proxy.cli.render import table, terminal

    out = terminal()
    if not found:
        out.print("Nothing waits." if not every else "There are no holds.")
        return
    out.print(table(found))


def show(hold_id: IdArgument, as_json: JsonOption = False, console: ConsoleOption = None, token: TokenOption = None) -> None:
    """Show one hold: facts first, then the script."""
    from proxy.cli.client import Client

    hold = Client(console, token).request("GET", f"/holds/{hold_id}")
    if as_json:
        print(json.dumps(hold))
        return
    from proxy.cli.render import card, terminal

    card(hold, terminal())


def approve(
    hold_id: IdArgument,
    phrase: Annotated[str | None, typer.Option(help="The approval phrase; asked for on a terminal.", show_default=False)] = None,
    reason: Annotated[str | None, typer.Option(help="Why it may run; asked for on a terminal.", show_default=False)] = None,
    code: Annotated[str, typer.Option(help="Of your second factor, where one is needed.", show_default=False)] = "",
    break_glass: Annotated[bool, typer.Option("--break-glass", help="Alone, where several people are needed; loud.")] = False,
    as_json: JsonOption = False,
    console: ConsoleOption = None,
    token: TokenOption = None,
) -> None:
    """Let a held statement run, once."""
    _settle(hold_id, True, phrase, reason, {"code": code, "break_glass": break_glass}, as_json, console, token)


def deny(
    hold_id: IdArgument,
    reason: Annotated[str | None, typer.Option(help="Why it may not run; the client is told.", show_default=False)] = None,
    suggest: Annotated[str, typer.Option(help="The statement to send instead; the client is told.", show_default=False)] = "",
    as_json: JsonOption = False,
    console: ConsoleOption = None,
    token: TokenOption = None,
) -> None:
    """Refuse a held statement; its client gets an error."""
    _settle(hold_id, False, None, reason, {"suggestion": suggest}, as_json, console, token)


def _settle(
    hold_id: int,
    approving: bool,
    phrase: str | None,
    reason: str | None,
    more: dict[str, str | bool],
    as_json: bool,
    console: str | None,
    token: str | None,
) -> None:
    from proxy.cli.client import Client, ClientError

    client = Client(console, token)
    missing = reason is None or (approving and phrase is None)
    if missing and not sys.stdin.isatty():
        wanted = "--phrase and --reason are" if approving else "--reason is"
        raise ClientError(f"{wanted} needed when there is no terminal to ask on", 2)
    if missing:
        from proxy.cli.render import card, terminal

        hold = client.request("GET", f"/holds/{hold_id}")
        card(hold, terminal(stderr=True))
        if hold["state"] != "pending":
            raise ClientError(f"hold {hold_id} is no longer pending: it is {hold['state']}", 3)
        if approving and phrase is None:
            phrase = typer.prompt("Type the approval phrase (YES I UNDERSTAND THE RISKS, unless yours is another)", err=True)
        if reason is None:
            reason = typer.prompt("Reason", err=True)
    body = {"reason": reason, **more, **({"phrase": phrase} if approving else {})}
    hold = client.request("POST", f"/holds/{hold_id}/{'approve' if approving else 'deny'}", json=body)
    if as_json:
        print(json.dumps(hold))
    else:
        missing_people = hold["approvers_needed"] - len(hold["approvers"])
        still = f": {missing_people} more must approve" if hold["state"] == "pending" else ""
        print(f"Hold {hold_id} is {hold['state']}{still}.")


def watch(as_json: JsonOption = False, console: ConsoleOption = None, token: TokenOption = None) -> None:
    """Follow holds as they open and end; rings the terminal's bell for each new one."""
    from rich.text import Text

    from proxy.cli.client import Client, ClientError
    from proxy.cli.render import terminal, visible

    client = Client(console, token)
    out = terminal()
    lost = False
    seen: dict[int, str] = {}
    while True:
        try:
            for hold in client.events():
                if lost:
                    print("pghold: connected again", file=sys.stderr)
                    lost = False
                if seen.get(hold["id"]) == hold["state"]:
                    continue
                seen[hold["id"]] = hold["state"]
                if as_json:
                    print(json.dumps(hold), flush=True)
                    continue
                if hold["state"] == "pending" and out.is_terminal:
                    out.bell()
                statement = visible(" ".join(hold["script"].split()), False)
                who = visible(f"{hold['role']}@{hold['database']}", False)
                ended = f"  [{visible(hold['outcome'], False)}]" if hold["outcome"] else ""
                out.print(Text(f"{hold['id']:>5}  {hold['state']:<10} {who:<20} {statement}{ended}"), overflow="ellipsis", no_wrap=True)
        except ClientError as error:
            if error.exit_code != 1:
                raise
            if not lost:
                print(f"pghold: {error}; trying again", file=sys.stderr)
            lost = True
        time.sleep(1)
