"""The proxy is killed at every step between the approval and the statement; the disk is full; the further place is gone."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from tests.faulty import DATABASE, ROWS, Faulty, children, make_database
from tests.matrix import WAIT_S, Sent, ended
from tests.s3 import CREDENTIALS, S3Server
from tests.servers import PostgresServer, wait_for

_WAITS = "SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = '{}'"


@pytest.fixture(scope="module")
def shared(postgres18: PostgresServer, folder: Path) -> Iterator[Faulty]:
    make_database(postgres18)
    made = Faulty(postgres18, folder / "kills", PGHOLD_BACKUP_LOCK_TIMEOUT_S="30")
    yield made
    made.programs.go_on()
    assert made.proxy.stop() == 0


@pytest.fixture
def faulty(shared: Faulty) -> Iterator[Faulty]:
    shared.anew()
    yield shared
    shared.programs.go_on()


def kill(faulty: Faulty, sent: Sent) -> None:
    """With SIGKILL, and start it anew."""
    before = children(faulty.proxy.process.pid)
    faulty.proxy.stop(signal.SIGKILL)
    faulty.programs.go_on()
    sent.done()
    assert isinstance(sent.error, psycopg.OperationalError)
    faulty.proxy.start()
    # Whatever it had started is gone: programs with it, the scratch server when the next one starts its own.
    wait_for(lambda: not any(Path(f"/proc/{p}/cmdline").exists() and Path(f"/proc/{p}/cmdline").read_bytes() for p in before), WAIT_S)


def assert_as_nothing_happened(faulty: Faulty, hold_id: int) -> None:
    hold = ended(faulty.proxy, hold_id)
    assert hold["state"] in ("abandoned", "withdrawn", "failed"), hold
    assert [b["state"] for b in faulty.backups() if b["hold_id"] == hold_id] in ([], ["failed"], ["done"])
    faulty.assert_intact()
    # The next is protected as ever.
    sent, again = faulty.approved()
    assert sent.done().error is None, sent.error
    faulty.assert_protected(again)


def test_while_it_waits_for_the_lock(faulty: Faulty) -> None:
    with faulty.server.connect(DATABASE) as other, other.transaction():
        other.execute("UPDATE victim SET note = note WHERE id = 1")
        sent, hold_id = faulty.approved()
        wait_for(lambda: faulty.server.sql(_WAITS.format("ShareRowExclusiveLock")) == [(1,)], WAIT_S)
        kill(faulty, sent)
    assert_as_nothing_happened(faulty, hold_id)


@pytest.mark.parametrize(("program", "when"), [("pg_dump", "before"), ("pg_dump", "after"), ("pg_restore", "before")])
def test_while_a_program_runs(faulty: Faulty, program: str, when: str) -> None:
    faulty.programs.stop(program, when)
    sent, hold_id = faulty.approved()
    faulty.programs.wait(program)
    kill(faulty, sent)
    assert_as_nothing_happened(faulty, hold_id)


def test_while_the_statement_runs(faulty: Faulty) -> None:
    """It waits for a reader, and for nobody else: what it will have done, nobody can know; the copy is there in any case."""
    with faulty.server.connect(DATABASE) as other, other.transaction():
        other.execute("SELECT FROM victim")
        sent, hold_id = faulty.approved()
        wait_for(lambda: faulty.server.sql(_WAITS.format("AccessExclusiveLock")) == [(1,)], WAIT_S)
        kill(faulty, sent)
        assert ended(faulty.proxy, hold_id)["state"] == "abandoned"
    faulty.assert_nothing_left()
    faulty.assert_protected(hold_id)
    if faulty.server.sql("SELECT to_regclass('victim')", DATABASE) == [(None,)]:
        assert faulty.undo(hold_id)["state"] == "done"
    assert faulty.rows() == ROWS


def test_while_rows_are_copied(faulty: Faulty) -> None:
    """Of a filtered statement: the session itself copies them, and an open transaction of ours is rolled back by the server."""
    faulty.programs.stop("pg_dump")
    sent, hold_id = faulty.approved("DELETE FROM victim WHERE id > 10")
    faulty.programs.wait("pg_dump")
    kill(faulty, sent)
    assert ended(faulty.proxy, hold_id)["state"] == "abandoned"
    faulty.assert_intact()


def test_after_the_statement(faulty: Faulty) -> None:
    sent, hold_id = faulty.approved()
    assert sent.done().error is None
    assert ended(faulty.proxy, hold_id)["state"] == "done"
    faulty.proxy.stop(signal.SIGKILL)
    faulty.proxy.start()
    faulty.assert_protected(hold_id)
    assert faulty.undo(hold_id)["state"] == "done"
    assert faulty.rows() == ROWS


def test_it_is_stopped_in_the_middle(faulty: Faulty) -> None:
    """SIGTERM: the client is told, and nothing of it stays."""
    faulty.programs.stop("pg_dump")
    sent, hold_id = faulty.approved()
    faulty.programs.wait("pg_dump")
    before = children(faulty.proxy.process.pid)
    faulty.proxy.stop()
    faulty.programs.go_on()
    wait_for(lambda: not any(Path(f"/proc/{p}").exists() for p in before), WAIT_S)
    sent.done()
    assert sent.error is not None
    faulty.proxy.start()
    assert ended(faulty.proxy, hold_id)["state"] in ("withdrawn", "abandoned")
    faulty.assert_intact()


def mounted(place: Path, size: str) -> Callable[[], None]:
    place.mkdir(parents=True)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"needs the right to mount: {done.stderr.strip()}")

    def unmount() -> None:
        subprocess.run(["umount", "-l", str(place)], check=True)

    return unmount


def test_the_disk_is_full(postgres18: PostgresServer, folder: Path) -> None:
    """In the middle of a copy of 8 MB, on a disk of 2."""
    make_database(postgres18)
    place = folder / "kills-disk"
    unmount = mounted(place, "2m")
    try:
        made = Faulty(postgres18, folder / "kills-full", PGHOLD_BACKUP_DIR=str(place))
        try:
            made.anew()
            made.server.sql("ALTER TABLE victim ADD COLUMN more text; ALTER TABLE victim ALTER more SET STORAGE EXTERNAL", DATABASE)
            made.server.sql(
                "UPDATE victim SET more = (SELECT string_agg(md5(random()::text), '') FROM generate_series(1, 500) g WHERE g > -victim.id)",
                DATABASE,
            )
            for statement in ("DROP TABLE victim", "UPDATE victim SET more = NULL WHERE id > 1", "DROP SCHEMA public CASCADE"):
                sent, hold_id = made.approved(statement)
                made.assert_denied(sent, hold_id, "space", "No space", "free")
                assert [p.name for p in place.iterdir()] == []
        finally:
            assert made.proxy.stop() == 0
    finally:
        unmount()


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    server = S3Server(tmp_path_factory.mktemp("s3"))
    yield server
    server.stop()


def test_the_further_place_is_gone(postgres18: PostgresServer, folder: Path, s3: S3Server) -> None:
    make_database(postgres18)
    made = Faulty(postgres18, folder / "kills-s3", PGHOLD_BACKUP_TARGETS=f'["{s3.url}"]', **CREDENTIALS)
    try:
        made.anew()
        made.programs.stop("pg_dump", "after")
        sent, hold_id = made.approved()
        made.programs.wait("pg_dump")
        s3.stop()
        made.programs.go_on()
        made.assert_denied(sent, hold_id, "s3", "S3")
        s3.start()
        sent, hold_id = made.approved()
        assert sent.done().error is None
        assert made.assert_protected(hold_id)["targets"]
        assert s3.objects()
    finally:
        made.programs.go_on()
        assert made.proxy.stop() == 0
