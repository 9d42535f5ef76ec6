"""Copies of every kind of table, proven by restoring them, and what becomes of a copy when the proxy is killed."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

from proxy.backups.assembly import Verifying
from proxy.backups.model import CopyKind, Proof
from proxy.backups.scratch import Scratch
from proxy.backups.verify import Verifier
from tests.copying import session, workshop
from tests.equality import load_zoo
from tests.integration.test_copy_faults import ROWS
from tests.servers import Pghold, PostgresServer, debian_bindir, embedded_bindir, wait_for


@pytest.fixture(scope="module", params=["18", "15"])
def server(request: pytest.FixtureRequest, folder: Path) -> Iterator[PostgresServer]:
    made = PostgresServer(folder / f"proven{request.param}", embedded_bindir() if request.param == "18" else debian_bindir())
    load_zoo(made, "zoo")
    yield made
    made.stop()


def test_the_zoo_is_copied_and_equal_table_by_table(server: PostgresServer, folder: Path, tmp_path: Path) -> None:
    """One table after the other, and all of it; each copy is restored and compared before its statement would run."""

    async def run() -> None:
        async with workshop(server, tmp_path) as shop:
            scratch = Scratch(folder / f"scratch-{server.port}")  # its server is another user's, who cannot come to pytest's folders
            shop.protector._proving = Verifying(Verifier(shop.vault, scratch))
            try:
                names = server.sql(
                    "SELECT format('%I.%I', nspname, relname), relkind FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace"
                    " WHERE relkind IN ('r', 'p') AND NOT relispartition AND nspname !~ '^pg_|^information' ORDER BY 1",
                    "zoo",
                )
                assert len(names) > 10
                async with session(shop, "zoo") as held:
                    for sql in [f"DROP TABLE {name} CASCADE" for name, _ in names[::8]] + ["DO $$ BEGIN END $$"]:
                        copied = await held.protect(sql)
                        backup = await shop.backups.get(copied.backup_id)
                        assert backup.proof is Proof.EQUAL, (sql, backup.proof_text)
                        assert "equal" in copied.text
                    # Filtered: each table that has no triggers and the like, by its rows.
                    kinds = []
                    for name, _ in names:
                        sql = f"DELETE FROM {name} WHERE ctid > '(0,0)'"
                        kinds.append((await shop.protector.plan(held.order(sql))).kind)
                        if kinds[-1] is CopyKind.ROWS and kinds.count(CopyKind.ROWS) < 4:
                            copied = await held.protect(sql)
                            assert (await shop.backups.get(copied.backup_id)).proof is Proof.EQUAL, (sql, copied.text)
                    assert {CopyKind.ROWS, CopyKind.DUMP} <= set(kinds)
            finally:
                await scratch.stop()

    asyncio.run(run())


def pg_dumps() -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/comm"):
        with suppress(OSError):
            if path.read_text().strip() == "pg_dump":
                found.append(int(path.parent.name))
    return found


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_the_proxy_is_killed_while_it_copies(postgres18: PostgresServer, folder: Path, how: signal.Signals) -> None:
    place = folder / f"killed-{int(how)}"
    place.mkdir()
    postgres18.sql("DROP DATABASE IF EXISTS killed WITH (FORCE)")
    postgres18.sql("CREATE DATABASE killed")
    postgres18.sql(
        f"CREATE UNLOGGED TABLE large AS SELECT g AS id, repeat(md5(g::text), 8) AS note FROM generate_series(1, {ROWS}) g", "killed"
    )
    before = set(pg_dumps())
    proxy = Pghold(
        f"postgresql://postgres@127.0.0.1:{postgres18.port}/killed",
        folder=place,
        backups=True,
        environment={"PGHOLD_BACKUP_MIN_FREE_BYTES": "0", "PGHOLD_BACKUP_SCHEDULE": ""},
    )
    backups = place / "data" / "backups"

    def drop() -> None:
        with suppress(psycopg.Error), proxy.connect("killed") as connection:
            connection.execute("DROP TABLE large")

    client = threading.Thread(target=drop, daemon=True)
    client.start()
    hold = proxy.wait_for_hold()
    assert proxy.approve(hold["id"]).status_code == 200
    wait_for(lambda: any(p.stat().st_size for p in backups.glob(".*/archive*")), 20)
    proxy.stop(how)
    client.join(20)
    wait_for(lambda: not set(pg_dumps()) - before, 10)
    assert postgres18.sql("SELECT count(*) FROM large", "killed") == [(ROWS,)]
    wait_for(
        lambda: (
            postgres18.sql("SELECT count(*) FROM pg_stat_activity WHERE datname = 'killed' AND pid <> pg_backend_pid()", "killed") == [(0,)]
        ),
        10,
    )
    proxy.start()
    try:
        assert [p.name for p in backups.iterdir()] == []
        state = proxy.hold(hold["id"])["state"]
        assert state in ("abandoned", "withdrawn", "denied")
        (backup,) = proxy.http.get("/api/v1/backups", params={"all": "true"}).json()[:1] or [{}]
        assert backup.get("state") in ("failed", None)
    finally:
        assert proxy.stop() == 0
        postgres18.sql("DROP DATABASE killed WITH (FORCE)")
