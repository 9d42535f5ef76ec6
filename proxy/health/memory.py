"""What is remembered from one check to the next, over restarts: the tables of each database, and those that are missed.

DATA_DIR/health/server.json, and one file for each database. A file that cannot be read is like none: the next look begins anew, and says so.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from urllib.parse import quote

from pydantic import TypeAdapter, ValidationError

from proxy.health.tables import KnownTable


@dataclass(frozen=True, slots=True)
class Missed:
    """A table that went without anybody having said so; `remade`: another one has its name."""

    table: KnownTable
    at: datetime
    remade: bool = False


@dataclass(slots=True)
class DatabaseMemory:
    """Of one database.

    Attributes:
        server: identifies the cluster and the database in it; another one begins anew.
        tables: as they were at `at`.
        missed: until they are back, or somebody accepts it.
    """

    database: str
    server: str = ""
    at: datetime | None = None
    tables: list[KnownTable] = field(default_factory=list)
    missed: list[Missed] = field(default_factory=list)


@dataclass(slots=True)
class ServerMemory:
    """Of the server as a whole.

    Attributes:
        first_at: when it was first looked at.
        databases: their names; missed: those that went without anybody having said so.
    """

    first_at: datetime | None = None
    system: str = ""
    at: datetime | None = None
    databases: list[str] = field(default_factory=list)
    missed: list[tuple[str, datetime]] = field(default_factory=list)


_DATABASE = TypeAdapter(DatabaseMemory)
_SERVER = TypeAdapter(ServerMemory)


class Memory:
    """The files; every method may block, and raises OSError."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def server(self) -> ServerMemory:
        try:
            return _SERVER.validate_json(self._read("server.json"))
        except (ValidationError, FileNotFoundError):
            return ServerMemory()

    def keep_server(self, memory: ServerMemory) -> None:
        self._write("server.json", asdict(memory))

    def database(self, name: str) -> DatabaseMemory:
        try:
            found = _DATABASE.validate_json(self._read(file_name(name)))
        except (ValidationError, FileNotFoundError):
            return DatabaseMemory(name)
        return found if found.database == name else DatabaseMemory(name)

    def knows(self, name: str) -> bool:
        return (self._folder / file_name(name)).exists()

    def keep_database(self, memory: DatabaseMemory) -> None:
        self._write(file_name(memory.database), asdict(memory))

    def forget_database(self, name: str) -> None:
        with suppress(FileNotFoundError):
            (self._folder / file_name(name)).unlink()

    def _read(self, name: str) -> bytes:
        return (self._folder / name).read_bytes()

    def _write(self, name: str, values: dict[str, object]) -> None:
        """All of it or nothing: a half written list would be an alarm."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        part = self._folder / f".{name}.part"
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            json.dump(values, file, ensure_ascii=False, default=datetime.isoformat)
            file.flush()
            os.fsync(file.fileno())
        part.replace(self._folder / name)


def file_name(database: str) -> str:
    """Of a database, whatever it is called."""
    return f"database-{quote(database, safe='')}.json"
