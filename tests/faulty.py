"""A proxy with copies whose programs can be stopped in the middle, and what must be true whatever happens to them."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg

from tests.matrix import WAIT_S, Sent, ended
from tests.servers import Pghold, PostgresServer, embedded_bindir, wait_for

DATABASE = "faults"
ROWS = 500


class Programs:
    """pg_dump and pg_restore that can be stopped where they take and prove a copy: a folder for pg_bin.

    A stopped one has done nothing yet ("before") or all of its work ("after"); it says so by a file, and waits for another to go away.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "bin"
        self._gates = folder / "gates"
        self._gates.mkdir(parents=True)
        self.folder.mkdir()
        for program in embedded_bindir().iterdir():
            target = self.folder / program.name
            if program.name not in ("pg_dump", "pg_restore"):
                target.symlink_to(program)
                continue
            gate = self._gates / program.name
            wait = f"[ -e {gate}.%s ] && {{ touch {gate}.reached; while [ -e {gate}.%s ]; do sleep 0.03; done; }}"
            target.write_text(
                "#!/bin/sh\n"
                f'case "$*" in *--snapshot=*|*--dbname=*) ;; *) exec {program} "$@";; esac\n'
                f'{wait.replace("%s", "before")}\n{program} "$@"\ncode=$?\n{wait.replace("%s", "after")}\nexit $code\n'
            )
            target.chmod(0o755)

    def stop(self, program: str, when: str = "before") -> None:
        (self._gates / f"{program}.reached").unlink(missing_ok=True)
        (self._gates / f"{program}.{when}").touch()

    def wait(self, program: str) -> None:
        wait_for((self._gates / f"{program}.reached").exists, WAIT_S)

    def go_on(self) -> None:
        for path in self._gates.iterdir():
            path.unlink()


def children(pid: int, name: str = "") -> list[int]:
    """All descendants of a process that still run, by the program's name or the script's."""
    parents: dict[int, tuple[int, str]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            text = path.read_text()
            program, rest = text[text.index("(") + 1 : text.rindex(")")], text[text.rindex(")") + 2 :].split()
            if rest[0] != "Z":
                parents[int(path.parent.name)] = int(rest[1]), program
    found, layer = [], {pid}
    while layer:
        layer = {p for p, (parent, _) in parents.items() if parent in layer}
        found += [p for p in layer if not name or parents[p][1] == name]
    return found


class Faulty:
    """A proxy, its server, and a table to lose."""

    def __init__(self, server: PostgresServer, folder: Path, **environment: str) -> None:
        self.server = server
        self.programs = Programs(folder)
        settings = {
            "PGHOLD_BACKUP_MIN_FREE_BYTES": "0", "PGHOLD_BACKUP_SCHEDULE": "", "PGHOLD_PG_BIN": str(self.programs.folder),
            "PGHOLD_BACKUP_LOCK_TIMEOUT_S": "3", **environment,
        }  # fmt: skip
        (folder / "proxy").mkdir()
        policy = folder / "pghold.toml"
        policy.write_text('[policy]\nprotected = ["victim"]\n')
        upstream = f"postgresql://postgres@127.0.0.1:{server.port}/{DATABASE}"
        self.proxy = Pghold(upstream, "--policy", str(policy), folder=folder / "proxy", backups=True, environment=settings)

    def send(self, statement: str, *first: str, **options: Any) -> Sent:
        def work(connection: psycopg.Connection[Any]) -> str:
            for text in first:
                connection.execute(text)  # type: ignore[call-overload]
            tag = connection.execute(statement).statusmessage or ""  # type: ignore[call-overload]
            if first and first[0] == "BEGIN":
                connection.execute("COMMIT")
            return tag

        return Sent(self.proxy, DATABASE, work, application_name="the client", **options)

    def approved(self, statement: str = "DROP TABLE victim", *first: str, **body: object) -> tuple[Sent, int]:
        """Sent, held and approved; nobody has waited for what comes then."""
        sent = self.send(statement, *first)
        hold = self.proxy.wait_for_hold()
        answer = self.proxy.http.post(
            f"/api/v1/holds/{hold['id']}/approve", json={"phrase": "YES I UNDERSTAND THE RISKS", "reason": "tested", **body}
        )
        assert answer.status_code == 200, answer.text
        return sent, int(hold["id"])

    def rows(self) -> int:
        return int(self.server.sql("SELECT count(*) FROM public.victim", DATABASE)[0][0])

    def backups(self) -> list[dict[str, Any]]:
        return list(self.proxy.http.get("/api/v1/backups").json())

    def assert_denied(self, sent: Sent, hold_id: int, *words: str) -> None:
        """Refused with a reason, and as if nothing had been asked."""
        sent.done()
        assert isinstance(sent.error, psycopg.errors.InsufficientPrivilege), sent.error
        hold = ended(self.proxy, hold_id)
        assert hold["state"] == "denied", hold
        told = f"{sent.error} {sent.error.diag.message_detail} {hold['outcome']} {hold['backup']}"
        assert any(word in told for word in words), told
        assert any(e["event"] == "unprotected" and e["hold_id"] == hold_id for e in self.proxy.audit())
        self.assert_intact()

    def assert_intact(self) -> None:
        assert self.rows() == ROWS
        self.assert_nothing_left()

    def assert_nothing_left(self) -> None:
        """No program, no lock, no open transaction, no half copy, and no table that cannot be written to."""
        wait_for(lambda: not children(self.proxy.process.pid, "pg_dump") and not children(self.proxy.process.pid, "pg_restore"), WAIT_S)
        own = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'faults' AND xact_start IS NOT NULL AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
        wait_for(lambda: self.server.sql(own) == [(0,)], WAIT_S)
        locks = "SELECT count(*) FROM pg_locks WHERE mode = 'ShareRowExclusiveLock' AND database = (SELECT oid FROM pg_database WHERE datname = 'faults')"
        assert self.server.sql(locks) == [(0,)]
        kept = {b["folder"] for b in self.backups() if b["state"] == "done"}
        folder = self.proxy.folder / "data" / "backups"
        wait_for(lambda: {p.name for p in folder.iterdir() if p.is_dir()} <= kept if folder.is_dir() else True, WAIT_S)

    def assert_protected(self, hold_id: int) -> dict[str, Any]:
        """The table is gone, and a proven copy of all its rows is there."""
        hold = ended(self.proxy, hold_id)
        backup: dict[str, Any] = self.proxy.http.get(f"/api/v1/backups/{hold['backup']['backup_id']}").json()
        assert (backup["state"], backup["proof"]) == ("done", "equal"), backup
        return backup

    def undo(self, hold_id: int) -> dict[str, Any]:
        asked = self.proxy.http.post(f"/api/v1/holds/{hold_id}/undo", json={"reason": "a test"}, timeout=WAIT_S)
        assert asked.status_code == 200, asked.text
        assert self.proxy.approve(asked.json()["id"]).status_code == 200
        return ended(self.proxy, asked.json()["id"])

    def anew(self) -> None:
        """The table, and nothing that waits."""
        self.programs.go_on()
        for hold in self.proxy.holds():
            self.proxy.deny(hold["id"])
        self.server.sql("DROP TABLE IF EXISTS victim, victim_before CASCADE", DATABASE)
        self.server.sql(f"CREATE TABLE victim AS SELECT g AS id, md5(g::text) AS note FROM generate_series(1, {ROWS}) g", DATABASE)


def make_database(server: PostgresServer) -> None:
    if not server.sql(f"SELECT 1 FROM pg_database WHERE datname = '{DATABASE}'"):
        server.sql(f"CREATE DATABASE {DATABASE}")
