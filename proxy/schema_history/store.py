"""Where versions are kept: DATA_DIR/schema/DATABASE/, an index and one compressed file for each different schema.

A file's name is the digest of what is in it, so a schema that comes back takes no more room. Every method may block, and raises OSError.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote

from pydantic import TypeAdapter, ValidationError

from proxy.schema_history.model import SchemaObject, SchemaVersion

KEEP: Final = 1000
_VERSIONS: Final = TypeAdapter(list[SchemaVersion])
_PENDING: Final = TypeAdapter(dict[str, dict[str, list[str] | list[int]]])
_OBJECTS: Final = TypeAdapter(list[SchemaObject])


class UnknownVersionError(LookupError):
    """No such database or version is kept. The message is for people."""


class SchemaStore:
    """All databases'."""

    def __init__(self, folder: Path, keep: int = KEEP) -> None:
        self._folder = folder
        self._keep = keep

    def databases(self) -> list[str]:
        """Those with a version."""
        try:
            return sorted(unquote(p.name) for p in self._folder.iterdir() if (p / "index.json").exists())
        except FileNotFoundError:
            return []

    def versions(self, database: str) -> list[SchemaVersion]:
        """Oldest first; empty when there are none."""
        try:
            return _VERSIONS.validate_json((self._place(database) / "index.json").read_bytes())
        except FileNotFoundError:
            return []
        except ValidationError:
            raise OSError(0, f"{self._place(database) / 'index.json'} cannot be read as a list of versions") from None

    def version(self, database: str, number: int) -> SchemaVersion:
        """Raises UnknownVersionError."""
        for version in self.versions(database):
            if version.number == number:
                return version
        raise UnknownVersionError(f"there is no version {number} of the schema of {database}")

    def objects(self, database: str, version: SchemaVersion) -> list[SchemaObject]:
        """Raises UnknownVersionError when its file is gone or was changed."""
        path = self._file(database, version.digest)
        try:
            content = gzip.decompress(path.read_bytes())
        except (FileNotFoundError, EOFError, gzip.BadGzipFile):
            raise UnknownVersionError(f"the file of version {version.number} of {database} is not there, or damaged") from None
        if hashlib.sha256(content).hexdigest() != version.digest:
            raise UnknownVersionError(f"the file of version {version.number} of {database} was changed")
        return _OBJECTS.validate_json(content)

    def add(self, database: str, found: list[SchemaObject], version: SchemaVersion) -> SchemaVersion:
        """Keep one more; its number and digest are set here. The index is written last, so that it names only what is there."""
        content = encoded(found)
        digest = hashlib.sha256(content).hexdigest()
        versions = self.versions(database)
        number = versions[-1].number + 1 if versions else 1
        kept = replace(version, number=number, digest=digest, objects=len(found))
        place = self._place(database)
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._file(database, digest)
        if not path.exists():
            _write(path, gzip.compress(content, mtime=0))
        versions.append(kept)
        gone, versions = versions[: -self._keep], versions[-self._keep :]
        _write(place / "index.json", _index(versions))
        needed = {v.digest for v in versions}
        for old in gone:
            if old.digest not in needed:
                with suppress(FileNotFoundError):
                    self._file(database, old.digest).unlink()
        return kept

    def accept(self, database: str, number: int, operator: str) -> None:
        """Its drift is on purpose."""
        versions = [replace(v, accepted_by=operator) if v.number == number else v for v in self.versions(database)]
        _write(self._place(database) / "index.json", _index(versions))

    def keep_pending(self, pending: dict[str, dict[str, list[str] | list[int]]]) -> None:
        """What passed and is in no version yet, so that a restart does not make it drift. Small, and not flushed: it is written on the loop."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        part = self._folder / ".pending.json.part"
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            json.dump(pending, file)
        part.replace(self._folder / "pending.json")

    def pending(self) -> dict[str, dict[str, list[str] | list[int]]]:
        try:
            return _PENDING.validate_json((self._folder / "pending.json").read_bytes())
        except (FileNotFoundError, ValidationError):
            return {}

    def _place(self, database: str) -> Path:
        return self._folder / quote(database, safe="").replace(".", "%2E")

    def _file(self, database: str, digest: str) -> Path:
        return self._place(database) / f"{digest}.json.gz"


def _index(versions: list[SchemaVersion]) -> bytes:
    return json.dumps([asdict(v) for v in versions], ensure_ascii=False, default=datetime.isoformat).encode("utf-8", "backslashreplace")


def encoded(found: list[SchemaObject]) -> bytes:
    """What is kept and what the digest is of."""
    return json.dumps([asdict(o) for o in found], ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")


def digest_of(found: list[SchemaObject]) -> str:
    return hashlib.sha256(encoded(found)).hexdigest()


def _write(path: Path, content: bytes) -> None:
    part = path.with_name(f".{path.name}.part")
    with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
