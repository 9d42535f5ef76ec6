"""The grants that are said to be missing are those, and giving them is enough."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from proxy.config import Upstream
from proxy.control import Control
from proxy.impact.grants import MissingGrant, missing_grants
from tests.servers import PostgresServer

ROLE = '"o\'dd ""é role"'


@pytest.fixture(params=["postgres18", "postgres_tls"])
def server(request: pytest.FixtureRequest) -> Iterator[PostgresServer]:
    server: PostgresServer = request.getfixturevalue(request.param)
    for text in (
        "DROP DATABASE IF EXISTS granted WITH (FORCE)",
        'DROP DATABASE IF EXISTS "cl""osed"',
        f"DROP ROLE IF EXISTS {ROLE}",
        f"CREATE ROLE {ROLE} LOGIN PASSWORD 'secret'",
        "CREATE DATABASE granted",
        'CREATE DATABASE "cl""osed"',
        'REVOKE CONNECT ON DATABASE "cl""osed" FROM PUBLIC',
    ):
        server.sql(text)
    server.sql(
        "CREATE SCHEMA s; CREATE TABLE s.t (id int); CREATE TABLE s.own (id int); ALTER TABLE s.own ENABLE ROW LEVEL SECURITY", "granted"
    )
    yield server
    for text in ("DROP DATABASE granted WITH (FORCE)", 'DROP DATABASE "cl""osed"', f"DROP OWNED BY {ROLE}", f"DROP ROLE {ROLE}"):
        server.sql(text)


def ask(server: PostgresServer, user: str) -> list[MissingGrant]:
    async def missing() -> list[MissingGrant]:
        place = Upstream(host=str(server.folder), port=server.port, user=user, password="secret", database="granted")
        async with Control(place, 5).connection() as link:
            return await missing_grants(link)

    return asyncio.run(missing())


def test_each_missing_grant_is_named_and_its_statement_gives_it(server: PostgresServer) -> None:
    role = "o'dd \"é role"
    missing = ask(server, role)
    assert [m.what for m in missing] == [
        'CONNECT on database "cl""osed"',
        "membership in pg_read_all_data",
        "membership in pg_read_all_stats",
        "BYPASSRLS",
        "EXECUTE on pg_create_restore_point",
    ]
    for number, one in enumerate(missing, 1):
        server.sql(one.sql, "granted")
        assert ask(server, role) == missing[number:]


def test_a_superuser_needs_none(server: PostgresServer) -> None:
    assert ask(server, "postgres") == []
