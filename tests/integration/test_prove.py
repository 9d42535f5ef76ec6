"""Copies are proven by restoring them; whatever is wrong with one is found. Real servers, 18 and 15."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from proxy.backups.model import CopiedTable, Proof
from proxy.backups.prove import Prover
from proxy.backups.scratch import Scratch, ScratchError
from proxy.embedded import bindir
from tests.equality import checksums_of, dump_of, load_zoo
from tests.servers import PostgresServer, debian_bindir


@pytest.fixture(scope="module", params=["18", "15"])
def source(request: pytest.FixtureRequest, folder: Path) -> Iterator[PostgresServer]:
    if request.param == "18":
        yield request.getfixturevalue("postgres18")
        return
    server = PostgresServer(folder / "pg15-prove", debian_bindir())
    yield server
    server.stop()


@pytest.fixture(scope="module")
def archive(source: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    load_zoo(source, "zoo")
    path = tmp_path_factory.mktemp("copies") / "archive.dump"
    dump(source, "zoo", path)
    return path


@pytest.fixture
async def scratch(folder: Path, tmp_path: Path) -> AsyncIterator[Scratch]:
    # Not below pytest's folder, which another pytest closes for the server's user.
    place = Scratch(folder / f"scratch-{tmp_path.name}")
    yield place
    await place.stop()


def dump(server: PostgresServer, database: str, path: Path, *options: str) -> None:
    subprocess.run(
        [bindir() / "pg_dump", "-h", "127.0.0.1", "-p", str(server.port), "-U", "postgres", "-Fc", "-f", path, *options, "-d", database],
        check=True, env={**os.environ, "PGCLIENTENCODING": "UTF8"},
    )  # fmt: skip


async def copied(server: PostgresServer, database: str) -> list[CopiedTable]:
    sums = await checksums_of(server, database)
    # A materialized view is made anew from the tables, so it is none of the copy's.
    return [CopiedTable(n, rows, 0, checksum) for n, (rows, checksum) in sums.items() if n not in ("large objects", "zoo.meals")]


async def test_a_copy_of_every_kind_of_table_is_equal(source: PostgresServer, archive: Path, scratch: Scratch) -> None:
    tables = await copied(source, "zoo")
    seen: list[str] = []
    objects = (await checksums_of(source, "zoo"))["large objects"]
    result = await Prover(scratch).prove(archive, tables, seen.append, large_objects=objects)
    rows = sum(t.rows for t in tables)
    assert (result.proof, result.text, result.problems) == (Proof.EQUAL, f"restored, {len(tables)} tables, {rows:,} rows, equal", ())
    assert "proving: table 1 of 23" in seen


async def test_what_differs_is_named(source: PostgresServer, archive: Path, scratch: Scratch) -> None:
    tables = await copied(source, "zoo")
    plain = next(t for t in tables if t.name == "public.plain")
    others = [t for t in tables if t is not plain]
    prover = Prover(scratch)
    for wrong, text in (
        (replace(plain, rows=51), "different: public.plain has 50 rows, not 51"),
        (
            replace(plain, checksum=f"{plain.checksum[:-1]}{'0' if plain.checksum[-1] != '0' else '1'}"),
            "different: public.plain has other content, in as many rows",
        ),
        (replace(plain, checksum=""), "different: public.plain has no checksum to compare with"),
        (replace(plain, name='zoo."no such table"'), 'different: zoo."no such table" is not there'),
        (replace(plain, name='"no such schema".x'), 'different: "no such schema".x is not there'),
        (replace(plain, name="zoo.loud_view"), "different: zoo.loud_view: zoo.loud_view has no rows of its own"),
    ):
        result = await prover.prove(archive, [wrong, *others])
        assert (result.proof, result.text) == (Proof.DIFFERENT, text)
    result = await prover.prove(archive, tables, large_objects=(2, "1:00"))
    assert result.proof is Proof.DIFFERENT
    assert "large objects" in result.text


async def test_an_archive_that_is_cut_or_changed_anywhere_is_not_proven(
    source: PostgresServer, archive: Path, scratch: Scratch, tmp_path: Path
) -> None:
    tables = await copied(source, "zoo")
    prover = Prover(scratch)
    whole = archive.read_bytes()
    broken = tmp_path / "broken.dump"
    for at in (0, 4, 300, len(whole) // 3, len(whole) // 2, len(whole) - 5):
        broken.write_bytes(whole[:at])
        result = await prover.prove(broken, tables)
        assert result.proof in (Proof.FAILED, Proof.DIFFERENT), at
    # In the rows of the largest table, which are compressed: one bit.
    middle = len(whole) * 2 // 3
    broken.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
    assert (await prover.prove(broken, tables)).proof in (Proof.FAILED, Proof.DIFFERENT)
    broken.write_bytes(b"no archive at all" * 100)
    assert (await prover.prove(broken, tables)).text.startswith("not proven: ")
    assert (await prover.prove(tmp_path / "missing", tables)).proof is Proof.FAILED
    assert (await prover.prove(archive, tables)).is_equal


async def test_a_table_whose_type_cannot_be_made_there_is_not_proven(postgres18: PostgresServer, scratch: Scratch, tmp_path: Path) -> None:
    postgres18.sql("DROP DATABASE IF EXISTS odd_types WITH (FORCE)")
    postgres18.sql("CREATE DATABASE odd_types")
    # A base type takes a superuser, which nobody is where copies are proven; the same as an extension that is not installed there.
    postgres18.sql(
        "CREATE TYPE odd_type; CREATE FUNCTION odd_in(cstring) RETURNS odd_type IMMUTABLE STRICT LANGUAGE internal AS 'int4in';"
        "CREATE FUNCTION odd_out(odd_type) RETURNS cstring IMMUTABLE STRICT LANGUAGE internal AS 'int4out';"
        "CREATE TYPE odd_type (INPUT = odd_in, OUTPUT = odd_out, LIKE = int4); CREATE TABLE odd (v odd_type); INSERT INTO odd VALUES ('7');"
        "CREATE TABLE plain AS SELECT 1 AS id",
        "odd_types",
    )
    dump(postgres18, "odd_types", path := tmp_path / "odd.dump")
    tables = await copied(postgres18, "odd_types")
    result = await Prover(scratch).prove(path, tables)
    assert result.proof is Proof.FAILED
    assert result.text.startswith("not proven: public.odd is not there: ")
    # Other tables of that database can be proven.
    assert (await Prover(scratch).prove(path, [t for t in tables if t.name == "public.plain"])).is_equal


async def test_functions_of_the_copy_run_without_rights(postgres18: PostgresServer, scratch: Scratch, tmp_path: Path) -> None:
    """A table's owner can write functions that run when it is restored. They must not reach the machine."""
    mark = Path("/tmp") / f"pghold-tests-reached-{os.getpid()}"
    postgres18.sql("DROP DATABASE IF EXISTS hostile WITH (FORCE)")
    postgres18.sql("CREATE DATABASE hostile")
    postgres18.sql(
        f"CREATE FUNCTION check_it(v int) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN EXECUTE 'COPY (SELECT 1) TO PROGRAM ''cat > {mark}'''; "
        "RETURN true; EXCEPTION WHEN insufficient_privilege THEN RETURN true; END $$;"
        "CREATE TABLE hostile (v int); INSERT INTO hostile VALUES (1); ALTER TABLE hostile ADD CHECK (check_it(v))",
        "hostile",
    )
    mark.unlink(missing_ok=True)
    dump(postgres18, "hostile", path := tmp_path / "hostile.dump")
    mark.unlink(missing_ok=True)
    result = await Prover(scratch).prove(path, await copied(postgres18, "hostile"))
    assert result.is_equal
    assert not mark.exists()


