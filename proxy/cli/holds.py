"""pghold holds, show, approve, deny, watch."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from fnmatch import fnmatchcase
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from proxy.model import HoldState

if TYPE_CHECKING:
    from proxy.cli.client import Client

ConsoleOption = Annotated[str | None, typer.Option("--console", envvar="PGHOLD_CONSOLE", help="The console's address.", show_default=False)]
TokenOption = Annotated[str | None, typer.Option("--token", envvar="PGHOLD_TOKEN", help="An operator's token.", show_default=False)]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object per line.")]
IdArgument = Annotated[int, typer.Argument(help="The hold's id.", min=1, metavar="ID")]

IdsArgument = Annotated[list[int] | None, typer.Argument(help="The holds' ids.", min=1, metavar="ID…", show_default=False)]
LikeOption = Annotated[
    int | None, typer.Option("--all-like", help="This hold and those that belong to it: asks how many they are.", min=1, show_default=False)
]
CountOption = Annotated[int | None, typer.Option(help="With --all-like: how many they are.", min=1, show_default=False)]


def add_to(app: typer.Typer) -> None:
    app.command("holds")(holds)
    app.command("show")(show)
    app.command("approve")(approve)
    app.command("deny")(deny)
    app.command("grants")(grants)
    app.command("revoke")(revoke)
    app.command("watch")(watch)


def holds(
    every: Annotated[bool, typer.Option("--all", help="Ended holds too.")] = False,
    state: Annotated[HoldState | None, typer.Option(help="Only those in this state.", show_default=False)] = None,
    database: Annotated[str, typer.Option(help="Only of this database (a pattern).", show_default=False)] = "",
    role: Annotated[str, typer.Option(help="Only of this role (a pattern).", show_default=False)] = "",
    limit: Annotated[int, typer.Option(help="At most this many, the newest.", min=1, max=1000)] = 100,
    as_json: JsonOption = False,
    console: ConsoleOption = None,
    token: TokenOption = None,
) -> None:
    """List what waits for a decision."""
    from proxy.cli.client import Client

    ended = every or state not in (None, HoldState.PENDING)
    client = Client(console, token)
    found = list(islice(_matching(client, ended, state, database, role), limit))
    if as_json:
        for hold in reversed(found):
            print(json.dumps(hold))
        return
    from proxy.cli.render import table, terminal

    out = terminal()
    if not client.request("GET", "/me").get("backup_before_danger", True):
        terminal(stderr=True).print("[bold red]NO COPIES are made before a dangerous statement runs (backup_before_danger is false)[/]")
    if not found:
        chosen = state is not None or database or role
        out.print("No hold fits." if chosen else "There are no holds." if every else "Nothing waits.")
        return
    out.print(table(found))


def _matching(client: Client, ended: bool, state: HoldState | None, database: str, role: str) -> Iterator[dict[str, Any]]:
    """Newest first, page by page."""
    before: dict[str, int] = {}
    while True:
        page = client.request("GET", "/holds", params={"state": "all" if ended else "pending", "limit": 1000, **before})
        for hold in page:
            if (
                (state is None or hold["state"] == state)
                and (not database or fnmatchcase(hold["database"], database))
                and (not role or fnmatchcase(hold["role"], role))
            ):
                yield hold
        if len(page) < 1000:
            return
        before = {"before": page[-1]["id"]}


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
    hold_ids: IdsArgument = None,
    phrase: Annotated[str | None, typer.Option(help="The approval phrase; asked for on a terminal.", show_default=False)] = None,
    reason: Annotated[str | None, typer.Option(help="Why it may run; asked for on a terminal.", show_default=False)] = None,
    object_name: Annotated[
        str | None, typer.Option("--object", help="The name of what is lost, to be checked against the hold's.", show_default=False)
    ] = None,
    code: Annotated[str, typer.Option(help="Of your second factor, where one is needed.", show_default=False)] = "",
    break_glass: Annotated[bool, typer.Option("--break-glass", help="Alone, where several people are needed; loud.")] = False,
    session_minutes: Annotated[
        float, typer.Option(help="Let the same rules pass in that session for so long.", min=0, show_default=False)
    ] = 0,
    without_backup: Annotated[
        bool,
        typer.Option("--without-backup", help="Take no copy first: what is lost then is lost. A permission of its own, and on record."),
    ] = False,
    all_like: LikeOption = None,
    count: CountOption = None,
    as_json: JsonOption = False,
    console: ConsoleOption = None,
    token: TokenOption = None,
) -> None:
    """Let held statements run, once each. Several are one decision: all are checked before the first is decided.

    A hold that expired, whose client left, or whose client did not wait can be approved, too: it runs when it is sent again.
    """
    from proxy.cli.settle import Given, settle

    given = Given(
        True,
        phrase=phrase,
        reason=reason,
        object_name=object_name,
        code=code,
        break_glass=break_glass,
        session_minutes=session_minutes,
        without_backup=without_backup,
    )
    settle(_client(console, token), hold_ids or [], all_like, count, given, as_json)


def grants(as_json: JsonOption = False, console: ConsoleOption = None, token: TokenOption = None) -> None:
    """List what was decided ahead and can still be used: retries, and grants for a session."""
    found = _client(console, token).request("GET", "/grants")
    if as_json:
        for grant in found:
            print(json.dumps(grant))
        return
    from proxy.cli.render import grant_table, terminal

    out = terminal()
    out.print(grant_table(found) if found else "There are no grants.")


def revoke(
    grant_id: Annotated[int, typer.Argument(help="The grant's id, as `pghold grants` shows it.", min=1, metavar="ID")],
    console: ConsoleOption = None,
    token: TokenOption = None,
) -> None:
    """Take a grant back; what ran by it, ran."""
    _client(console, token).request("DELETE", f"/grants/{grant_id}")
    print(f"Grant {grant_id} is revoked.")


def deny(
    hold_ids: IdsArgument = None,
    reason: Annotated[str | None, typer.Option(help="Why it may not run; the client is told.", show_default=False)] = None,
    suggest: Annotated[str, typer.Option(help="The statement to send instead; the client is told.", show_default=False)] = "",
    all_like: LikeOption = None,
    count: CountOption = None,
    as_json: JsonOption = False,
    console: ConsoleOption = None,
    token: TokenOption = None,
) -> None:
    """Refuse held statements; their clients get an error."""
    from proxy.cli.settle import Given, settle

    settle(_client(console, token), hold_ids or [], all_like, count, Given(False, reason=reason, suggestion=suggest), as_json)


def _client(console: str | None, token: str | None) -> Client:
    from proxy.cli.client import Client

    return Client(console, token)


def watch(
    plain: Annotated[
        bool, typer.Option("--plain", help="Lines instead of the full screen; so too when standard output is no terminal.")
    ] = False,
    as_json: JsonOption = False,
    console: ConsoleOption = None,
    token: TokenOption = None,
) -> None:
    """Follow holds as they open and end, and decide on them: the whole screen, `?` for its keys. Rings the bell for each new one."""
    if as_json or plain or not (sys.stdout.isatty() and sys.stdin.isatty()):
        from proxy.cli.watch.lines import follow

        follow(_client(console, token), as_json)
        return
    from proxy.cli.watch.app import WatchApp
    from proxy.cli.watch.feed import Feed

    app = WatchApp(Feed(console, token))
    app.run()
    raise typer.Exit(app.return_code or 0)
