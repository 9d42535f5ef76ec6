"""pghold audit verify, tail, search, export, key."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer

FileOption = Annotated[Path | None, typer.Option("--file", help="The log; default DATA_DIR/audit.jsonl.", show_default=False)]


def add_to(app: typer.Typer) -> None:
    audit = typer.Typer(help="Read and check the audit log.", no_args_is_help=True, rich_markup_mode=None)
    audit.command("verify")(verify)
    audit.command("tail")(tail)
    audit.command("search")(search)
    audit.command("export")(export)
    audit.command("key")(key)
    app.add_typer(audit, name="audit")


def _path(file: Path | None) -> Path:
    return file or _data_dir() / "audit.jsonl"


def _data_dir() -> Path:
    from proxy.config import default_data_dir

    return Path(os.environ.get("PGHOLD_DATA_DIR") or default_data_dir())


def verify(
    file: FileOption = None,
    checkpoints: Annotated[
        str | None,
        typer.Option(
            help="Signed checkpoints to compare with: a file, https://… or postgresql://…; else those of audit_checkpoints that can be read, "
            "and those in the data directory. 'none': the chain alone.",
            show_default=False,
        ),
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option(
            help="The public keys to trust (PEM), kept in a safe place; default: those in the data directory.", show_default=False
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The report as JSON.")] = False,
) -> None:
    """Check every record of every file, the chain, and the signed checkpoints; exits 1 and names the first that is broken.

    Exits 2 when the log, the checkpoints or the key cannot be read.
    """
    from dataclasses import asdict

    from proxy.audit.compare import VerificationImpossibleError, verify_everything
    from proxy.cli.render import progress_bar

    try:
        with progress_bar("verifying", quiet=as_json) as progress:
            results = verify_everything(_path(file), checkpoints, key, progress)
    except VerificationImpossibleError as error:
        if as_json:
            print(json.dumps({"problem": str(error), "kind": "unreadable"}))
        print(f"pghold: {error}", file=sys.stderr)
        raise typer.Exit(2) from None
    report = results.report
    if as_json:
        print(json.dumps({**asdict(report), "places": results.places, "unread": results.unread}, ensure_ascii=False))
    else:
        for why in results.unread:
            print(f"pghold: checkpoints were not compared: {why}", file=sys.stderr)
        if report.problem is None:
            begins = f", from {report.first:,} on" if report.first > 1 else ""
            files = "1 file" if report.files == 1 else f"{report.files} files"
            print(f"{report.records} records in {files}{begins}: the chain is whole. Last hash {report.last_hash}")
            if results.places:
                print(f"{report.checkpoints} signed checkpoints fit ({', '.join(results.places)})")
        else:
            print(f"BROKEN at {report.problem} ({report.kind}); {report.records} records before it are good")
    if report.problem is not None:
        raise typer.Exit(1)


def key(
    rotate: Annotated[
        bool, typer.Option("--rotate", help="Prepare a new key; the running proxy (or its next start) changes to it.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Print the public key that signs checkpoints. Keep it where those cannot write who could write the log."""
    from proxy.audit.keys import KeyFileError, KeyRing

    ring = KeyRing(_data_dir())
    try:
        present = ring.load()
        if present is None:
            print(f"pghold: {ring.path} is not there yet; the first start makes it", file=sys.stderr)
            raise typer.Exit(2)
        if rotate:
            fresh = ring.prepare_next().public
            if as_json:
                print(json.dumps({"key": present.public.id, "next": fresh.id, "public_key": fresh.pem}))
            else:
                print(f"key {fresh.id} follows {present.public.id}, on record, as soon as the proxy runs", file=sys.stderr)
                print(fresh.pem, end="")
        elif as_json:
            keys = [{"key": k.id, "public_key": k.pem, "current": k.id == present.public.id} for k in ring.public_keys()]
            print(json.dumps({"key": present.public.id, "public_key": present.public.pem, "all": keys}))
        else:
            print(f"key {present.public.id}", file=sys.stderr)
            print("".join(k.pem for k in ring.public_keys()) or present.public.pem, end="")
    except KeyFileError as error:
        print(f"pghold: {error}", file=sys.stderr)
        raise typer.Exit(2) from None


