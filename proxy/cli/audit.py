"""pghold audit verify, tail."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

FileOption = Annotated[Path | None, typer.Option("--file", help="The log; default DATA_DIR/audit.jsonl.", show_default=False)]


def add_to(app: typer.Typer) -> None:
    audit = typer.Typer(help="Read and check the audit log.", no_args_is_help=True, rich_markup_mode=None)
    audit.command("verify")(verify)
    audit.command("tail")(tail)
    app.add_typer(audit, name="audit")


def _path(file: Path | None) -> Path:
    from proxy.config import default_data_dir

    return file or Path(os.environ.get("PGHOLD_DATA_DIR") or default_data_dir()) / "audit.jsonl"


def verify(file: FileOption = None, as_json: Annotated[bool, typer.Option("--json", help="The report as JSON.")] = False) -> None:
    """Check every record and the chain; exits 1 and names the first broken record."""
    from dataclasses import asdict

    from proxy.audit import verify as check

    report = check(_path(file))
    if as_json:
        print(json.dumps(asdict(report)))
    elif report.problem is None:
        print(f"{report.records} records, the chain is whole. Last hash {report.last_hash}")
    else:
        print(f"BROKEN at {report.problem} ({report.kind}); {report.records} records before it are good")
    if report.problem is not None:
        raise typer.Exit(1)


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
