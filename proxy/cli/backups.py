"""pghold backups: list, show, take, prune. What each copy is, how well each database is covered, and one more of it now."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from proxy.cli import backup_keys
from proxy.cli.holds import ConsoleOption, JsonOption, TokenOption

if TYPE_CHECKING:
    from proxy.cli.client import Client

#: Between two looks at a copy that is being made.
_LOOK_S = 1.0

DatabaseOption = Annotated[str, typer.Option(help="Only of this database.", show_default=False)]
HoldOption = Annotated[int | None, typer.Option(help="Only of this hold.", min=1, show_default=False)]
EveryOption = Annotated[bool, typer.Option("--all", help="Those that failed or were removed, too.")]
LimitOption = Annotated[int, typer.Option(help="At most this many, the newest.", min=1, max=1000)]

backups = typer.Typer(
    help="Copies of what approved statements destroyed, and of whole databases. Without a command: list them.", rich_markup_mode=None
)


def add_to(app: typer.Typer) -> None:
    backup_keys.add_to(backups)
    app.add_typer(backups, name="backups", invoke_without_command=True)


@backups.callback()
def _root(
    context: typer.Context,
    database: DatabaseOption = "",
    hold: HoldOption = None,
    every: EveryOption = False,
    limit: LimitOption = 50,
    as_json: JsonOption = False,
    console: ConsoleOption = None,
    token: TokenOption = None,
) -> None:
    """Copies of what approved statements destroyed, and of whole databases. Without a command: list them."""
    if context.invoked_subcommand is None:
        show_list(database, hold, every, limit, as_json, console, token)


@backups.command("list")
def show_list(
    database: DatabaseOption = "",
    hold: HoldOption = None,
    every: EveryOption = False,
    limit: LimitOption = 50,
    as_json: JsonOption = False,
    console: ConsoleOption = None,
    token: TokenOption = None,
) -> None:
    """List the copies, oldest first, and say how well each database is covered."""
    from proxy.cli.client import Client

    client = Client(console, token)
    wanted: dict[str, Any] = {"limit": limit, **({"database": database} if database else {}), **({"hold": hold} if hold else {})}
    found = client.request("GET", "/backups", params=wanted)
    chosen = [b for b in found if every or b["state"] in ("running", "done")]
    if as_json:
        for backup in reversed(chosen):
            print(json.dumps(backup))
        return
    from proxy.cli import render_backups
    from proxy.cli.render import terminal

    out = terminal()
    if chosen:
        out.print(render_backups.table(chosen))
    elif found:
        out.print(f"There is no copy now; {len(found)} failed or were removed (--all).")
    else:
        out.print(
            "No copy fits." if database or hold else "There are no copies yet. They are made when a destructive statement is approved,"
        )
        if not database and not hold:
            out.print("and of whole databases by the schedule, or now: pghold backups take")
    if not hold:
        render_backups.summary(client.request("GET", "/keeping"), out)


@backups.command("show")
def show(
    backup_id: Annotated[int, typer.Argument(help="The copy's id.", min=1, metavar="ID")],
    as_json: JsonOption = False,
    console: ConsoleOption = None,
    token: TokenOption = None,
) -> None:
    """Show one copy: what is in it, its files, its proof, and what to type to bring it back."""
    from proxy.cli.client import Client

    backup = Client(console, token).request("GET", f"/backups/{backup_id}")
    if as_json:
        print(json.dumps(backup))
        return
    from proxy.cli import render_backups
    from proxy.cli.render import terminal

    render_backups.card(backup, terminal())


@backups.command("take")
def take(
    database: Annotated[str, typer.Argument(help="Which. [default: those of the schedule]", metavar="[DATABASE]", show_default=False)] = "",
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Return when it has begun.")] = False,
    as_json: JsonOption = False,
    console: ConsoleOption = None,
    token: TokenOption = None,
) -> None:
    """Copy a whole database now, and wait until it is made and proven (admin). Exits 1 when it failed."""
    from proxy.cli.client import Client
    from proxy.cli.render import terminal, visible

    client = Client(console, token)
    begun = client.request("POST", "/backups", json={"database": database})
    err, out = terminal(stderr=True), terminal()
    if no_wait:
        print(json.dumps(begun)) if as_json else out.print(f"Begun: {', '.join(visible(d, False) for d in begun['databases'])}")
        return
    good = True
    for name in begun["databases"]:
        with err.status(f"copying {visible(name, False)}", spinner="line") as status:
            done, problem = _wait(
                client, name, begun["after"], lambda text, s=status, n=name: s.update(f"copying {visible(n, False)}: {text}")
            )
        good = good and problem == ""
        if as_json:
            print(json.dumps({**(done or {"database": name}), "problem": problem}))
        elif done is None or problem:
            out.print(f"{visible(name, False)}: [bold red]failed[/]: ", end="")
            out.print(visible(problem, False), markup=False, soft_wrap=True)
        else:
            proof = visible(done["proof_text"] or "not proven yet", False)
            out.print(f"copy {done['id']} of {visible(name, False)}: {done['what']}; {proof}", markup=False, soft_wrap=True)
    if not good:
        raise typer.Exit(1)


def _wait(
    client: Client, database: str, after: int, tell: Any
) -> tuple[dict[str, Any] | None, str]:  # any: a callable that is told how far
    """The copy, and what went wrong with it."""
    while True:
        status = next((d for d in client.request("GET", "/keeping")["databases"] if d["name"] == database), None)
        found = [b for b in client.request("GET", "/backups", params={"database": database}) if b["kind"] == "full" and b["id"] > after]
        newest = found[0] if found else None
        if newest is not None:
            tell(newest["progress"] or ("made, being proven" if newest["state"] == "done" else ""))
        # The keeper is done with it when it has been proven, or could not be.
        if status is None or not status["running"]:
            if newest is None or newest["state"] != "done":
                return newest, (newest or {}).get("error") or (status or {}).get("error") or "it could not be made"
            return newest, newest["proof_text"] if newest["proof"] in ("different", "failed") else ""
        time.sleep(_LOOK_S)


@backups.command("prune")
def prune(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    as_json: JsonOption = False,
    console: ConsoleOption = None,
    token: TokenOption = None,
) -> None:
    """Remove the copies that are past their limits (backup_keep_…) now (admin). It happens by itself every hour; each is on record."""
    from proxy.cli.client import Client
    from proxy.cli.render import terminal, visible

    removed = Client(console, token).request("POST", "/keeping/prune", json={"dry_run": dry_run})
    out = terminal()
    for backup in removed:
        if as_json:
            print(json.dumps(backup))
        else:
            line = f"copy {backup['id']} of {backup['database']}, {backup['created_at'][:16]}, {backup['what']}: {backup['why']}"
            out.print(visible(line, False), markup=False, soft_wrap=True)
    if not removed and not as_json:
        out.print("Nothing is past its limits.")
    elif not as_json:
        out.print(f"{len(removed)} {'would be' if dry_run else 'were' if len(removed) > 1 else 'was'} removed.")
