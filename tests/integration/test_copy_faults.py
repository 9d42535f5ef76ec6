"""What goes wrong while a copy is taken: nothing runs, nothing is left behind, and it is said why."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from proxy.backups.model import BackupState, CopyKind, Proof, ProtectError
from proxy.backups.sealing import make_key
from proxy.backups.targets import open_targets
from proxy.backups.vault import Vault, VaultError
from proxy.errors import ConfigError
from tests.copying import Workshop, session, workshop
from tests.s3 import CREDENTIALS, S3Server
from tests.servers import PostgresServer, embedded_bindir

DATABASE = "faulty"
ROWS = 400_000


@pytest.fixture(scope="module")
def server(postgres18: PostgresServer) -> Iterator[PostgresServer]:
    """A table that takes pg_dump a second or two."""
    postgres18.sql(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)")
    postgres18.sql(f"CREATE DATABASE {DATABASE}")
    postgres18.sql(
        f"CREATE UNLOGGED TABLE large AS SELECT g AS id, md5(g::text) || md5((g + 1)::text) || md5((g + 2)::text) AS note FROM generate_series(1, {ROWS}) g",
        DATABASE,
    )
    postgres18.sql("CREATE TABLE small AS SELECT g AS id FROM generate_series(1, 10) g", DATABASE)
    yield postgres18
    postgres18.sql(f"DROP DATABASE {DATABASE} WITH (FORCE)")


def children(name: str) -> list[int]:
    """Of this process, by the program's name."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            text = path.read_text()
            program, rest = text[text.index("(") + 1 : text.rindex(")")], text[text.rindex(")") + 2 :].split()
            if program == name and int(rest[1]) == os.getpid() and rest[0] != "Z":
                found.append(int(path.parent.name))
    return found


async def until(condition: Callable[[], object], timeout_s: float = 20) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.005)


async def spoiled(shop: Workshop, spoil: Callable[[], object], match: str) -> None:
    """A copy that something happens to as soon as pg_dump writes; the table is there afterwards, and nothing else is."""
    async with session(shop, DATABASE) as held:
        work = asyncio.ensure_future(held.run("DROP TABLE large"))
        await until(lambda: children("pg_dump") and any(p.stat().st_size for p in shop.vault.root.glob(".*/archive*")))
        spoil()
        with pytest.raises(ProtectError, match=match):
            await work
    await nothing_left(shop)


async def nothing_left(shop: Workshop) -> None:
    assert children("pg_dump") == []
    assert shop.leftovers() == []
    assert shop.vault.folders() == []
    backup = await shop.last()
    assert backup.state is BackupState.FAILED
    assert backup.error
    assert shop.server.sql("SELECT count(*) FROM large", DATABASE) == [(ROWS,)]
    with_locks = "SELECT count(*) FROM pg_locks WHERE relation = 'large'::regclass"
    await until(lambda: shop.server.sql(with_locks, DATABASE) == [(0,)])


@pytest.mark.parametrize("sealed", [False, True])
def test_pg_dump_is_killed(server: PostgresServer, tmp_path: Path, sealed: bool) -> None:
    key = {"backup_key_file": tmp_path / "key"} if sealed else {}
    if sealed:
        make_key(tmp_path / "key")

    async def run() -> None:
        async with workshop(server, tmp_path / "data", **key) as shop:
            await spoiled(shop, lambda: [os.kill(p, signal.SIGKILL) for p in children("pg_dump")], "killed by signal 9")

    asyncio.run(run())


def test_the_server_ends_the_session_of_pg_dump(server: PostgresServer, tmp_path: Path) -> None:
    def end() -> None:
        server.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'COPY public.large%'")

    async def run() -> None:
        async with workshop(server, tmp_path) as shop:
            await spoiled(shop, end, "pg_dump failed|terminat")

    asyncio.run(run())


def test_it_is_cancelled(server: PostgresServer, tmp_path: Path) -> None:
    async def run() -> None:
        async with workshop(server, tmp_path) as shop, session(shop, DATABASE) as held:
            work = asyncio.ensure_future(held.run("DROP TABLE large"))
            await until(lambda: children("pg_dump"))
            work.cancel()
            with pytest.raises(asyncio.CancelledError):
                await work
            await nothing_left(shop)

    asyncio.run(run())