async def test_the_scratch_server_killed_in_the_middle(source: PostgresServer, archive: Path, scratch: Scratch) -> None:
    tables = await copied(source, "zoo")
    killed = False

    def kill(text: str) -> None:
        nonlocal killed
        if not killed:
            killed = True
            os.kill(pid_of(scratch), signal.SIGKILL)

    result = await Prover(scratch).prove(archive, tables, kill)
    assert killed
    assert result.proof is Proof.FAILED
    # The next proof gets a server again.
    assert (await Prover(scratch).prove(archive, tables)).is_equal


async def test_a_cancelled_proof_leaves_nothing(source: PostgresServer, archive: Path, scratch: Scratch) -> None:
    tables = await copied(source, "zoo")
    begun = asyncio.Event()
    task = asyncio.ensure_future(Prover(scratch).prove(archive, tables, lambda text: begun.set()))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    control = await scratch._control()
    async with control.connection("postgres") as connection:
        names = await (await connection.execute("SELECT datname FROM pg_database WHERE datname LIKE 'pghold%'")).fetchall()
    assert names == []


async def test_a_killed_proxys_scratch_server_is_cleaned_up(tmp_path: Path) -> None:
    left = Scratch(tmp_path / "scratch")
    await left.start()
    pid = pid_of(left)
    sockets = left._own.control.place.host  # type: ignore[union-attr]  # it was started
    fresh = Scratch(tmp_path / "scratch")
    await fresh.start()
    assert not Path(sockets).exists()
    assert not Path(f"/proc/{pid}").exists() or b"Z" in Path(f"/proc/{pid}/stat").read_bytes()
    await fresh.stop()
    await left.stop()
    assert not (tmp_path / "scratch").exists()


