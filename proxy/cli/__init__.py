"""The command line. Each command is a thin client; heavy modules are imported by the command that needs them."""

from __future__ import annotations

import sys
from importlib.metadata import version
from typing import Annotated

import typer

from proxy.cli import audit, backups, check, doctor, health, holds, notify, operator, recover, restore, run, schema, undo

app = typer.Typer(
    name="pghold",
    help="Hold dangerous PostgreSQL statements until a person approves them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"pghold {version('pghold')}")
        raise typer.Exit


@app.callback()
def _root(
    show_version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")] = False,
) -> None:
    """Hold dangerous PostgreSQL statements until a person approves them."""


run.add_to(app)
holds.add_to(app)
audit.add_to(app)
check.add_to(app)
doctor.add_to(app)
health.add_to(app)
schema.add_to(app)
operator.add_to(app)
notify.add_to(app)
recover.add_to(app)
backups.add_to(app)
undo.add_to(app)
restore.add_to(app)


def main() -> None:
    """Entry point. Errors are one line on stderr: 1 failed, 2 usage, 3 no longer pending, 4 not allowed."""
    from proxy.cli.client import ClientError
    from proxy.errors import ConfigError
    from proxy.seams import AuditError, StoreError

    try:
        app()
    except ClientError as error:
        print(f"pghold: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except ConfigError as error:
        print(f"pghold: {error}", file=sys.stderr)
        sys.exit(2)
    except (StoreError, AuditError, OSError) as error:
        print(f"pghold: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
