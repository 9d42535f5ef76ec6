"""pghold operator add, list, remove: on the data directory directly."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from proxy.model import Role

if TYPE_CHECKING:
    from proxy.operators import SqlOperators

T = TypeVar("T")


def add_to(app: typer.Typer) -> None:
    operators = typer.Typer(help="Who may decide.", no_args_is_help=True, rich_markup_mode=None)
    operators.command("add")(add)
    operators.command("list")(list_all)
    operators.command("remove")(remove)
    app.add_typer(operators, name="operator")


def _with(work: Callable[[SqlOperators], Awaitable[T]]) -> T:
    from proxy.clock import SystemClock
    from proxy.config import default_data_dir
    from proxy.operators import SqlOperators
    from proxy.store import open_store

    async def go() -> T:
        data_dir = Path(os.environ.get("PGHOLD_DATA_DIR") or default_data_dir())
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        store = await open_store(data_dir)
        try:
            return await work(SqlOperators(store, SystemClock()))
        finally:
            await store.close()

    return asyncio.run(go())


def add(
    name: Annotated[str, typer.Argument(help="The operator's name; also the user at the psql console.")],
    role: Annotated[Role, typer.Option(help="viewer and auditor read; approver decides; admin also kills and reloads.")] = Role.APPROVER,
) -> None:
    """Add an operator, or give one a new role and token. Prints the token, once."""
    print(_with(lambda operators: operators.add(name, role)))


def list_all() -> None:
    """List the operators."""
    for operator in _with(lambda operators: operators.list()):
        print(f"{operator.name}\t{operator.role}")


def remove(name: Annotated[str, typer.Argument(help="The operator's name.")]) -> None:
    """Remove an operator: the token stops working at once."""
    if not _with(lambda operators: operators.remove(name)):
        raise typer.BadParameter(f"there is no operator {name}")