def test_it_takes_too_long(server: PostgresServer, tmp_path: Path) -> None:
    async def run() -> None:
        async with workshop(server, tmp_path, backup_timeout_s=0.05) as shop, session(shop, DATABASE) as held:
            with pytest.raises(ProtectError, match=r"took longer than 0\.05 s"):
                await held.run("DROP TABLE large")
            await nothing_left(shop)

    asyncio.run(run())


@pytest.mark.parametrize("reserve", [True, False])
def test_the_disk_is_full(server: PostgresServer, tmp_path: Path, reserve: bool) -> None:
    """A small disk: the estimate says so at once, or, where the table's size lies, pg_dump finds out."""
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(place)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"needs the right to mount: {done.stderr.strip()}")

    async def run() -> None:
        async with workshop(server, tmp_path / "data", backup_dir=place) as shop, session(shop, DATABASE) as held:
            if not reserve:
                shop.vault.check_space = lambda wanted=0: None  # type: ignore[method-assign]
            with pytest.raises(ProtectError, match="MB free" if reserve else "No space left on device"):
                await held.run("DROP TABLE large")
            await nothing_left(shop)

    try:
        asyncio.run(run())
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_the_reserve_is_kept(server: PostgresServer, tmp_path: Path) -> None:
    async def run() -> None:
        async with workshop(server, tmp_path, backup_min_free_bytes=1 << 60) as shop, session(shop, DATABASE) as held:
            with pytest.raises(ProtectError, match="backup_min_free_bytes"):
                await held.run("DROP TABLE small")
            assert shop.leftovers() == []

    asyncio.run(run())


def test_an_old_pg_dump_is_not_used(server: PostgresServer, tmp_path: Path) -> None:
    async def run() -> None:
        async with workshop(server, tmp_path, pg_bin=Path("/usr/lib/postgresql/15/bin")) as shop, session(shop, DATABASE) as held:
            with pytest.raises(ProtectError, match="older than the server"):
                await held.run("DROP TABLE small")
            assert shop.leftovers() == []

    asyncio.run(run())


def test_the_server_is_gone(tmp_path: Path, folder: Path) -> None:
    async def run() -> None:
        made = PostgresServer(folder / "gone", embedded_bindir())
        async with workshop(made, tmp_path) as shop, session(shop, "postgres") as held:
            order = held.order("DROP TABLE small")
            await held.connection.execute("CREATE TABLE small (i int)")
            plan = await shop.protector.plan(order)
            made.stop(signal.SIGQUIT)
            for asked in (shop.protector.plan(order), shop.protector.copy(order, plan, None, shop.said.append)):
                with pytest.raises(ProtectError, match="could not connect"):
                    await asked
            assert shop.leftovers() == []

    asyncio.run(run())


class Doubtful:
    """Says of every copy that it is not equal."""

    async def verify(self, backup: object, progress: Callable[[str], None]) -> tuple[Proof, str]:
        return Proof.DIFFERENT, "different: public.small has 9 rows, not 10"


def test_a_copy_that_is_not_equal_stops_the_statement(server: PostgresServer, tmp_path: Path) -> None:
    async def run() -> None:
        async with workshop(server, tmp_path, proving=Doubtful()) as shop, session(shop, DATABASE) as held:
            with pytest.raises(ProtectError, match="has 9 rows, not 10"):
                await held.run("DROP TABLE small")
            assert shop.vault.folders() == []
            assert (await shop.last()).state is BackupState.FAILED
        # Above the limit it is proven afterwards, and the statement has run.
        async with (
            workshop(server, tmp_path / "2", proving=Doubtful(), backup_prove_first_bytes=0) as shop,
            session(shop, DATABASE) as held,
        ):
            await held.connection.execute("CREATE TABLE tiny AS SELECT 1 AS i")
            await held.run("DROP TABLE tiny")
            await asyncio.gather(*shop.spawned)
            assert (await shop.last()).proof is Proof.DIFFERENT
            assert (await shop.last()).state is BackupState.DONE

    asyncio.run(run())


def test_no_more_at_once_than_is_set(server: PostgresServer, tmp_path: Path) -> None:
    async def run() -> None:
        async with workshop(server, tmp_path, backup_parallel=1) as shop, session(shop, DATABASE) as one, session(shop, DATABASE) as two:
            first = asyncio.ensure_future(one.protect("TRUNCATE large"))
            await until(lambda: shop.protector.running)
            second = asyncio.ensure_future(two.protect("DELETE FROM small"))
            await until(lambda: "waits for 1 other copies" in shop.said)
            assert shop.protector.running == 1
            await asyncio.gather(first, second)
            assert any("tables, " in text for text in shop.said)

    asyncio.run(run())