async def test_a_named_scratch_server_is_used_and_left_clean(
    source: PostgresServer, postgres18: PostgresServer, archive: Path, tmp_path: Path
) -> None:
    postgres18.sql("DROP ROLE IF EXISTS prover")
    postgres18.sql("CREATE ROLE prover LOGIN CREATEDB")
    url = f"postgresql://prover@127.0.0.1:{postgres18.port}/postgres"
    scratch = Scratch(tmp_path / "scratch", url)
    postgres18.sql(f"CREATE DATABASE {scratch._prefix}left")
    postgres18.sql(f"ALTER DATABASE {scratch._prefix}left OWNER TO prover")
    postgres18.sql("CREATE DATABASE pghold_scratch_of_somebody_else")
    tables = await copied(source, "zoo")
    result = await Prover(scratch).prove(archive, tables)
    assert result.is_equal, result
    left = postgres18.sql("SELECT datname FROM pg_database WHERE datname LIKE 'pghold_scratch%'")
    assert left == [("pghold_scratch_of_somebody_else",)]
    postgres18.sql("DROP DATABASE pghold_scratch_of_somebody_else")
    postgres18.sql("ALTER ROLE prover NOCREATEDB")
    result = await Prover(scratch).prove(archive, tables)
    assert result.proof is Proof.FAILED
    assert result.text == "not proven: no scratch database: permission denied to create database"
    await scratch.stop()


async def test_a_scratch_server_that_is_gone(archive: Path, tmp_path: Path) -> None:
    scratch = Scratch(tmp_path / "scratch", "postgresql://nobody@127.0.0.1:1/postgres")
    assert (await Prover(scratch).prove(archive, [])).proof is Proof.FAILED
    with pytest.raises(ScratchError):
        await scratch.start()


async def test_the_scratch_server_cannot_be_made(archive: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    scratch = Scratch(tmp_path / "file" / "scratch")
    assert (await Prover(scratch).prove(archive, [])).proof is Proof.FAILED
    await scratch.stop()


def pid_of(scratch: Scratch) -> int:
    assert scratch._own is not None
    assert scratch._own._process is not None
    return scratch._own._process.pid


def test_the_normalised_dump_is_stable_and_tells(source: PostgresServer) -> None:
    """The measure itself: equal to itself, and not to a database in which one row, comment or grant differs."""
    load_zoo(source, "zoo_measure")
    before = dump_of(source, "zoo_measure")
    assert dump_of(source, "zoo_measure") == before
    for change in (
        "UPDATE public.plain SET v = 'other' WHERE id = 7",
        "COMMENT ON TABLE zoo.big IS 'x'",
        "GRANT SELECT ON zoo.big TO PUBLIC",
    ):
        source.sql(change, "zoo_measure")
        after = dump_of(source, "zoo_measure")
        assert after != before
        before = after
