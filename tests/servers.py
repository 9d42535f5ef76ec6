"""Real servers for tests: PostgreSQL 18 (embedded), PostgreSQL with TLS (Debian's), and pghold itself as a process."""

from __future__ import annotations

import glob
import json
import os
import pwd
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import psycopg

from proxy.embedded import bindir


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def unprivileged() -> str | None:
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            pwd.getpwnam(name)
        except KeyError:
            continue
        return name
    raise RuntimeError("no user to run PostgreSQL as")


def debian_bindir() -> Path:
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin"))
    if not found:
        raise RuntimeError("no PostgreSQL with TLS is installed: apt-get install postgresql")
    return Path(found[-1])


class PostgresServer:
    """A throwaway cluster on a free loopback port, stopped by its process id."""

    def __init__(self, folder: Path, programs: Path, *options: str, hba: str = "host all all 127.0.0.1/32 trust\n") -> None:
        self.folder = folder
        self.bindir = programs
        self.port = free_port()
        self._user = unprivileged()
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o755)
        if self._user is not None:
            entry = pwd.getpwnam(self._user)
            os.chown(folder, entry.pw_uid, entry.pw_gid)
        self._data = folder / "data"
        self._run("initdb", "-D", str(self._data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync", "--locale=C.UTF-8")
        (self._data / "pg_hba.conf").write_text(f"local all all trust\n{hba}")
        for name in ("server.crt", "server.key"):
            if (folder / name).exists() and self._user is not None:
                os.chown(folder / name, entry.pw_uid, entry.pw_gid)
        settings = ["fsync=off", "max_connections=1200", "listen_addresses=127.0.0.1", f"unix_socket_directories={folder}", *options]
        self._arguments = [str(programs / "postgres"), "-D", str(self._data), "-p", str(self.port)]
        for setting in settings:
            self._arguments += ["-c", setting]
        self.start()

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run([str(self.bindir / program), *arguments], check=True, capture_output=True, user=self._user, cwd="/")

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(self._arguments, stdout=log, stderr=log, user=self._user, start_new_session=True)
        wait_for(self._answers, 30)

    def _answers(self) -> bool:
        try:
            psycopg.connect(host="127.0.0.1", port=self.port, user="postgres", dbname="postgres", connect_timeout=2).close()
        except psycopg.OperationalError as error:
            return "password" in str(error) or "pg_hba" in str(error)
        return True

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        self._process.send_signal(how)
        self._process.wait(30)

    def connect(self, dbname: str = "postgres", **options: Any) -> psycopg.Connection[Any]:
        return psycopg.connect(host=str(self.folder), port=self.port, user="postgres", dbname=dbname, autocommit=True, **options)

    def sql(self, text: str, dbname: str = "postgres") -> list[Any]:
        with self.connect(dbname) as connection:
            cursor = connection.execute(text)  # type: ignore[call-overload]
            return cursor.fetchall() if cursor.description else []


class Pghold:
    """`pghold run` as a process of its own. Copies are off unless asked for: they have tests of their own."""

    def __init__(
        self, upstream: str, *options: str, folder: Path | None = None, environment: dict[str, str] | None = None, backups: bool = False
    ) -> None:
        self.folder = folder or Path(tempfile.mkdtemp(prefix="pghold-test-"))
        self.log = self.folder / "stderr.log"
        self._command = [
            sys.executable, "-m", "proxy", "run", "--upstream", upstream, "--listen", "127.0.0.1:0", "--console", "127.0.0.1:0",
            "--data-dir", str(self.folder / "data"), *options,
        ]  # fmt: skip
        schedule = {} if backups else {"PGHOLD_BACKUP_SCHEDULE": ""}
        self._environment = {**os.environ, "DB_BACKUP_BEFORE_DANGER": str(backups).lower(), **schedule, **(environment or {})}
        self.start()

    def start(self) -> None:
        with self.log.open("ab") as log:
            offset = log.tell()
            self.process = subprocess.Popen(self._command, stderr=log, stdout=log, env=self._environment)

        def ready() -> bool:
            return b"pghold ready" in self.log.read_bytes()[offset:] or self.process.poll() is not None

        wait_for(ready, 30)
        if self.process.poll() is not None:
            raise RuntimeError(f"exit code {self.process.returncode}: {self.log.read_text()[-2000:]}")
        line = next(x for x in self.log.read_bytes()[offset:].decode().splitlines() if x.startswith("pghold ready"))
        listen, console = (part.partition("=")[2] for part in line.split()[2:4])
        self.port = int(listen.rpartition(":")[2])
        self.console = console
        self.token = (self.folder / "data" / "operator.token").read_text().strip()
        self.http = httpx.Client(base_url=console, headers={"Authorization": f"Bearer {self.token}"}, trust_env=False, timeout=20)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(how)
        code = self.process.wait(60)
        self.http.close()
        return code

    # --- as an operator -----------------------------------------------------------------------------------------

    def holds(self, state: str = "pending") -> list[dict[str, Any]]:
        response = self.http.get("/api/v1/holds", params={"state": state})
        assert response.status_code == 200, response.text
        return list(response.json())

    def wait_for_hold(self) -> dict[str, Any]:
        wait_for(lambda: bool(self.holds()), 10)
        return self.holds()[0]

    def approve(self, hold_id: int, reason: str = "tested") -> httpx.Response:
        return self.http.post(f"/api/v1/holds/{hold_id}/approve", json={"phrase": "YES I UNDERSTAND THE RISKS", "reason": reason})

    def deny(self, hold_id: int, reason: str = "not now") -> httpx.Response:
        return self.http.post(f"/api/v1/holds/{hold_id}/deny", json={"reason": reason})

    def hold(self, hold_id: int) -> dict[str, Any]:
        return dict(self.http.get(f"/api/v1/holds/{hold_id}").json())

    def wait_for_state(self, hold_id: int, *states: str) -> dict[str, Any]:
        wait_for(lambda: self.hold(hold_id)["state"] in states, 10)
        return self.hold(hold_id)

    def audit(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / "data" / "audit.jsonl").read_text().splitlines()]

    def metric(self, name: str) -> float:
        """The sum over all labels."""
        lines = self.http.get("/metrics").text.splitlines()
        return sum(float(x.rpartition(" ")[2]) for x in lines if x.startswith(name) and (x[len(name)] in " {"))

    def connect(self, dbname: str = "postgres", **options: Any) -> psycopg.Connection[Any]:
        given: dict[str, Any] = {"user": "postgres", **options}
        return psycopg.connect(host="127.0.0.1", port=self.port, dbname=dbname, autocommit=True, **given)


def wait_for(condition: Any, timeout_s: float) -> None:
    """Poll a condition; a test must not sleep for a guess."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("waited in vain")
        time.sleep(0.02)


def embedded_bindir() -> Path:
    return bindir()
