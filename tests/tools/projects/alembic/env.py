"""Runs the migrations on DATABASE_URL; `-x driver=asyncpg` by that driver, `-x each` with a transaction for each migration."""

from __future__ import annotations

import asyncio
import os

import sqlalchemy as sa
from alembic import context
from sqlalchemy.ext.asyncio import create_async_engine

given = context.get_x_argument(as_dictionary=True)
driver = given.get("driver", "psycopg")
url = sa.make_url(os.environ["DATABASE_URL"]).set(drivername=f"postgresql+{driver}")


def migrate(connection: sa.Connection) -> None:
    context.configure(connection=connection, transaction_per_migration="each" in given)
    with context.begin_transaction():
        context.run_migrations()


async def asynchronously() -> None:
    engine = create_async_engine(url)
    async with engine.connect() as connection:
        await connection.run_sync(migrate)
    await engine.dispose()


if context.is_offline_mode():
    context.configure(url=url, literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()
elif driver == "asyncpg":
    asyncio.run(asynchronously())
else:
    with sa.create_engine(url).connect() as connection:
        migrate(connection)
