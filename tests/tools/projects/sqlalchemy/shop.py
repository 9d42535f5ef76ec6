"""A shop's tables, as an application of SQLAlchemy declares them; a command for each thing that is done with them.

Usage: python shop.py psycopg|asyncpg create|fill|drop|drop-all-at-once|drop-one|drop-unchecked|work
"""

from __future__ import annotations

import asyncio
import os
import sys

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

metadata = sa.MetaData()

order_number = sa.Sequence("order_number", metadata=metadata, start=1000)
state = sa.Enum("new", "paid", "sent", name="order_state", metadata=metadata)


def key() -> sa.Column[int]:
    return sa.Column("id", sa.Integer, primary_key=True)


def to(table: str, **options: bool) -> sa.Column[int]:
    return sa.Column(f"{table}_id", sa.ForeignKey(f"{table}.id"), **options)


country = sa.Table("country", metadata, key(), sa.Column("name", sa.Text))
city = sa.Table("city", metadata, key(), to("country"), sa.Column("name", sa.Text))
customer = sa.Table("customer", metadata, key(), to("city"), sa.Column("name", sa.Text, index=True))
address = sa.Table("address", metadata, key(), to("customer"), to("city"), sa.Column("street", sa.Text))
category = sa.Table(
    "category", metadata, key(), sa.Column("name", sa.Text), sa.Column("parent_id", sa.ForeignKey("category.id"), nullable=True)
)
brand = sa.Table("brand", metadata, key(), sa.Column("name", sa.Text, unique=True))
product = sa.Table("product", metadata, key(), to("category"), to("brand"), sa.Column("price", sa.Numeric(10, 2)))
stock = sa.Table("stock", metadata, key(), to("product"), sa.Column("pieces", sa.Integer))
#: Each belongs to the other: their constraints are dropped before them.
team = sa.Table(
    "team", metadata, key(), sa.Column("lead_id", sa.ForeignKey("employee.id", name="team_lead", use_alter=True), nullable=True)
)
employee = sa.Table("employee", metadata, key(), to("team"), sa.Column("name", sa.Text))
orders = sa.Table(
    "orders",
    metadata,
    key(),
    to("customer"),
    sa.Column("number", sa.Integer, order_number, server_default=order_number.next_value()),
    sa.Column("state", state, nullable=False, server_default="new"),
)
order_line = sa.Table("order_line", metadata, key(), to("orders"), to("product"), sa.Column("pieces", sa.Integer))
payment = sa.Table("payment", metadata, key(), to("orders"), sa.Column("amount", sa.Numeric(10, 2)))
review = sa.Table("order", metadata, key(), to("customer"), to("product"), sa.Column("stars", sa.SmallInteger))

#: One that nobody else refers to.
ROWS = 5


def fill(connection: sa.Connection) -> None:
    for table in metadata.sorted_tables:
        for number in range(1, ROWS + 1):
            given = {c.name: 1 for c in table.columns if c.foreign_keys and not c.nullable}
            given.update({c.name: 1 for c in table.columns if c.foreign_keys and c.name != "lead_id" and table.name != "category"})
            connection.execute(table.insert().values(id=number, **given))


def work(connection: sa.Connection) -> None:
    """What an application does all day."""
    inspector = sa.inspect(connection)
    assert inspector.has_table("customer")
    inspector.get_columns("customer")
    inspector.get_foreign_keys("customer")
    connection.execute(sa.select(customer).where(customer.c.id == 1)).all()
    connection.execute(customer.update().where(customer.c.id == 1).values(name="Ana"))
    connection.execute(review.delete().where(review.c.id == ROWS))


def act(connection: sa.Connection, what: str) -> None:
    if what == "create":
        metadata.create_all(connection)
    elif what == "fill":
        fill(connection)
    elif what == "drop":
        metadata.drop_all(connection)
    elif what == "drop-unchecked":
        metadata.drop_all(connection, checkfirst=False)
    elif what == "drop-one":
        payment.drop(connection)
    elif what == "rebuild":
        metadata.drop_all(connection)
        metadata.create_all(connection)
    elif what == "work":
        work(connection)
    else:
        raise SystemExit(f"what is {what}?")


def main(driver: str, *whats: str) -> None:
    url = sa.make_url(os.environ["DATABASE_URL"]).set(drivername=f"postgresql+{driver}")
    if driver != "asyncpg":
        engine = sa.create_engine(url)
        for what in whats:
            with engine.begin() as connection:
                act(connection, what)
        return

    async def asynchronously() -> None:
        engine = create_async_engine(url)
        for what in whats:
            async with engine.begin() as connection:
                await connection.run_sync(act, what)
        await engine.dispose()

    asyncio.run(asynchronously())


if __name__ == "__main__":
    main(*sys.argv[1:])
