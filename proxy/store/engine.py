"""Opening the store: SQLite in the data directory, in WAL mode, each commit flushed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from sqlalchemy import event
from sqlalchemy.engine import Connection
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry, StaticPool

from proxy.seams import StoreError

#: No operation may keep a session waiting longer than this.
DEADLINE_S: Final = 10.0


class Store:
    """One writer at a time; every failure is a StoreError."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._lock = asyncio.Lock()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that is committed, flushed to disk, at the end. Raises StoreError."""
        try:
            async with asyncio.timeout(DEADLINE_S), self._lock, self._engine.begin() as connection:
                yield connection
        except (SQLAlchemyError, OSError, TimeoutError) as error:
            raise StoreError(f"the store failed: {_first_line(error)}") from error

    async def close(self) -> None:
        await self._engine.dispose()


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0] or type(error).__name__


def _pragmas(connection: DBAPIConnection, record: ConnectionPoolEntry) -> None:
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=5000", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _upgrade(connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


async def open_store(data_dir: Path) -> Store:
    """Open (and make, or bring up to date) the store in this directory. Raises StoreError."""
    path = data_dir / "pghold.sqlite"
    # One connection: SQLite has one writer anyway, and the decisions of one process are few.
    engine = create_async_engine(f"sqlite+aiosqlite:///{path}", poolclass=StaticPool)
    event.listen(engine.sync_engine, "connect", _pragmas)
    try:
        async with engine.begin() as connection:
            await connection.run_sync(_upgrade)
        path.chmod(0o600)
    except (SQLAlchemyError, OSError) as error:
        await engine.dispose()
        raise StoreError(f"cannot open {path}: {_first_line(error)}") from error
    return Store(engine)
