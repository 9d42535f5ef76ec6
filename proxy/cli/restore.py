"""pghold restore, pghold backups verify: copies come back, and are proven again."""

from __future__ import annotations

import json
import re
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from proxy.cli.backups import backups
from proxy.cli.holds import ConsoleOption, JsonOption, TokenOption

if TYPE_CHECKING:
    from proxy.cli.client import Client

#: Between two looks.
_LOOK_S = 0.5
_ENDED = ("done", "failed", "denied", "expired", "withdrawn", "abandoned")


def add_to(app: typer.Typer) -> None:
    app.command("restore")(restore)
    backups.command("verify")(verify)


def restore(
    hold: Annotated[int | None, typer.Argument(help="The hold whose copy comes back.", min=1, metavar="[HOLD]", show_default=False)] = None,
    backup: Annotated[int | None, typer.Option(help="The copy, by its own id.", min=1, show_default=False)] = None,
    into: Annotated[str, typer.Option(help="Into this database; it is made when it is missing.", show_default=False)] = "",
    schema: Annotated[str, typer.Option(help="Into this new schema of its own database.", show_default=False)] = "",
    tables: Annotated[list[str] | None, typer.Option(help="Only this table (may be given again).", show_default=False)] = None,
    reason: Annotated[str, typer.Option(help="Why.")] = "",
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Return when its hold is open.")] = False,
    as_json: JsonOption = False,
    console: ConsoleOption = None,
    token: TokenOption = None,
) -> None:
    """Bring back what a statement destroyed: in place, or --into another database, or beside it in a new --schema.

    It opens a hold that says what will be done; approve that (pghold approve ID). Exits 1 when it failed, 3 when it was not approved.
    """
    from proxy.cli.client import Client, ClientError
    from proxy.cli.render import terminal, visible

    if (hold is None) == (backup is None):
        raise ClientError("give the id of a hold, or --backup ID", 2)
    client = Client(console, token)
    if backup is None:
        copies = [b for b in client.request("GET", "/backups", params={"hold": hold, "state": "done"}) if b["kind"] in ("dump", "rows")]
        if not copies:
            raise ClientError(f"there is no copy of what hold {hold} destroyed")
        backup = copies[0]["id"]
    body = {"into": into, "schema": schema, "tables": tables or [], "reason": reason}
    opened = client.request("POST", f"/backups/{backup}/restore", json=body)
    out, err = terminal(), terminal(stderr=True)
    if no_wait:
        print(json.dumps(opened)) if as_json else out.print(f"Hold {opened['id']} waits: pghold approve {opened['id']}")
        return
    err.print(visible(opened["script"], True), markup=False, soft_wrap=True)
    err.print(f"Hold {opened['id']} waits for its approval: pghold approve {opened['id']}")
    done = _settled(client, opened["id"], err)
    if as_json:
        print(json.dumps(done))
    else:
        out.print(visible(f"Hold {done['id']} is {done['state']}: {done['outcome'] or ''}", False), markup=False, soft_wrap=True)
    if done["state"] != "done":
        raise typer.Exit(1 if done["state"] == "failed" else 3)


def _settled(client: Client, hold_id: int, err: Any) -> dict[str, Any]:  # any: a console of rich's, JSON
    with err.status("waiting", spinner="line") as status:
        while True:
            hold: dict[str, Any] = client.request("GET", f"/holds/{hold_id}")  # any: JSON
            if hold["state"] in _ENDED:
                return hold
            status.update(f"{hold['state']}")
            time.sleep(_LOOK_S)


