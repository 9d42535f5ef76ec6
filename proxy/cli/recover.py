"""pghold recover: the database is gone, and comes back from the copies, without a proxy."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from proxy.cli.holds import JsonOption

if TYPE_CHECKING:
    from rich.console import Console

    from proxy.backups.recover import Found, Recovered, Survey


def add_to(app: typer.Typer) -> None:
    app.command("recover")(recover)


def recover(
    backups: Annotated[
        str, typer.Option(help="Where the copies are: a folder, or s3://BUCKET/PREFIX?… [default: backup_dir]", show_default=False)
    ] = "",
    to: Annotated[str, typer.Option(help="The server, as a URL. [default: control, else upstream]", show_default=False)] = "",
    database: Annotated[str, typer.Option(help="Which. [default: the only one that has copies]", show_default=False)] = "",
    into: Annotated[str, typer.Option(help="Its new name. [default: as it was]", show_default=False)] = "",
    jobs: Annotated[int, typer.Option(help="So many tables at the same time.", min=1, max=64)] = 2,
    at: Annotated[str, typer.Option(help="As it was then, such as 2026-11-25T14:00 (UTC).", show_default=False)] = "",
    move_aside: Annotated[bool, typer.Option("--move-aside", help="Rename a database of that name that has tables.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what there is.")] = False,
    as_json: JsonOption = False,
) -> None:
    """The database is gone: restore the newest whole copy into a new database, and compare every table.

    Works without a running pghold. Exits 1 when something is missing or different.
    """
    import asyncio

    from proxy.backups.recover import RecoverError, survey
    from proxy.backups.recover import recover as run
    from proxy.backups.sealing import SealError, read_key
    from proxy.backups.targets import TargetError
    from proxy.backups.vault import VaultError
    from proxy.cli.client import ClientError
    from proxy.cli.render import terminal
    from proxy.config import load
    from proxy.control import Control

    settings = load({"console": "127.0.0.1:0"})  # PGHOLD_CONSOLE may be the address of one to ask
    out = terminal()
    try:
        when = _time(at)
        place = _server(to, settings)
        key = read_key(settings.backup_key_file) if settings.backup_key_file is not None else None
        with _vault(backups, settings, key) as vault:
            plan = survey(vault, database, when)
            if not as_json:
                _tell(plan, into, out)
            if dry_run:
                if as_json:
                    print(json.dumps(_plan_as_json(plan)))
                return
            if not yes and not as_json and not typer.confirm(f"Restore into {place.host}:{place.port}", default=True, err=True):
                raise typer.Exit(1)
            control = Control(place, settings.connect_timeout_s)
            with _progress(terminal(stderr=True)) as progress:
                done = asyncio.run(
                    run(vault, plan, control, into=into, jobs=jobs, move_aside=move_aside, tools=settings.pg_bin, progress=progress)
                )
    except (RecoverError, VaultError, SealError, TargetError) as error:
        raise ClientError(str(error)) from None
    except ValueError as error:
        raise ClientError(str(error), 2) from None
    if as_json:
        print(json.dumps(_as_json(plan, done)))
    else:
        _report(plan, done, out)
    if not done.is_equal:
        raise typer.Exit(1)


def _server(to: str, settings: Any) -> Any:  # any: Settings and Upstream, imported late
    from proxy.config import Upstream

    url = to or settings.control or settings.upstream
    if not url:
        raise ValueError("say where to: --to postgresql://user@host/ (or PGHOLD_UPSTREAM)")
    return Upstream.from_url(url)


def _time(text: str) -> datetime | None:
    if not text:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"--at {text}: expected a time such as 2026-11-25T14:00") from None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


@contextmanager
def _vault(backups: str, settings: Any, key: Any) -> Iterator[Any]:  # any: imported late
    """Of a folder; of another place, whose copies are fetched when they are opened."""
    from proxy.backups.targets import open_targets
    from proxy.backups.vault import Vault

    if backups.startswith("s3://"):
        import asyncio

        (target,) = open_targets([backups])
        with tempfile.TemporaryDirectory(prefix="pghold-recover-") as temporary:
            root = Path(temporary)

            async def fetched() -> None:
                for folder in await target.folders():
                    (root / folder).mkdir(mode=0o700)
                    await target.fetch(folder, root / folder)

            asyncio.run(fetched())
            yield Vault(root, key=key)
        return
    root = Path(backups) if backups else settings.backup_folder
    if not root.is_dir():
        raise ValueError(f"{root} is no folder; give --backups")
    targets = open_targets(settings.backup_targets) if not backups else ()
    yield Vault(root, key=key, targets=targets)


@contextmanager
def _progress(console: Console) -> Iterator[Any]:  # any: a callable
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    with Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console, transient=True
    ) as bar:
        task = bar.add_task("", total=None)

        def told(what: str, done: int, of: int) -> None:
            bar.update(task, description=what, completed=done, total=of or None)

        yield told


def _tell(plan: Survey, into: str, out: Console) -> None:
    best = plan.candidates[0]
    _say(out, f"Database {plan.database}{f', into {into}' if into else ''}: {_what(best)}")
    if best.manifest.kind != "full":
        _say(out, "There is no full copy. This one has the definitions of the whole database, and the rows of these tables only:")
        _say(out, "  " + ", ".join(t.name for t in best.manifest.tables))
    for line in best.manifest.left_out:
        _say(out, f"  not in it: {line}")
    from proxy.backups.recover import newer_tables

    for name, copy in newer_tables(plan.newer):
        _say(out, f"  later state of {name}: {_what(copy)}")
    for line in plan.unreadable:
        _say(out, f"  unreadable: {line}")


def _say(out: Console, text: str) -> None:
    from proxy.cli.render import visible

    out.print(visible(text, False), markup=False, soft_wrap=True)


def _what(found: Found) -> str:
    rows = sum(t.rows for t in found.manifest.tables)
    return f"copy {found.folder} of {found.at:%Y-%m-%d %H:%M:%S} UTC ({found.manifest.what}; {len(found.manifest.tables):,} tables, {rows:,} rows)"


def _report(plan: Survey, done: Recovered, out: Console) -> None:
    from rich.table import Table

    from proxy.backups.recover import newer_tables
    from proxy.cli.render import visible

    table = Table("table", "rows", "compared", box=None)
    wrong = {line.split(" has ")[0].split(": ")[0].removesuffix(" is not there") for line in done.different}
    for copied in done.compared:
        table.add_row(visible(copied.name, False), f"{copied.rows:,}", "[red]different[/]" if copied.name in wrong else "equal")
    out.print(table)
    for line in done.skipped:
        _say(out, f"damaged, not used: {line}")
    for line in done.different:
        _say(out, f"different: {line}")
    for line in done.problems:
        _say(out, f"pg_restore: {line}")
    if done.moved_to:
        _say(out, f"The database that was there is now {done.moved_to}.")
    for name, copy in newer_tables(plan.newer):
        _say(out, f"There is a later state of {name}: {_what(copy)}; see docs/restore.md")
    rows = sum(t.rows for t in done.compared)
    verdict = "equal to the copy" if done.is_equal else f"{len(done.different)} differ"
    _say(
        out,
        f"{done.database}: {len(done.compared):,} tables, {rows:,} rows, {verdict}, in {done.seconds:.1f} s; as of {done.found.at:%Y-%m-%d %H:%M:%S} UTC",
    )


def _plan_as_json(plan: Survey) -> dict[str, Any]:  # any: JSON
    def one(found: Found) -> dict[str, Any]:  # any: JSON
        return {
            "folder": found.folder,
            "kind": str(found.manifest.kind),
            "at": found.at.isoformat(),
            "tables": [t.name for t in found.manifest.tables],
        }

    return {
        "database": plan.database,
        "candidates": [one(f) for f in plan.candidates],
        "newer": [one(f) for f in plan.newer],
        "unreadable": list(plan.unreadable),
    }


def _as_json(plan: Survey, done: Recovered) -> dict[str, Any]:  # any: JSON
    return {
        **_plan_as_json(plan),
        "used": done.found.folder,
        "restored_into": done.database,
        "moved_to": done.moved_to,
        "tables": [{"name": t.name, "rows": t.rows} for t in done.compared],
        "different": done.different,
        "problems": done.problems,
        "skipped": done.skipped,
        "equal": done.is_equal,
        "seconds": round(done.seconds, 3),
    }
