"""Drivers and tools do their normal work through the proxy."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import asyncpg
import pg8000.native
import psycopg
import pytest
import sqlalchemy

from tests.servers import Pghold, PostgresServer, debian_bindir


@pytest.fixture
def work(postgres18: PostgresServer) -> str:
    postgres18.sql("DROP TABLE IF EXISTS work")
    postgres18.sql("CREATE TABLE work (id int PRIMARY KEY, note text)")
    return "work"


def url(pghold: Pghold, dbname: str = "postgres") -> str:
    return f"postgresql://postgres@127.0.0.1:{pghold.port}/{dbname}"


def tool(programs: Path, name: str, *arguments: str, **options: Any) -> str:
    done = subprocess.run([str(programs / name), *arguments], capture_output=True, text=True, check=False, timeout=110, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("version", [15, 18])
def test_psql(pghold: Pghold, postgres18: PostgresServer, work: str, version: int) -> None:
    programs = debian_bindir() if version == 15 else postgres18.bindir
    script = "\\d\n\\dt+\n\\df\n\\copy work from stdin\n1\tone\n2\ttwo\n\\.\nselect * from work order by 1;\n\\copy work to stdout\n\\x\nselect 1;\n"
    out = tool(programs, "psql", "-X", "-v", "ON_ERROR_STOP=1", url(pghold), input=script)
    assert "one" in out


#: psql's commands that look things up (app-psql.html), each of them several catalogue queries.
LOOKS = """\\d \\d+ work \\d *.* \\da \\dA+ \\db+ \\dc+ \\dC+ \\dd \\dD+ \\ddp \\dE+ \\des+ \\det+ \\deu+ \\dew+ \\df+ \\dF+ \\dFd+ \\dFp+ \\dFt+ \\dg+ \\di+
\\dl+ \\dL+ \\dm+ \\dn+ \\do+ \\dO+ \\dp \\dP+ \\drds \\dRp+ \\dRs+ \\ds+ \\dt+ \\dT+ \\du+ \\dv+ \\dx+ \\dX \\dy+ \\l+ \\z \\sf+ lower(text) \\conninfo \\encoding"""


@pytest.mark.parametrize("profile", ["guard", "strict"])
@pytest.mark.parametrize("version", [15, 18])
def test_psql_looks_are_never_held(postgres18: PostgresServer, work: str, version: int, profile: str) -> None:
    programs = debian_bindir() if version == 15 else postgres18.bindir
    proxy = Pghold(f"postgresql://127.0.0.1:{postgres18.port}/postgres", "--profile", profile, "--hold-timeout", "0.1")
    script = "\n\\".join(LOOKS.replace("\n", " ").split(" \\")) + "\n"
    done = subprocess.run(
        [str(programs / "psql"), "-X", url(proxy)], input=script, capture_output=True, text=True, check=False, timeout=110
    )
    assert "pghold:" not in done.stderr
    assert {r["event"] for r in proxy.audit()} <= {"started", "audit key"}
    assert proxy.stop() == 0


def test_psycopg(pghold: Pghold, work: str) -> None:
    with psycopg.connect(url(pghold)) as connection:
        cursor = connection.cursor()
        for index in range(20):
            cursor.execute("INSERT INTO work VALUES (%s, %s)", (index, f"note {index}"))
        connection.commit()
        with cursor.copy("COPY work FROM STDIN") as copy:
            for index in range(100, 1100):
                copy.write_row((index, "copied"))
        with cursor.copy("COPY work TO STDOUT (FORMAT binary)") as copy:
            assert sum(len(part) for part in copy) > 1000
        connection.commit()
        with connection.cursor(name="portal") as named:
            named.execute("SELECT id FROM work ORDER BY id")
            assert len(named.fetchmany(10)) == 10
        with connection.transaction(), pytest.raises(psycopg.errors.UniqueViolation), connection.transaction():
            connection.execute("INSERT INTO work VALUES (1, 'again')")
        assert connection.execute("SELECT count(*) FROM work").fetchone() == (1020,)


def test_psycopg_pipeline(pghold: Pghold, work: str) -> None:
    with psycopg.connect(url(pghold), autocommit=True) as connection:
        with connection.pipeline() as pipeline:
            cursors = [connection.execute("SELECT %s::int", (i,)) for i in range(200)]
            pipeline.sync()
            assert [c.fetchone() for c in cursors] == [(i,) for i in range(200)]
        with pytest.raises(psycopg.errors.DivisionByZero):
            _fail_in_pipeline(connection)
        assert connection.execute("SELECT count(*) FROM work").fetchone() == (0,)


def _fail_in_pipeline(connection: psycopg.Connection[Any]) -> None:
    with connection.pipeline():
        connection.execute("INSERT INTO work VALUES (1)")
        connection.execute("SELECT 1/0")


async def test_psycopg_async(pghold: Pghold) -> None:
    connection = await psycopg.AsyncConnection.connect(url(pghold), autocommit=True)
    async with connection:
        await connection.execute("LISTEN channel")
        await connection.execute("NOTIFY channel, 'hello'")
        async for notify in connection.notifies(timeout=5, stop_after=1):
            assert notify.payload == "hello"


def test_large_objects_and_notices(pghold: Pghold) -> None:
    with psycopg.connect(url(pghold), autocommit=True) as connection:
        seen: list[str] = []
        connection.add_notice_handler(lambda n: seen.append(n.message_primary or ""))
        with connection.transaction():
            oid = connection.execute("SELECT lo_from_bytea(0, 'abc')").fetchone()[0]  # type: ignore[index]
            assert connection.execute("SELECT lo_get(%s)", (oid,)).fetchone() == (b"abc",)
        connection.execute("DO $$ BEGIN RAISE NOTICE 'hello'; END $$")
        assert seen == ["hello"]


def test_cancel_reaches_the_server(pghold: Pghold) -> None:
    with psycopg.connect(url(pghold), autocommit=True) as connection:
        timer = threading.Timer(0.3, connection.cancel)
        timer.start()
        with pytest.raises(psycopg.errors.QueryCanceled):
            connection.execute("SELECT pg_sleep(30)")
        timer.join()
        assert connection.execute("SELECT 1").fetchone() == (1,)


async def test_asyncpg(pghold: Pghold, work: str) -> None:
    connection = await asyncpg.connect(url(pghold))
    await connection.executemany("INSERT INTO work VALUES ($1, $2)", [(i, str(i)) for i in range(50)])
    await connection.copy_records_to_table("work", records=[(i, "c") for i in range(100, 200)])
    async with connection.transaction():
        statement = await connection.prepare("SELECT id FROM work WHERE id < $1")
        assert len(await statement.fetch(10)) == 10
        assert len([r async for r in connection.cursor("SELECT id FROM work")]) == 150
    await connection.close()


def test_pg8000_and_sqlalchemy(pghold: Pghold, work: str) -> None:
    connection = pg8000.native.Connection("postgres", host="127.0.0.1", port=pghold.port, database="postgres")
    connection.run("INSERT INTO work VALUES (:id, :note)", id=1, note="x")
    assert connection.run("SELECT note FROM work") == [["x"]]
    connection.close()
    engine = sqlalchemy.create_engine(url(pghold).replace("postgresql://", "postgresql+psycopg://"))
    table = sqlalchemy.Table("work", sqlalchemy.MetaData(), autoload_with=engine)
    with engine.begin() as session:
        session.execute(sqlalchemy.update(table).where(table.c.id == 1).values(note="y"))
    engine.dispose()


def test_temporary_tables_come_and_go(pghold: Pghold) -> None:
    with psycopg.connect(url(pghold), autocommit=True) as connection:
        connection.execute("CREATE TEMP TABLE scratch (id int)")
        connection.execute("TRUNCATE scratch")
        connection.execute("DELETE FROM scratch")
        connection.execute("DROP TABLE scratch")
    assert pghold.holds() == []


def test_64_mb_statement_and_value(pghold: Pghold) -> None:
    size = 64 << 20
    with psycopg.connect(url(pghold), autocommit=True) as connection:
        text = "x" * size
        assert connection.execute(f"SELECT length('{text}')").fetchone() == (size,)
        assert connection.execute("SELECT length(%s)", (text,)).fetchone() == (size,)
        assert len(connection.execute(f"SELECT repeat('y', {size})").fetchone()[0]) == size  # type: ignore[index]


async def test_1000_connections_at_once(pghold: Pghold) -> None:
    async def one(index: int) -> int:
        connection = await asyncpg.connect(url(pghold), timeout=60)
        try:
            return int(await connection.fetchval("SELECT $1::int", index))
        finally:
            await connection.close()

    results = await asyncio.gather(*(one(i) for i in range(1000)))
    assert results == list(range(1000))


@pytest.mark.parametrize("mode", ["simple", "extended", "prepared"])
def test_pgbench(pghold: Pghold, postgres18: PostgresServer, mode: str) -> None:
    if not postgres18.sql("SELECT 1 FROM pg_database WHERE datname = 'bench'"):
        postgres18.sql("CREATE DATABASE bench")
        tool(postgres18.bindir, "pgbench", "-i", "-q", "-h", "127.0.0.1", "-p", str(postgres18.port), "-U", "postgres", "bench")
    out = tool(
        postgres18.bindir, "pgbench", "-n", "-h", "127.0.0.1", "-p", str(pghold.port), "-U", "postgres", "-M", mode,
        "-c", "4", "-t", "100", "bench",
    )  # fmt: skip
    assert "number of transactions actually processed: 400/400" in out


def test_dump_and_restore_give_an_equal_database(pghold: Pghold, postgres18: PostgresServer, tmp_path: Path) -> None:
    for name in ("source", "target"):
        postgres18.sql(f"DROP DATABASE IF EXISTS {name}")
        postgres18.sql(f"CREATE DATABASE {name}")
    sample = Path(__file__).parents[2] / "proxy" / "sample.sql"
    postgres18.sql(sample.read_text().replace("ANALYZE;", ""), "source")
    dump = tmp_path / "dump"
    tool(postgres18.bindir, "pg_dump", "-Fc", "-f", str(dump), url(pghold, "source"))
    tool(postgres18.bindir, "pg_restore", "--exit-on-error", "-d", url(pghold, "target"), str(dump))
    texts = []
    for name in ("source", "target"):
        text = tool(postgres18.bindir, "pg_dump", url(pghold, name))
        texts.append([line for line in text.splitlines() if not line.startswith(("\\restrict", "\\unrestrict"))])
    assert texts[0] == texts[1]


def test_scram_login_is_relayed(pghold: Pghold) -> None:
    with psycopg.connect(host="127.0.0.1", port=pghold.port, user="scram", password="secret", dbname="postgres") as connection:
        assert connection.execute("SELECT current_user").fetchone() == ("scram",)
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(host="127.0.0.1", port=pghold.port, user="scram", password="wrong", dbname="postgres")


def test_admin_console(pghold: Pghold, postgres18: PostgresServer) -> None:
    environment = {**os.environ, "PGPASSWORD": pghold.token}
    place = f"postgresql://operator@127.0.0.1:{pghold.port}/pghold"
    for programs in (debian_bindir(), postgres18.bindir):
        out = tool(
            programs, "psql", "-X", place, "-c", "SHOW HOLDS", "-c", "SHOW STATS", "-c", "SET x = 1", "-c", "RELOAD", env=environment
        )
        assert "pghold_sessions" in out
    refused = subprocess.run(
        ["psql", "-X", place, "-c", "SHOW HOLDS"], env={**os.environ, "PGPASSWORD": "no"}, capture_output=True, text=True, check=False
    )
    assert "password authentication failed" in refused.stderr
    with psycopg.connect(place, password=pghold.token, autocommit=True) as connection:
        with pytest.raises(psycopg.Error) as caught:
            connection.execute("APPROVE 999999 'x' 'y'")
        assert caught.value.sqlstate == "42704"
        assert connection.execute("SHOW VERSION").fetchone()


def test_operator_roles_are_enforced(pghold: Pghold, postgres18: PostgresServer, table: str) -> None:
    environment = {**os.environ, "PGHOLD_DATA_DIR": str(pghold.folder / "data")}
    added = subprocess.run(
        [sys.executable, "-m", "proxy", "operator", "add", "vera", "--role", "viewer"],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    token = added.stdout.strip()
    client = psycopg.connect(url(pghold), autocommit=True)
    thread = threading.Thread(target=lambda: _expect_denied(client))
    thread.start()
    hold = pghold.wait_for_hold()
    place = f"postgresql://vera@127.0.0.1:{pghold.port}/pghold"
    with psycopg.connect(place, password=token, autocommit=True) as connection:
        for command in (f"APPROVE {hold['id']} 'YES I UNDERSTAND THE RISKS' 'y'", f"DENY {hold['id']} 'n'", "KILL 1", "RELOAD"):
            with pytest.raises(psycopg.Error) as caught:
                connection.execute(command)  # type: ignore[call-overload]
            assert caught.value.sqlstate == "42501"
    headers = {"Authorization": f"Bearer {token}"}
    assert pghold.http.post(f"/api/v1/holds/{hold['id']}/deny", json={"reason": "x"}, headers=headers).status_code == 403
    assert pghold.http.get("/api/v1/holds", headers={"Authorization": "Bearer nobody"}).status_code == 401
    wrong = pghold.http.post(f"/api/v1/holds/{hold['id']}/approve", json={"phrase": "yes", "reason": "x"})
    assert wrong.status_code == 422
    assert pghold.deny(hold["id"]).status_code == 200
    thread.join()
    client.close()


def _expect_denied(client: psycopg.Connection[Any]) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        client.execute("DELETE FROM account")
