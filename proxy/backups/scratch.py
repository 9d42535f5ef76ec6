"""Where copies are proven: a PostgreSQL of our own, or one named for it, in which each proof gets a database that is dropped afterwards.

Ours is an embedded PostgreSQL 18 under DATA_DIR/scratch, made anew at its first use and kept until the proxy stops; what one that was killed left
behind is ended and removed then. It listens on a Unix socket only, in a folder that nobody else may enter, since the copies in it are real data.
Archives are restored by a role that is no superuser there: what is in them are other people's functions, and a superuser's could reach the machine.

A server that is named (`scratch`) is only asked for databases, named pghold_scratch_…; its role restores, and what was left behind is dropped at
first use.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psycopg
from psycopg import sql

from proxy.config import Upstream
from proxy.control import Control, ControlError, first_line
from proxy.embedded import USER, EmbeddedPostgres
from proxy.errors import ConfigError

PREFIX: Final = "pghold_scratch_"
#: Who restores in the embedded one.
ROLE: Final = "pghold_restore"
_TRIES: Final = 3
#: Nothing in it outlives the machine, and it is used by one proof at a time or two.
_OPTIONS: Final = (
    "fsync=off", "full_page_writes=off", "synchronous_commit=off", "wal_level=minimal", "max_wal_senders=0", "max_wal_size=2GB",
    "autovacuum=off", "max_connections=100", "shared_buffers=64MB", "maintenance_work_mem=128MB", "listen_addresses=", "archive_mode=off",
    "max_worker_processes=4", "logging_collector=off",
)  # fmt: skip


class ScratchError(Exception):
    """There is no place to prove a copy in. The message is for people."""


@dataclass(frozen=True, slots=True)
class ScratchDatabase:
    """A database that is gone after the proof.

    Attributes:
        reader: connects as who may read everything in it.
        environment: for pg_restore.
    """

    name: str
    reader: Control
    environment: dict[str, str]


class Scratch:
    """Databases to prove copies in."""

    def __init__(self, folder: Path, url: str = "", connect_timeout_s: float = 10.0) -> None:
        self._folder = folder
        self._named = Control(Upstream.from_url(url), connect_timeout_s) if url else None
        self._own: _OwnServer | None = None
        self._lock = asyncio.Lock()
        self._is_swept = False
        # Of this data directory, which only one process uses: others may have databases on the same server.
        owner = hashlib.sha256(f"{socket.gethostname()}:{folder.resolve()}".encode()).hexdigest()[:12]
        self._prefix = f"{PREFIX}{owner}_"

    @property
    def is_embedded(self) -> bool:
        return self._named is None

    async def start(self) -> None:
        """Ahead of the first proof, which need not wait for it then. Raises ScratchError."""
        await self._control()

    @asynccontextmanager
    async def database(self, encoding: str = "UTF8", extensions: tuple[str, ...] = ()) -> AsyncIterator[ScratchDatabase]:
        """A new, empty one. `extensions` are made ahead where they are installed. Raises ScratchError."""
        control = await self._control()
        name = f"{self._prefix}{secrets.token_hex(6)}"
        role = ROLE if self.is_embedded else ""
        create = sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING {} LC_COLLATE 'C' LC_CTYPE 'C'").format(
            sql.Identifier(name), sql.Literal(encoding)
        )
        if encoding == "UTF8" and self.is_embedded:
            create = sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8'").format(sql.Identifier(name))
        try:
            async with control.connection("postgres", read_only=False) as connection:
                await connection.execute(create + sql.SQL(" OWNER {}").format(sql.Identifier(role)) if role else create)
        except ControlError as error:
            raise ScratchError(f"no scratch database: {error}") from None
        try:
            with suppress(ControlError):
                async with control.connection(name, read_only=False) as connection:
                    for extension in extensions:
                        with suppress(psycopg.Error):  # what cannot be made shows when it is missed
                            await connection.execute(sql.SQL("CREATE EXTENSION IF NOT EXISTS {} CASCADE").format(sql.Identifier(extension)))
            environment = control.environment(name)
            yield ScratchDatabase(name, control, {**environment, "PGUSER": role} if role else environment)
        finally:
            await asyncio.shield(self._drop(control, name))

    async def _drop(self, control: Control, name: str) -> None:
        # Left behind where it fails; the next start drops it.
        with suppress(ControlError):
            async with control.connection("postgres", read_only=False) as connection:
                await connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    async def _control(self) -> Control:
        async with self._lock:
            if self._named is not None:
                if not self._is_swept:
                    await self._sweep(self._named)
                    self._is_swept = True
                return self._named
            if self._own is None or not self._own.is_alive:
                if self._own is not None:
                    await asyncio.to_thread(self._own.stop)
                own = _OwnServer(self._folder)
                self._own = own
                # Not given up half-way: a server that nobody knows of would stay.
                await asyncio.shield(asyncio.to_thread(own.start))
            return self._own.control

    async def _sweep(self, control: Control) -> None:
        """What a process that was killed left behind. Raises ScratchError."""
        try:
            async with control.connection("postgres", read_only=False) as connection:
                cursor = await connection.execute(
                    "SELECT datname FROM pg_catalog.pg_database WHERE pg_catalog.starts_with(datname::pg_catalog.text, %s)", (self._prefix,)
                )
                for (name,) in await cursor.fetchall():
                    with suppress(psycopg.Error):
                        await connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
        except ControlError as error:
            raise ScratchError(f"the scratch server: {error}") from None

    async def stop(self) -> None:
        """End our server and remove all of it."""
        async with self._lock:
            if self._own is not None:
                await asyncio.to_thread(self._own.stop)
                self._own = None


class _OwnServer:
    """The embedded one."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._data = folder / "data"
        self._socket: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._base = EmbeddedPostgres(folder)
        self.control = Control(Upstream(password=""), 10)

    @property
    def is_alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Raises ScratchError."""
        try:
            self._clean()
            self._folder.mkdir(parents=True, exist_ok=True)
            user = self._base.prepare()
            self._base.initialize()
            # Its own folder: the path of a socket has at most 107 bytes.
            self._socket = Path(tempfile.mkdtemp(prefix="pghold-scratch-"))
            if user is not None:
                os.chown(self._socket, pwd.getpwnam(user).pw_uid, -1)
            self._process = self._base.launch(5432, f"unix_socket_directories={self._socket}", *_OPTIONS)
            self.control = Control(Upstream(host=str(self._socket), port=5432, user=USER, password="", database="postgres"), 10)
            self._wait()
        except ConfigError as error:
            self.stop()
            raise ScratchError(f"the scratch database does not start: {error}") from None
        except (OSError, psycopg.Error) as error:
            self.stop()
            raise ScratchError(f"the scratch database does not start: {first_line(error)}") from None

    def _wait(self) -> None:
        assert self._process is not None
        for _ in range(600):
            if self._process.poll() is not None:
                raise ScratchError(f"the scratch database does not start; see {self._folder / 'log'}")
            try:
                with psycopg.connect(self.control.conninfo("postgres"), autocommit=True) as connection:
                    connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(ROLE)))
                return
            except psycopg.OperationalError:
                with suppress(subprocess.TimeoutExpired):
                    self._process.wait(0.05)
        raise ScratchError("the scratch database does not answer")

    def _clean(self) -> None:
        """What a process that was killed left: its server still runs."""
        try:
            lines = (self._data / "postmaster.pid").read_text().splitlines()
            pid, place = int(lines[0]), Path(lines[4])
        except (OSError, ValueError, IndexError):
            pid, place = 0, None
        if pid > 1 and _is_postgres_on(pid, self._data):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGQUIT)
            _gone(pid)
        if place is not None and place.name.startswith("pghold-scratch-"):
            shutil.rmtree(place, ignore_errors=True)
        shutil.rmtree(self._folder, ignore_errors=True)

    def stop(self) -> None:
        process = self._process
        if process is not None and process.poll() is None:
            # Nothing in it is wanted any more: it need not shut down in order (server-shutdown.html).
            process.send_signal(signal.SIGQUIT)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if self._socket is not None:
            shutil.rmtree(self._socket, ignore_errors=True)
        shutil.rmtree(self._folder, ignore_errors=True)


def _is_postgres_on(pid: int, data: Path) -> bool:
    try:
        parts = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return str(data).encode() in parts


def _gone(pid: int) -> None:
    """Wait for its end, ten seconds at most."""
    for _ in range(200):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return
        if state == "Z":
            return
        time.sleep(0.05)