def verify(
    ids: Annotated[list[int] | None, typer.Argument(help="The copies' ids.", min=1, metavar="[ID…]", show_default=False)] = None,
    every: Annotated[bool, typer.Option("--all", help="All that have files.")] = False,
    older_than: Annotated[
        str, typer.Option(help="Those that were proven longer ago, such as 7d or 12h, or never.", show_default=False)
    ] = "",
    folder: Annotated[
        Path | None, typer.Option(help="A folder of copies, without a running pghold.", show_default=False, exists=True, file_okay=False)
    ] = None,
    as_json: JsonOption = False,
    console: ConsoleOption = None,
    token: TokenOption = None,
) -> None:
    """Prove copies again: read every file, restore it in a scratch database, compare. Exits 1 when one is not equal."""
    from proxy.cli.client import Client, ClientError
    from proxy.cli.render import terminal

    if folder is not None:
        good = _offline(folder, ids or [], as_json)
    else:
        if bool(ids) + every + bool(older_than) != 1:
            raise ClientError("give ids, or --all, or --older-than, or --folder", 2)
        client = Client(console, token)
        chosen = ids or [b["id"] for b in client.request("GET", "/backups", params={"state": "done", "limit": 1000}) if _due(b, older_than)]
        err = terminal(stderr=True)
        good = True
        for backup_id in chosen:
            good = _verified(client, backup_id, err, as_json) and good
        if not chosen and not as_json:
            terminal().print("No copy is due.")
    if not good:
        raise typer.Exit(1)


def _due(backup: dict[str, Any], older_than: str) -> bool:  # any: JSON
    if backup["kind"] == "trash":
        return False
    if not older_than or not backup["proved_at"]:
        return True
    return datetime.fromisoformat(backup["proved_at"]) < datetime.now(UTC) - _age(older_than)


def _age(text: str) -> timedelta:
    """Raises ClientError."""
    from proxy.cli.client import ClientError

    match = re.fullmatch(r"(\d+)([dhm])", text)
    if match is None:
        raise ClientError(f"--older-than {text}: expected such as 7d, 12h or 30m", 2)
    return timedelta(**{{"d": "days", "h": "hours", "m": "minutes"}[match[2]]: int(match[1])})


def _verified(client: Client, backup_id: int, err: Any, as_json: bool) -> bool:  # any: a console of rich's
    from proxy.cli.client import ClientError

    with err.status(f"copy {backup_id}: waiting for another proof", spinner="line") as status:
        while True:
            before = client.request("GET", f"/backups/{backup_id}")
            try:
                client.request("POST", f"/backups/{backup_id}/verify")
                break
            except ClientError as error:
                if "being proven already" not in str(error):
                    raise
                time.sleep(_LOOK_S)
        status.update(f"copy {backup_id}: proving")
        while True:
            backup = client.request("GET", f"/backups/{backup_id}")
            if backup["proof"] != "running" and backup["proved_at"] != before["proved_at"]:
                break
            time.sleep(_LOOK_S)
    _say(backup_id, backup["proof"], backup["proof_text"], as_json)
    return bool(backup["proof"] == "equal")


def _offline(folder: Path, ids: list[int], as_json: bool) -> bool:
    """Without a proxy: its own scratch server, and what the manifests say."""
    import asyncio
    import tempfile

    from proxy.backups.scratch import Scratch
    from proxy.backups.sealing import read_key
    from proxy.backups.vault import Vault
    from proxy.backups.verify import Verifier
    from proxy.cli.client import ClientError
    from proxy.cli.render import terminal
    from proxy.config import load

    settings = load({"console": "127.0.0.1:0"})  # PGHOLD_CONSOLE may be the address of one to ask
    vault = Vault(folder, key=read_key(settings.backup_key_file) if settings.backup_key_file is not None else None)
    names = [n for n in vault.folders() if not ids or n.rpartition("-")[2] in map(str, ids)]
    if not names:
        raise ClientError(f"{folder} has no copies{' of these ids' if ids else ''}")

    async def proven() -> bool:
        good = True
        with tempfile.TemporaryDirectory(prefix="pghold-verify-") as temporary, terminal(stderr=True).status("", spinner="line") as status:
            scratch = Scratch(Path(temporary) / "scratch", settings.scratch)
            try:
                verifier = Verifier(vault, scratch, settings.pg_bin)
                for name in names:
                    found = await verifier.verify(name, lambda text, n=name: status.update(f"{n}: {text}"))  # type: ignore[misc]  # a name bound in a loop
                    _say(name, str(found.proof), found.text, as_json)
                    good = good and found.is_equal
            finally:
                await scratch.stop()
        return good

    return asyncio.run(proven())


def _say(name: int | str, proof: str, text: str, as_json: bool) -> None:
    from proxy.cli.render import terminal, visible

    if as_json:
        print(json.dumps({"copy": name, "proof": proof, "text": text}))
    else:
        terminal().print(visible(f"copy {name}: {text}", False), markup=False, soft_wrap=True)
