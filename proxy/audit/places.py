"""Second places for checkpoints: a file, a webhook, a PostgreSQL table. Each is fed from the local file, as sinks are from the log."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final, LiteralString

import httpx
import psycopg

from proxy.audit.checkpoints import append_line, read_checkpoint, read_lines
from proxy.audit.sinks.base import Sink, SinkError
from proxy.audit.sinks.http import Poster
from proxy.audit.sinks.postgresql import Table
from proxy.audit.targets import Target

_TABLE: Final = "pghold_audit_checkpoints"
_COLUMNS: Final[dict[str, LiteralString]] = {
    "log": "text NOT NULL",
    "seq": "bigint NOT NULL",
    "hash": "text NOT NULL",
    "at": "timestamptz NOT NULL",
    "key": "text NOT NULL",
    "line": "text NOT NULL",
}
#: The hash and the key are part of it: a log that was cut and went on is seen by two checkpoints of one position.
_KEY: Final[LiteralString] = "PRIMARY KEY (log, seq, hash, key, at)"
_READ_LIMIT_BYTES: Final = 1 << 30


class PlaceUnreadableError(Exception):
    """Checkpoints cannot be read back from there."""


def make_place(target: Target) -> Sink:
    """Nothing is connected to yet."""
    if target.kind == "file":
        return FilePlace(Path(target.path))
    if target.kind == "postgresql":
        return PostgresPlace(target)
    return WebhookPlace(target)


def read_place(target: Target, log_id: str | None) -> list[bytes]:
    """All checkpoints there: of this log, where the place can tell. Raises PlaceUnreadableError."""
    try:
        if target.kind == "file":
            return read_lines(Path(target.path).read_bytes())
        if target.kind == "postgresql":
            return [line.encode() for line in Table(target, _TABLE, _COLUMNS, _KEY).read(log_id)]
        headers = {"Authorization": target.authorization} if target.authorization else {}
        answer = httpx.get(target.url, headers=headers, timeout=30, follow_redirects=False)
        if not answer.is_success:
            raise PlaceUnreadableError(f"{target.name}: HTTP {answer.status_code}")
        return [line for line in answer.content.split(b"\n") if line]
    except OSError as error:
        raise PlaceUnreadableError(f"{target.name}: {error.strerror or error}") from None
    except (psycopg.Error, httpx.HTTPError) as error:
        raise PlaceUnreadableError(f"{target.name}: {target.scrubbed(str(error))}") from None


class FilePlace:
    """Append-only JSON Lines, flushed; better on another machine's file system."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def deliver(self, log_id: str, lines: Sequence[bytes]) -> None:
        try:
            for line in lines:
                append_line(self._path, line)
        except OSError as error:
            raise SinkError(f"{error.strerror or error}") from None

    def close(self) -> None:
        return


class WebhookPlace:
    """One request for each checkpoint; the body is the line."""

    def __init__(self, target: Target) -> None:
        self._poster = Poster(target)

    def deliver(self, log_id: str, lines: Sequence[bytes]) -> None:
        for line in lines:
            self._poster.post(line.rstrip(b"\n"), {"X-Pghold-Log": log_id})

    def close(self) -> None:
        self._poster.close()


class PostgresPlace:
    def __init__(self, target: Target) -> None:
        self._table = Table(target, _TABLE, _COLUMNS, _KEY)

    def deliver(self, log_id: str, lines: Sequence[bytes]) -> None:
        rows = []
        for line in lines:
            checkpoint = read_checkpoint(line)
            if checkpoint is not None:
                text = line.decode().rstrip("\n")
                rows.append((checkpoint.log, checkpoint.seq, checkpoint.hash, checkpoint.at, checkpoint.key, text))
        self._table.add(rows, log_id, {int(str(r[1])): str(r[2]) for r in rows})

    def close(self) -> None:
        self._table.close()
