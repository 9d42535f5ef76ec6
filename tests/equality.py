"""Whether two databases are equal: by pg_dump (schema and data), and by checksums of what the tables hold."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import psycopg

from proxy.backups.checksums import large_objects_checksum, table_checksum
from proxy.embedded import bindir
from tests.servers import PostgresServer

ZOO = Path(__file__).parent / "zoo.sql"

#: Lines that differ from run to run, or with the versions.
_NOISE = re.compile(r"^(-- (Dumped|Started|Completed)|\\(un)?restrict |SET transaction_timeout)")


def load_zoo(server: PostgresServer, database: str) -> None:
    """The zoo in a new database."""
    server.sql(f'DROP DATABASE IF EXISTS "{database}" WITH (FORCE)')
    server.sql(f'CREATE DATABASE "{database}" TEMPLATE template0 ENCODING UTF8')
    with server.connect(database) as connection:
        connection.execute(ZOO.read_bytes())


def dump_of(server: PostgresServer, database: str, *options: str) -> str:
    """What pg_dump says of it, without what differs from run to run; the lines of each table's data are sorted, since a table has no order."""
    done = subprocess.run(
        [str(bindir() / "pg_dump"), "-h", "127.0.0.1", "-p", str(server.port), "-U", "postgres", *options, "-d", database],
        check=True, capture_output=True, env={**os.environ, "PGCLIENTENCODING": "UTF8"},
    )  # fmt: skip
    lines: list[str] = []
    data: list[str] | None = None
    for line in done.stdout.decode().split("\n"):
        if data is not None:
            if line == "\\.":
                lines += [*sorted(data), line]
                data = None
            else:
                data.append(line)
        elif not _NOISE.match(line):
            lines.append(line)
            if line.startswith("COPY ") and line.endswith("FROM stdin;"):
                data = []
    return "\n".join(lines)


async def checksums_of(server: PostgresServer, database: str) -> dict[str, tuple[int, str]]:
    """Rows and checksum of every table, sequence and materialized view, by quoted name, and of all large objects."""
    connection: psycopg.AsyncConnection[Any] = await psycopg.AsyncConnection.connect(
        host="127.0.0.1", port=server.port, user="postgres", dbname=database, autocommit=True
    )
    async with connection:
        cursor = await connection.execute(
            "SELECT format('%I.%I', nspname, relname) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace "
            "WHERE relkind IN ('r', 'p', 'm', 'S') AND nspname !~ '^pg_' AND nspname <> 'information_schema' ORDER BY 1"
        )
        found = {row[0]: await table_checksum(connection, row[0]) for row in await cursor.fetchall()}
        return {**found, "large objects": await large_objects_checksum(connection)}


async def assert_equal(left: tuple[PostgresServer, str], right: tuple[PostgresServer, str]) -> None:
    """Two databases, by both."""
    assert await checksums_of(*left) == await checksums_of(*right)
    assert dump_of(*left) == dump_of(*right)
