"""pghold undo, trash list, trash purge."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from proxy.cli.holds import ConsoleOption, IdArgument, JsonOption, TokenOption

if TYPE_CHECKING:
    from proxy.cli.client import Client

ReasonOption = Annotated[str, typer.Option(help="Why; it goes on record.", show_default=False)]
WaitOption = Annotated[bool, typer.Option("--wait", help="Return when it has ended; exits 1 when it was not done.")]
#: States in which something may still happen.
_OPEN = ("pending", "approved", "protecting", "released")
_POLL_S = 0.5


def add_to(app: typer.Typer) -> None:
    app.command("undo")(undo)
    trash = typer.Typer(help="Tables that were soft-dropped.", no_args_is_help=True, rich_markup_mode=None)
    trash.command("list")(list_trash)
    trash.command("purge")(purge)
    app.add_typer(trash, name="trash")


def undo(
    hold_id: IdArgument,
    reason: ReasonOption = "",
    conflicts: Annotated[str, typer.Option(help="abort, skip or overwrite: what to do about what is in the way.")] = "abort",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Tell what it would do, and what is in the way; nothing is asked for.")
    ] = False,
    wait: WaitOption = False,
    as_json: JsonOption = False,
    console: ConsoleOption = None,
    token: TokenOption = None,
) -> None:
    """Take back what the statement of a hold destroyed, from the copy that was made of it.

    It is a held statement itself: `pghold approve` lets it run. Exits 4 when something is in the way.
    """
    from proxy.cli.client import Client, ClientError, printable

    if conflicts not in ("abort", "skip", "overwrite"):
        raise ClientError("--conflicts: expected abort, skip or overwrite", 2)
    client = Client(console, token)
    if dry_run:
        report = client.request("GET", f"/holds/{hold_id}/undo", params={"conflicts": conflicts}, timeout=600)
        if as_json:
            print(json.dumps(report))
            return
        print(f"It {printable(report['does'])}.")
        for conflict in report["conflicts"]:
            ways = [way for way in ("skip", "overwrite") if conflict[f"may_{way}"]]
            hint = f" (--conflicts {' or '.join(ways)})" if ways else ""
            print(f"  in the way: {printable(conflict['text'])}{hint}")
        for note in report["notes"]:
            print(f"  note: {printable(note)}")
        return
    hold = client.request("POST", f"/holds/{hold_id}/undo", json={"reason": reason, "conflicts": conflicts}, timeout=600)
    _asked(client, hold, wait, as_json)


def list_trash(as_json: JsonOption = False, console: ConsoleOption = None, token: TokenOption = None) -> None:
    """List what was soft-dropped and can still come back: `pghold undo HOLD`."""
    from proxy.cli.client import Client

    found = Client(console, token).request("GET", "/trash")
    if as_json:
        for item in found:
            print(json.dumps(item))
        return
    from rich.table import Table
    from rich.text import Text

    from proxy.cli.render import terminal, visible

    out = terminal()
    if not found:
        out.print("The trash is empty.")
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("ID", "HOLD", "STATE", "DATABASE", "SCHEMA", "UNTIL", "TABLES"):
        table.add_column(name, no_wrap=name != "TABLES", min_width=len(name))
    for item in reversed(found):
        table.add_row(
            str(item["id"]),
            str(item["hold_id"]),
            item["state"],
            Text(visible(item["database"], False)),
            Text(visible(item["schema"], False)),
            item["purge_at"][:16].replace("T", " "),
            Text(visible(", ".join(item["tables"]), False)),
        )
    out.print(table)


def purge(
    ids: Annotated[list[int], typer.Argument(help="Their ids, as `pghold trash list` shows them.", min=1, metavar="ID…")],
    reason: ReasonOption = "",
    wait: WaitOption = False,
    as_json: JsonOption = False,
    console: ConsoleOption = None,
    token: TokenOption = None,
) -> None:
    """Drop tables in the trash for good. It is a held statement itself."""
    from proxy.cli.client import Client

    client = Client(console, token)
    _asked(client, client.request("POST", "/trash/purge", json={"ids": ids, "reason": reason}), wait, as_json)


def _asked(client: Client, hold: dict[str, Any], wait: bool, as_json: bool) -> None:
    """Tell of the hold that was opened, and of its end. Raises typer.Exit(1) when it was waited for and not done."""
    from proxy.cli.client import printable

    if not wait:
        print(json.dumps(hold) if as_json else f"Hold {hold['id']} waits for a decision: pghold approve {hold['id']}")
        return
    if not as_json:
        print(f"Hold {hold['id']} waits for a decision: pghold approve {hold['id']}", file=sys.stderr)
    while hold["state"] in _OPEN:
        time.sleep(_POLL_S)
        hold = client.request("GET", f"/holds/{hold['id']}")
    if as_json:
        print(json.dumps(hold))
    else:
        print(f"Hold {hold['id']} is {hold['state']}: {printable(hold['outcome'] or '')}")
    if hold["state"] != "done":
        raise typer.Exit(1)