# --- encryption -----------------------------------------------------------------------------------------------------------


def test_sealed_copies_lie_encrypted_and_open_with_their_key(server: PostgresServer, tmp_path: Path) -> None:
    key = tmp_path / "key"
    make_key(key)

    async def run() -> None:
        async with workshop(server, tmp_path / "data", backup_key_file=key) as shop, session(shop, DATABASE) as held:
            await held.protect("DELETE FROM large WHERE id = 5")
            backup = await shop.last()
            assert backup.kind is CopyKind.ROWS
            place = shop.vault.root / backup.folder
            assert sorted(p.name for p in place.iterdir()) == [
                "archive.dump.sealed",
                "manifest.json",
                "rows.copy.gz.sealed",
            ]
            assert b"PGDMP" not in (place / "archive.dump.sealed").read_bytes()
            async with shop.vault.open(backup) as opened:
                assert opened.archive.read_bytes()[:5] == b"PGDMP"
                assert b"".join(opened.rows()).startswith(b"public.large\t5\t")
                assert opened.archive.stat().st_mode & 0o777 == 0o600
            assert shop.leftovers() == []
            other = tmp_path / "other"
            for vault, match in ((Vault(shop.vault.root), "no backup_key_file"), (Vault(shop.vault.root, key=make_key(other)), "not with")):
                with pytest.raises(VaultError, match=match):
                    async with vault.open(backup):
                        pass

    asyncio.run(run())


# --- further places -------------------------------------------------------------------------------------------------------


@pytest.fixture
def s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    made = S3Server(tmp_path / "s3")
    yield made
    made.stop()


def test_a_copy_is_at_the_further_place_before_the_statement_runs(server: PostgresServer, tmp_path: Path, s3: S3Server) -> None:
    async def run() -> None:
        async with workshop(server, tmp_path / "data", backup_targets=[s3.url]) as shop, session(shop, DATABASE) as held:
            await held.connection.execute("CREATE TABLE far AS SELECT 1 AS i")
            await held.run("DROP TABLE far")
            backup = await shop.last()
            assert backup.targets == ("s3://copies/pghold",)
            assert s3.objects() == [f"pghold/{backup.folder}/{name}" for name in ("archive.dump", "manifest.json", "outcome.json")]
            # The local one is lost: it is read from there.
            for path in (shop.vault.root / backup.folder).iterdir():
                path.unlink()
            async with shop.vault.open(backup) as opened:
                assert opened.archive.read_bytes()[:5] == b"PGDMP"
            await shop.vault.remove(backup)
            assert s3.objects() == []

    asyncio.run(run())


def test_a_further_place_that_is_gone_stops_the_statement(server: PostgresServer, tmp_path: Path, s3: S3Server) -> None:
    s3.stop()

    async def run() -> None:
        async with workshop(server, tmp_path / "data", backup_targets=[s3.url]) as shop, session(shop, DATABASE) as held:
            with pytest.raises(ProtectError, match="s3://copies/pghold did not take the copy"):
                await held.run("DROP TABLE small")
            assert shop.vault.folders() == []
            assert (await shop.last()).state is BackupState.FAILED

    asyncio.run(run())
    assert server.sql("SELECT count(*) FROM small", DATABASE) == [(10,)]


def test_a_further_place_that_goes_in_the_middle(server: PostgresServer, tmp_path: Path, s3: S3Server) -> None:
    async def run() -> None:
        async with workshop(server, tmp_path / "data", backup_targets=[s3.url], backup_timeout_s=15) as shop:
            async with session(shop, DATABASE) as held:
                work = asyncio.ensure_future(held.run("DROP TABLE large"))
                await until(lambda: any("further" in text for text in shop.said))
                s3.stop()
                with pytest.raises(ProtectError, match=r"s3://copies/pghold did not take the copy|took longer"):
                    await work
            await nothing_left(shop)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("url", "match"),
    [
        ("ftp://x/y", "is not s3://BUCKET"),
        ("s3://key:secret@bucket/x", "credentials come from the environment"),
        ("s3://bucket/x?colour=red", "no option colour"),
        ("s3://bucket/x?secret_env=NOT_THERE", "the environment has no NOT_THERE"),
    ],
)
def test_addresses_that_are_none(url: str, match: str) -> None:
    with pytest.raises(ConfigError, match=match) as caught:
        open_targets([url])
    assert "secret@" not in str(caught.value)
