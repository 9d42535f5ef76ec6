"""The database is gone: copies that the protector took are verified, and brought back by `pghold recover`. Real servers, 18 and 15."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from proxy.backups.beside import into_database, into_schema
from proxy.backups.model import Backup, CopyKind, Proof
from proxy.backups.restore import RestoreError
from proxy.backups.scratch import Scratch
from proxy.backups.sealing import make_key
from proxy.backups.verify import Verifier
from proxy.config import Upstream
from proxy.control import Control
from tests.copying import Workshop, session, workshop
from tests.equality import checksums_of, dump_of, load_zoo
from tests.servers import PostgresServer, debian_bindir


@pytest.fixture(scope="module", params=["18", "15"])
def server(request: pytest.FixtureRequest, folder: Path) -> Iterator[PostgresServer]:
    if request.param == "18":
        yield request.getfixturevalue("postgres18")
        return
    debian = PostgresServer(folder / "pg15-recover", debian_bindir())
    yield debian
    debian.stop()


@pytest.fixture
async def shop(server: PostgresServer, tmp_path: Path) -> AsyncIterator[Workshop]:
    load_zoo(server, "zoo_recover")
    for (name,) in server.sql("SELECT datname FROM pg_database WHERE datname LIKE 'zoo\\_recover\\_%'"):
        server.sql(f'DROP DATABASE "{name}" WITH (FORCE)')
    async with workshop(server, tmp_path / "data") as found:
        yield found


@pytest.fixture
async def scratch(folder: Path, tmp_path: Path) -> AsyncIterator[Scratch]:
    # Not below pytest's folder, which another pytest closes for the server's user.
    place = Scratch(folder / f"scratch-{tmp_path.name}")
    yield place
    await place.stop()


def recover(shop: Workshop, *options: str, code: int = 0) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "proxy", "recover", "--backups", str(shop.vault.root), "--yes", "--json",
         "--to", f"postgresql://postgres@127.0.0.1:{shop.server.port}/", *options],
        capture_output=True, text=True, env={**os.environ, "PGHOLD_DATA_DIR": str(shop.vault.root.parent)}, check=False,
    )  # fmt: skip
    assert done.returncode == code, (done.stdout, done.stderr)
    return json.loads(done.stdout) if done.stdout else done.stderr.strip()


async def test_a_full_copy_is_verified_and_brings_the_database_back(shop: Workshop, scratch: Scratch) -> None:
    before, sums = dump_of(shop.server, "zoo_recover"), await checksums_of(shop.server, "zoo_recover")
    backup = await shop.protector.take("zoo_recover")
    result = await Verifier(shop.vault, scratch).verify(backup)
    assert (result.proof, result.problems) == (Proof.EQUAL, ()), result
    shop.server.sql("DROP DATABASE zoo_recover WITH (FORCE)")
    done = recover(shop)
    assert (done["equal"], done["different"], done["problems"]) == (True, [], [])
    assert done["used"] == backup.folder
    assert len(done["tables"]) == len(backup.tables) > 20
    assert await checksums_of(shop.server, "zoo_recover") == sums
    assert dump_of(shop.server, "zoo_recover") == before


async def test_a_database_that_has_tables_is_not_touched(shop: Workshop) -> None:
    await shop.protector.take("zoo_recover")
    shop.server.sql("CREATE TABLE public.made_since (id integer)", "zoo_recover")
    before = dump_of(shop.server, "zoo_recover")
    said = recover(shop, code=1)
    assert "tables: give another name" in said
    assert dump_of(shop.server, "zoo_recover") == before
    done = recover(shop, "--into", "zoo_recover_beside")
    assert done["equal"]
    assert dump_of(shop.server, "zoo_recover") == before
    done = recover(shop, "--move-aside")
    assert done["equal"]
    assert dump_of(shop.server, done["moved_to"]) == before
    assert "made_since" not in dump_of(shop.server, "zoo_recover", "--schema-only")


async def test_a_damaged_copy_is_told_and_the_one_before_it_taken(shop: Workshop, scratch: Scratch) -> None:
    first = await shop.protector.take("zoo_recover")
    shop.server.sql("INSERT INTO public.plain (v) VALUES ('later')", "zoo_recover")
    second = await shop.protector.take("zoo_recover")
    damage(shop, second)
    result = await Verifier(shop.vault, scratch).verify(second)
    assert result.proof is Proof.FAILED
    assert "SHA-256" in result.text
    shop.server.sql("DROP DATABASE zoo_recover WITH (FORCE)")
    done = recover(shop)
    assert done["used"] == first.folder
    assert "SHA-256" in done["skipped"][0]
    assert done["equal"]
    damage(shop, first)
    shop.server.sql("DROP DATABASE zoo_recover WITH (FORCE)")
    assert "no copy can be used" in recover(shop, code=1)
    assert shop.server.sql("SELECT 1 FROM pg_database WHERE datname = 'zoo_recover'") == []


async def test_a_wrong_manifest_is_found(shop: Workshop, scratch: Scratch) -> None:
    backup = await shop.protector.take("zoo_recover")
    path = shop.vault.root / backup.folder / "manifest.json"
    good = json.loads(path.read_text())
    verifier = Verifier(shop.vault, scratch)
    for change in (
        {"tables": [{"name": "public.plain", "rows": 51, "checksum": "1:0"}]},
        {"encoding": "LATIN1"},
        {"kind": "nonsense"},
        {"files": []},
    ):
        path.write_text(json.dumps({**good, **change}))
        # Its own digest is in the register.
        assert (await verifier.verify(backup)).proof is Proof.FAILED
        # Without the register the content speaks.
        assert (await verifier.verify(backup.folder)).proof in (Proof.DIFFERENT, Proof.FAILED)
    path.write_text(json.dumps(good))
    assert (await verifier.verify(backup.folder)).is_equal


async def test_a_recovery_to_a_moment(shop: Workshop) -> None:
    first = await shop.protector.take("zoo_recover")
    await shop.protector.take("zoo_recover")
    at = json.loads((shop.vault.root / first.folder / "manifest.json").read_text())["started_at"]
    assert recover(shop, "--at", at, "--into", "zoo_recover_then")["used"] == first.folder
    assert "there are no copies" in recover(shop, "--at", "2001-01-01", code=1)


async def test_encrypted_copies(server: PostgresServer, tmp_path: Path, scratch: Scratch) -> None:
    load_zoo(server, "zoo_recover")
    make_key(tmp_path / "key")
    async with workshop(server, tmp_path / "data", backup_key_file=tmp_path / "key") as shop:
        backup = await shop.protector.take("zoo_recover")
        assert (await Verifier(shop.vault, scratch).verify(backup)).is_equal
        assert not list(shop.vault.root.glob(".open-*"))
        assert "key" in recover(shop, "--into", "zoo_recover_sealed", code=1)
        os.environ["PGHOLD_BACKUP_KEY_FILE"] = str(tmp_path / "key")
        try:
            server.sql("DROP DATABASE IF EXISTS zoo_recover_sealed")
            assert recover(shop, "--into", "zoo_recover_sealed")["equal"]
        finally:
            del os.environ["PGHOLD_BACKUP_KEY_FILE"]


async def test_without_a_full_copy_what_there_is_comes_back_and_the_rest_is_told(shop: Workshop) -> None:
    async with session(shop, "zoo_recover") as held:
        await held.run("DROP TABLE zoo.meal CASCADE")
    backup = await shop.last()
    assert backup.kind is CopyKind.DUMP
    done = recover(shop, "--into", "zoo_recover_part")
    assert done["candidates"][0]["kind"] == "dump"
    assert [t["name"] for t in done["tables"]] == [t.name for t in backup.tables]
    assert shop.server.sql("SELECT count(*) FROM zoo.animal", "zoo_recover_part") == [(0,)]
    assert shop.server.sql("SELECT count(*) FROM zoo.meal", "zoo_recover_part") == [(189,)]


async def test_later_states_are_named(shop: Workshop) -> None:
    await shop.protector.take("zoo_recover")
    async with session(shop, "zoo_recover") as held:
        await held.run("DROP TABLE zoo.meal CASCADE")
    backup = await shop.last()
    done = recover(shop, "--dry-run")
    assert done["candidates"][0]["kind"] == "full"
    assert [c["folder"] for c in done["newer"]] == [backup.folder]


async def test_a_copy_of_rows_is_verified_and_put_beside(shop: Workshop, scratch: Scratch) -> None:
    async with session(shop, "zoo_recover") as held:
        await held.run("DELETE FROM zoo.meal WHERE no = 2")
    backup = await shop.last()
    assert backup.kind is CopyKind.ROWS
    result = await Verifier(shop.vault, scratch).verify(backup)
    assert (result.proof, result.text) == (Proof.EQUAL, "read back, 63 rows")
    control = Control(Upstream(host="127.0.0.1", port=shop.server.port, user="postgres", password=""), 5)
    async with shop.vault.open(backup) as opened:
        assert await into_schema(control, scratch, opened, 'rows "of"') == '63 rows are in schema rows "of"'
        assert (
            await into_database(control, opened, "zoo_recover_rows")
            == "63 rows are in table public.pghold_rows of database zoo_recover_rows"
        )
        with pytest.raises(RestoreError, match="is there already"):
            await into_schema(control, scratch, opened, 'rows "of"')
    for database, table in (("zoo_recover", '"rows ""of""".meal'), ("zoo_recover_rows", "public.pghold_rows")):
        assert shop.server.sql(f"SELECT count(*), min(what), max(no) FROM {table}", database) == [(63, "meal 2", 2)]
    path = shop.vault.root / backup.folder / "rows.copy.gz"
    path.write_bytes(path.read_bytes()[:-5])
    assert (await Verifier(shop.vault, scratch).verify(backup)).proof is Proof.FAILED


def damage(shop: Workshop, backup: Backup) -> None:
    path = shop.vault.root / backup.folder / "archive.dump"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
