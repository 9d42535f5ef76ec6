"""A primary and its standby by streaming replication: lag, slots, a replica that goes, a proxy in front of either."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.test_health import begin, check, wait_for_check
from tests.servers import PostgresServer, embedded_bindir, free_port, unprivileged, wait_for

HBA = "host all all 127.0.0.1/32 trust\nhost replication all 127.0.0.1/32 trust\n"


class Standby:
    """Of a running server, by pg_basebackup; as that one's user."""

    def __init__(self, primary: PostgresServer, folder: Path) -> None:
        self.folder, self.port, self._user = folder, free_port(), unprivileged()
        folder.mkdir()
        if self._user is not None:
            entry = pwd.getpwnam(self._user)
            os.chown(folder, entry.pw_uid, entry.pw_gid)
        source = f"host=127.0.0.1 port={primary.port} user=postgres application_name=standby1"
        data = str(folder / "data")
        command = [
            str(primary.bindir / "pg_basebackup"),
            "-D",
            data,
            "-d",
            source,
            "-R",
            "-X",
            "stream",
            "-c",
            "fast",
            "-C",
            "-S",
            "slot_1",
        ]
        subprocess.run(command, check=True, capture_output=True, user=self._user, cwd="/")
        options = ("fsync=off", "hot_standby=on", f"unix_socket_directories={folder}", "listen_addresses=127.0.0.1", "max_connections=1200")
        self._command = [str(primary.bindir / "postgres"), "-D", data, "-p", str(self.port), *(x for o in options for x in ("-c", o))]
        self.start()

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(self._command, stdout=log, stderr=log, user=self._user, start_new_session=True)
        wait_for(lambda: b"ready to accept read-only" in (self.folder / "log").read_bytes(), 30)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGINT)
        self.process.wait(30)


@pytest.fixture
def pair(folder: Path) -> Iterator[tuple[PostgresServer, Standby]]:
    primary = PostgresServer(folder / "primary", embedded_bindir(), "wal_level=replica", "wal_sender_timeout=2s", hba=HBA)
    standby = Standby(primary, folder / "standby")
    yield primary, standby
    standby.stop()
    primary.stop()
    shutil.rmtree(standby.folder, ignore_errors=True)


def test_lag_is_seen_on_both_sides(pair: tuple[PostgresServer, Standby]) -> None:
    primary, standby = pair
    proxy = begin(primary)
    behind = begin(primary, PGHOLD_CONTROL=f"postgresql://postgres@127.0.0.1:{standby.port}/postgres")
    try:
        wait_for(lambda: "standby1" in check(proxy, "replication")["text"], 10)
        assert check(proxy, "replication")["state"] == "ok"
        wait_for(lambda: "replayed all it received" in check(behind, "replication")["text"], 10)
        # Replay is paused, so what is written stays behind; the replica tells how far.
        primary.sql("CREATE TABLE written AS SELECT 1 AS id")
        with_pause(standby, "pg_wal_replay_pause")
        primary.sql("INSERT INTO written SELECT generate_series(1, 1000)")
        assert "paused" in wait_for_check(behind, "replication", "warn")["text"]
        wait_for(lambda: proxy.metric("pghold_server_replication_lag_seconds") > 0.5, 20)
        with_pause(standby, "pg_wal_replay_resume")
        wait_for_check(behind, "replication", "ok")
        # Tables of the standby are read, and their list is kept there as well.
        assert check(behind, "tables")["state"] == "ok"
        # A replica that goes is missed, and its slot keeps what it needs.
        standby.stop()
        assert "standby1" in wait_for_check(proxy, "replication", "warn", 20)["text"]
        assert check(behind, "server")["state"] in ("fail", "ok")
        wait_for_check(behind, "server", "fail")
        (standby.folder / "log").write_text("")
        standby.start()
        wait_for_check(proxy, "replication", "ok", 20)
    finally:
        assert proxy.stop() == 0
        assert behind.stop() == 0


def with_pause(standby: Standby, function: str) -> None:
    import psycopg

    with psycopg.connect(host="127.0.0.1", port=standby.port, user="postgres", dbname="postgres", autocommit=True) as connection:
        connection.execute(f"SELECT {function}()")  # type: ignore[call-overload]
