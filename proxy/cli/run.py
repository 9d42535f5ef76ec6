"""pghold run, psql."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

_Text = str | None


def add_to(app: typer.Typer) -> None:
    app.command("run")(run)
    app.command("psql", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(psql)


def run(
    upstream: Annotated[
        _Text,
        typer.Option(
            help="The server: postgresql://host:port/database?sslmode=…; without it, an embedded PostgreSQL 18.", show_default=False
        ),
    ] = None,
    listen: Annotated[
        _Text,
        typer.Option(
            help="Where clients connect: HOST:PORT, or /DIRECTORY:PORT for a Unix socket; comma-separated. [default: 127.0.0.1:6432]",
            show_default=False,
        ),
    ] = None,
    console: Annotated[_Text, typer.Option(help="Where the HTTP API listens. [default: 127.0.0.1:8432]", show_default=False)] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Holds, audit log, operator token. [default: ~/.local/share/pghold]", show_default=False)
    ] = None,
    policy: Annotated[
        Path | None,
        typer.Option(help="The configuration file. [default: ./pghold.toml or DATA_DIR/pghold.toml if there]", show_default=False),
    ] = None,
    environment: Annotated[
        _Text, typer.Option(help="production, development or test. [default: production with --upstream]", show_default=False)
    ] = None,
    profile: Annotated[_Text, typer.Option(help="guard or strict. [default: guard]", show_default=False)] = None,
    mode: Annotated[_Text, typer.Option(help="enforce, observe or off. [default: enforce]", show_default=False)] = None,
    store: Annotated[
        _Text, typer.Option(help="Where holds are kept; only SQLite in the data directory so far.", show_default=False)
    ] = None,
    tls: Annotated[_Text, typer.Option(help="TLS for clients: disable, allow or require. [default: disable]", show_default=False)] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="Certificate for clients (PEM).", show_default=False)] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its key (PEM).", show_default=False)] = None,
    tls_ca: Annotated[Path | None, typer.Option(help="CA of client certificates; given, they are required.", show_default=False)] = None,
    hold_timeout: Annotated[
        float | None, typer.Option("--hold-timeout", help="Seconds a statement may wait. [default: 600]", show_default=False)
    ] = None,
    hold_timeout_in_transaction: Annotated[
        float | None, typer.Option("--hold-timeout-in-transaction", help="The same inside a transaction. [default: 60]", show_default=False)
    ] = None,
    heartbeat: Annotated[
        float | None, typer.Option("--heartbeat", help="Seconds between NOTICEs to a waiting client. [default: 15]", show_default=False)
    ] = None,
    max_connections: Annotated[int | None, typer.Option(help="More clients get an error. [default: 10000]", show_default=False)] = None,
    startup_timeout: Annotated[
        float | None, typer.Option("--startup-timeout", help="Seconds a client may take to log in. [default: 60]", show_default=False)
    ] = None,
    drain_timeout: Annotated[
        float | None,
        typer.Option("--drain-timeout", help="Seconds transactions get when the proxy stops. [default: 30]", show_default=False),
    ] = None,
    replication: Annotated[
        bool | None, typer.Option("--replication", help="Let replication connections through, unjudged.", show_default=False)
    ] = None,
    log_format: Annotated[_Text, typer.Option(help="auto, json or console. [default: auto]", show_default=False)] = None,
    log_level: Annotated[_Text, typer.Option(help="debug, info, warning or error. [default: info]", show_default=False)] = None,
) -> None:
    """Start the proxy, its HTTP API included. Every option is also PGHOLD_… in the environment and a key in pghold.toml."""
    options = dict(locals())
    for name in ("hold_timeout", "hold_timeout_in_transaction", "heartbeat", "startup_timeout", "drain_timeout"):
        options[f"{name}_s"] = options.pop(name)
    from proxy.config import load

    settings = load(options)
    from proxy.app import main

    raise typer.Exit(main(settings))


def psql(
    context: typer.Context,
    listen: Annotated[str, typer.Option(envvar="PGHOLD_LISTEN", help="The proxy's address.")] = "127.0.0.1:6432",
    admin: Annotated[bool, typer.Option("--admin", help="Open the operator's console instead of the sample database.")] = False,
) -> None:
    """Open psql through the proxy (the one that comes with the embedded PostgreSQL); further arguments go to psql."""
    from proxy.cli.client import find_token
    from proxy.config import address
    from proxy.embedded import bindir

    host, port = address(listen.split(",")[0])
    environment = dict(os.environ)
    environment.setdefault("PGHOST", host)
    environment.setdefault("PGPORT", str(port))
    environment.setdefault("PGUSER", "operator" if admin else "postgres")
    environment.setdefault("PGDATABASE", "pghold" if admin else "sample")
    if admin:
        environment.setdefault("PGPASSWORD", find_token())
    program = bindir() / "psql"
    sys.stdout.flush()
    os.execve(program, [str(program), *context.args], environment)