def tail(
    count: Annotated[int, typer.Option("-n", help="How many records.", min=0)] = 20,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as records come.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The records as they are.")] = False,
    file: FileOption = None,
) -> None:
    """Show the last records."""
    from proxy.audit import tail as read

    path = _path(file)
    last = 0
    for record in read(path, count):
        _print(record, as_json)
        last = int(str(record.get("seq", 0)))
    while follow:
        time.sleep(0.5)
        for record in read(path, 1000):
            if int(str(record.get("seq", 0))) > last:
                _print(record, as_json)
                last = int(str(record["seq"]))


SinceOption = Annotated[datetime | None, typer.Option(help="From this time on (UTC).", show_default=False)]
UntilOption = Annotated[datetime | None, typer.Option(help="Before this time (UTC).", show_default=False)]
EventOption = Annotated[str, typer.Option(help="An event, such as held, approved, outcome.", show_default=False)]
RoleOption = Annotated[str, typer.Option(help="The requester's role.", show_default=False)]
DatabaseOption = Annotated[str, typer.Option(help="The database.", show_default=False)]
OperatorOption = Annotated[str, typer.Option(help="Who decided.", show_default=False)]
RuleOption = Annotated[str, typer.Option(help="A rule's id.", show_default=False)]
HoldOption = Annotated[int | None, typer.Option(help="A hold's id.", show_default=False)]
TextArgument = Annotated[str, typer.Argument(help="Anywhere in the record.", show_default=False)]


def _found(path: Path, limit: int, since: datetime | None, until: datetime | None, **wanted: Any) -> Iterator[dict[str, Any]]:
    from proxy.audit.search import Query
    from proxy.audit.search import search as look

    utc = [moment.replace(tzinfo=moment.tzinfo or UTC) if moment is not None else None for moment in (since, until)]
    return islice(look(path, Query(since=utc[0], until=utc[1], **wanted)), limit)


def search(
    text: TextArgument = "",
    event: EventOption = "",
    role: RoleOption = "",
    database: DatabaseOption = "",
    operator: OperatorOption = "",
    rule: RuleOption = "",
    hold: HoldOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    limit: Annotated[int, typer.Option(help="At most this many.", min=1)] = 100,
    as_json: Annotated[bool, typer.Option("--json", help="The records as they are.")] = False,
    file: FileOption = None,
) -> None:
    """Find records; the newest of them, in the order of the log."""
    wanted = {"text": text, "event": event, "role": role, "database": database, "operator": operator, "rule": rule, "hold": hold}
    found = list(_found(_path(file), limit, since, until, **wanted))
    for record in reversed(found):
        _print(record, as_json)
    if not found:
        print("pghold: no record fits", file=sys.stderr)


def export(
    text: TextArgument = "",
    form: Annotated[str, typer.Option("--format", help="jsonl or csv.")] = "jsonl",
    out: Annotated[Path | None, typer.Option("--output", "-o", help="A file; else standard output.", show_default=False)] = None,
    event: EventOption = "",
    role: RoleOption = "",
    database: DatabaseOption = "",
    operator: OperatorOption = "",
    since: SinceOption = None,
    until: UntilOption = None,
    file: FileOption = None,
) -> None:
    """Write what fits to a file, newest first. The chain is checked on the log itself, with `verify`."""
    from proxy.audit.search import as_csv

    if form not in ("jsonl", "csv"):
        raise typer.BadParameter("expected jsonl or csv", param_hint="--format")
    found = _found(_path(file), sys.maxsize, since, until, text=text, event=event, role=role, database=database, operator=operator)
    lines = as_csv(found) if form == "csv" else (json.dumps(r, ensure_ascii=False) + "\n" for r in found)
    with out.open("w", encoding="utf-8", newline="") if out is not None else nullcontext(sys.stdout) as target:
        target.writelines(lines)


def _print(record: Mapping[str, object], as_json: bool) -> None:
    if as_json:
        print(json.dumps(record, ensure_ascii=False), flush=True)
        return
    from proxy.cli.render import visible

    who = f"{record['role']}@{record['database']}" if record.get("role") else "-"
    hold = f"hold {record['hold_id']}" if record.get("hold_id") else ""
    parts = [record.get("operator"), record.get("reason"), record.get("outcome"), record.get("script")]
    words = "  ".join(visible(" ".join(str(p).split()), False) for p in parts if p)
    print(f"{record['seq']:>6} {record['at']} {record['event']!s:<18} {hold:<10} {visible(who, False):<20} {words}"[:400], flush=True)
