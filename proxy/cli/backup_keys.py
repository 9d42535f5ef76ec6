"""pghold backups key, unseal: what copies are encrypted with, and one of their files made plain without a proxy."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from proxy.errors import ConfigError

_READ_BYTES = 1 << 20


def add_to(app: typer.Typer) -> None:
    """To the commands of `pghold backups`."""
    app.command("key")(key)
    app.command("unseal")(unseal)


def key(path: Annotated[Path, typer.Argument(help="The file to make. It must not exist.")]) -> None:
    """Make a key for copies, readable for nobody else; set backup_key_file to it. Keep it somewhere else as well: without it no copy opens."""
    from proxy.backups.sealing import make_key

    try:
        made = make_key(path)
    except ConfigError as error:
        _fail(str(error))
    print(f"key {made.id} is in {path}; set backup_key_file to it, and keep it in a second place: without it no copy can be opened")


def unseal(
    file: Annotated[Path, typer.Argument(help="A file of a copy whose name ends in .sealed.")],
    key_file: Annotated[Path, typer.Option("--key-file", help="The key that it was encrypted with.")],
    into: Annotated[
        Path | None, typer.Option("--into", help="Where the plain file goes. [default: standard output]", show_default=False)
    ] = None,
) -> None:
    """Decrypt one file of a copy. Needs no proxy and no store. Exits 1 when the file is damaged."""
    from proxy.backups.sealing import SealError, read_key, unsealed

    try:
        with contextlib.ExitStack() as stack:
            source = stack.enter_context(file.open("rb"))
            if into is None:
                out = sys.stdout.buffer
            else:
                out = stack.enter_context(os.fdopen(os.open(into, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb"))
            for piece in unsealed(iter(lambda: source.read(_READ_BYTES), b""), read_key(key_file)):
                out.write(piece)
            out.flush()
    except ConfigError as error:
        _fail(str(error))
    except SealError as error:
        if into is not None:
            into.unlink(missing_ok=True)
        _fail(f"{file}: {error}", 1)
    except OSError as error:
        _fail(f"{error.filename or into or file}: {error.strerror}")


def _fail(text: str, code: int = 2) -> NoReturn:
    print(f"pghold: {text}", file=sys.stderr)
    raise typer.Exit(code)
