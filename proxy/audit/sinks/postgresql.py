"""A table in a PostgreSQL database. A record that comes again is not written again; one that differs from what is there is an error."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final, LiteralString

import psycopg
from psycopg import sql

from proxy.audit.chain import Record, read_record
from proxy.audit.sinks.base import SinkError
from proxy.audit.targets import Target

_TABLE: Final = "pghold_audit"
_COLUMNS: Final[dict[str, LiteralString]] = {
    "log": "text NOT NULL",
    "seq": "bigint NOT NULL",
    "at": "timestamptz NOT NULL",
    "event": "text NOT NULL",
    "hold_id": "bigint",
    "role": "text",
    "database": "text",
    "operator": "text",
    "reason": "text",
    "hash": "text NOT NULL",
    # Not jsonb: the hash is over the text as it is.
    "record": "json NOT NULL",
}
_KEY: Final[LiteralString] = "PRIMARY KEY (log, seq)"


class PostgresSink:
    def __init__(self, target: Target) -> None:
        self._table = Table(target, _TABLE, _COLUMNS, _KEY)

    def deliver(self, log_id: str, lines: Sequence[bytes]) -> None:
        records = [read_record(line) or {} for line in lines]
        hashes = {int(str(r["seq"])): str(r["hash"]) for r in records}
        rows = [_row(log_id, record, line.decode().rstrip("\n")) for record, line in zip(records, lines, strict=True)]
        try:
            self._table.add(rows, log_id, hashes)
        except UnfitTextError:
            # A database whose encoding lacks some of the letters; JSON can do without them.
            self._table.add([_row(log_id, record, json.dumps(record), ascii_only=True) for record in records], log_id, hashes)

    def close(self) -> None:
        self._table.close()


def _row(log_id: str, record: Record, text: str, ascii_only: bool = False) -> tuple[object, ...]:
    values = (record.get(name) for name in list(_COLUMNS)[1:-1])
    return (log_id, *(_column(v, ascii_only) if isinstance(v, str) else v for v in values), text)


def _column(text: str, ascii_only: bool) -> str:
    text = text.replace("\0", "\\0")
    return text.encode("ascii", "backslashreplace").decode() if ascii_only else text


class UnfitTextError(SinkError):
    """The database cannot hold some character."""


class Table:
    """A table with the columns `log`, `seq` and `hash` among others, made when it is missing. One connection, made anew after a failure."""

    def __init__(self, target: Target, name: str, columns: dict[str, LiteralString], key: LiteralString) -> None:
        self._target = target
        self._name = target.table or name
        self._columns = columns
        self._key = key
        self._link: psycopg.Connection[Any] | None = None

    @property
    def _identifier(self) -> sql.Identifier:
        return sql.Identifier(*self._name.split("."))

    def add(self, rows: Sequence[tuple[object, ...]], log_id: str, hashes: dict[int, str]) -> None:
        """Raises SinkError."""
        try:
            link = self._link = self._link or self._connect()
            names = sql.SQL(", ").join(map(sql.Identifier, self._columns))
            places = sql.SQL(", ").join(sql.Placeholder() * len(self._columns))
            insert = sql.SQL("INSERT INTO {} ({}) VALUES ({}) ON CONFLICT DO NOTHING").format(self._identifier, names, places)
            with link.transaction(), link.cursor() as cursor:
                cursor.executemany(insert, rows)
                if cursor.rowcount == len(rows):
                    return
                find = sql.SQL("SELECT seq, hash FROM {} WHERE log = %s AND seq = ANY(%s)").format(self._identifier)
                others = [s for s, h in cursor.execute(find, (log_id, list(hashes))) if h != hashes[s]]
        except psycopg.errors.UntranslatableCharacter as error:
            raise UnfitTextError(self._target.scrubbed(f"{error}")) from None
        except (psycopg.Error, OSError) as error:
            self.close()
            raise SinkError(self._target.scrubbed(f"{error}")) from None
        if others:
            raise SinkError(f"another record {min(others)} of this log is there already: one of the two was changed")

    def _connect(self) -> psycopg.Connection[Any]:
        link = psycopg.connect(
            self._target.url,
            autocommit=True,
            connect_timeout=10,
            application_name="pghold audit",
            client_encoding="UTF8",
            options="-c statement_timeout=30s -c search_path=public",
        )
        try:
            found = link.execute("SELECT to_regclass(%s)", (self._identifier.as_string(link),)).fetchone()
            if found is None or found[0] is None:
                columns = sql.SQL(", ").join(sql.SQL("{} ").format(sql.Identifier(n)) + sql.SQL(t) for n, t in self._columns.items())
                link.execute(sql.SQL("CREATE TABLE IF NOT EXISTS {} ({}, {})").format(self._identifier, columns, sql.SQL(self._key)))
        except BaseException:
            link.close()
            raise
        return link

    def read(self, log_id: str | None) -> list[str]:
        """The column `line` of all rows, in order. Raises psycopg.Error."""
        with self._connect() as link:
            where = sql.SQL("WHERE log = %s") if log_id else sql.SQL("")
            query = sql.SQL("SELECT line FROM {} {} ORDER BY seq, at").format(self._identifier, where)
            return [str(line) for (line,) in link.execute(query, (log_id,) if log_id else ())]

    def close(self) -> None:
        if self._link is not None:
            self._link.close()
            self._link = None
