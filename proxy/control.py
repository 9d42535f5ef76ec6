"""Connections of pghold's own to the server: to see what a statement would destroy, to copy it, to put it back.

They never pass through the proxy. Their credentials are the setting `control`; without it those of the upstream URL; without a user there,
the held session's own role and no password, which works where the server trusts it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import psycopg
from psycopg import AsyncConnection
from psycopg.conninfo import make_conninfo
from psycopg.rows import TupleRow

from proxy.config import Upstream

#: How pghold shows in pg_stat_activity.
APPLICATION_NAME: Final = "pghold"

#: How long a look of ours may wait for a lock while it has others. A session that waits for one of those looks for a deadlock after
#: deadlock_timeout (1 s), and would be the one that is ended: ours gives up long before (runtime-config-locks.html#GUC-DEADLOCK-TIMEOUT).
YIELDS_S: Final = 0.2


class ControlError(Exception):
    """The server refused a connection of our own, or what was asked on it. The message is for people, without credentials."""


class Control:
    """Opens connections of pghold's own.

    Attributes:
        place: host, port, TLS and credentials.
        has_credentials: a user was given; else the role of whoever it is for is taken.
    """

    def __init__(self, place: Upstream, connect_timeout_s: float) -> None:
        self.place = place
        self.has_credentials = bool(place.user)
        self._connect_timeout_s = connect_timeout_s

    def conninfo(self, database: str = "", *, role: str = "") -> str:
        """For libpq (libpq-connect.html#LIBPQ-PARAMKEYWORDS); has the password in it, so it is never logged and never an argument of a process."""
        place = self.place
        values: dict[str, str | int] = {
            "host": place.host,
            "port": place.port,
            "user": place.user or role or "postgres",
            "dbname": database or place.database or "postgres",
            "application_name": APPLICATION_NAME,
            "connect_timeout": max(2, round(self._connect_timeout_s)),
            "client_encoding": "UTF8",
        }
        if not place.host.startswith("/"):
            values["sslmode"] = place.sslmode
        for key in ("password", "sslrootcert", "sslcert", "sslkey"):
            if value := getattr(place, key):
                values[key] = value
        return make_conninfo(**values)  # type: ignore[arg-type]  # all are libpq's

    def environment(self, database: str = "", *, role: str = "") -> dict[str, str]:
        """The same as libpq's environment variables, for pg_dump, pg_restore and psql (libpq-envars.html)."""
        place = self.place
        values = {
            "PGHOST": place.host,
            "PGPORT": str(place.port),
            "PGUSER": place.user or role or "postgres",
            "PGDATABASE": database or place.database or "postgres",
            "PGAPPNAME": APPLICATION_NAME,
            "PGCONNECT_TIMEOUT": str(max(2, round(self._connect_timeout_s))),
            "PGCLIENTENCODING": "UTF8",
        }
        if not place.host.startswith("/"):
            values["PGSSLMODE"] = place.sslmode
        for variable, key in (
            ("PGPASSWORD", "password"),
            ("PGSSLROOTCERT", "sslrootcert"),
            ("PGSSLCERT", "sslcert"),
            ("PGSSLKEY", "sslkey"),
        ):
            if value := getattr(place, key):
                values[variable] = value
        return values

    @asynccontextmanager
    async def connection(
        self, database: str = "", *, role: str = "", statement_timeout_s: float = 60.0, lock_timeout_s: float = 5.0, read_only: bool = True
    ) -> AsyncIterator[AsyncConnection[TupleRow]]:
        """An autocommit connection with an empty search_path, closed at the end. Raises ControlError."""
        try:
            connection = await AsyncConnection.connect(self.conninfo(database, role=role), autocommit=True)
        except psycopg.Error as error:
            missing = "" if self.has_credentials else "; pghold has no credentials of its own: set control"
            raise ControlError(
                f"pghold could not connect to database {database or self.place.database!r}: {first_line(error)}{missing}"
            ) from None
        try:
            await connection.execute(
                "SELECT set_config('search_path', '', false), set_config('statement_timeout', %s, false), set_config('lock_timeout', %s, false),"
                " set_config('default_transaction_read_only', %s, false), set_config('row_security', 'off', false)",
                (f"{statement_timeout_s:.0f}s", f"{lock_timeout_s:.3f}s", "on" if read_only else "off"),
            )
            yield connection
        except psycopg.Error as error:
            raise ControlError(first_line(error)) from error
        finally:
            await connection.close()


def first_line(error: BaseException) -> str:
    """Of the server's or libpq's message."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
