"""A small company's database, the people who decide, and statements that wait: what tests and the pictures in the docs look at."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from tests.browsing import Browser as Http
from tests.browsing import Client
from tests.servers import Pghold, PostgresServer, wait_for

TABLES = ("Cards", "Users", "Orders", "Invoices", "Sessions", "Coupons", "Reviews", "Carts")


def operator(admin: Http, name: str, role: str = "approver", **fields: str) -> str:
    """Add somebody; return the token."""
    answer = admin.post("/people/add", name=name, role=role, **fields)
    found = re.search(r'id="secret">([^<]+)<', answer.text)
    assert found is not None, admin.problem(answer)
    return found[1]


def held(pghold: Pghold, script: str, **options: str) -> tuple[Client, int]:
    """A client whose statement waits, and the hold's id."""
    before = {h["id"] for h in pghold.holds()}
    client = Client(pghold, script, **options)
    wait_for(lambda: {h["id"] for h in pghold.holds()} - before, 10)
    return client, max({h["id"] for h in pghold.holds()} - before)


def build(server: PostgresServer) -> None:
    """The tables, with some rows."""
    for name in TABLES:
        server.sql(f'CREATE TABLE IF NOT EXISTS "{name}" AS SELECT g AS id, now() AS created_at FROM generate_series(1, 500) g')
    server.sql('CREATE TABLE IF NOT EXISTS "Payments" AS SELECT g AS id, g % 7 AS tenant FROM generate_series(1, 900) g')


@contextmanager
def waiting(pghold: Pghold, *scripts: tuple[str, dict[str, str]]) -> Iterator[list[int]]:
    """Statements that wait; whatever still does at the end is denied."""
    clients: list[Client] = []
    ids: list[int] = []
    try:
        for script, options in scripts:
            client, hold_id = held(pghold, script, **options)
            clients.append(client)
            ids.append(hold_id)
        yield ids
    finally:
        for hold in pghold.holds():
            pghold.deny(hold["id"], "the test is over")
        for client in clients:
            client.join(10)
