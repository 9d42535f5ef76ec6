"""Copies before statements, on real servers of two versions: what is copied for what, and that it can be restored."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from proxy.backups.model import BackupState, CopyKind, ProtectError
from proxy.backups.vault import VaultError
from tests.copying import Workshop, session, workshop
from tests.servers import PostgresServer, debian_bindir, embedded_bindir

SCHEMA = """
CREATE TYPE mood AS ENUM ('sad', 'ok');
CREATE TABLE person (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text, feels mood, twice int GENERATED ALWAYS AS (1 + 1) STORED);
INSERT INTO person (name, feels) SELECT 'p' || g, 'ok' FROM generate_series(1, 100) g;
CREATE TABLE line (id serial, person int REFERENCES person ON DELETE CASCADE, note text);
INSERT INTO line (person, note) SELECT g, 'n' FROM generate_series(1, 50) g;
CREATE TABLE lone (id int PRIMARY KEY, note text, data bytea);
INSERT INTO lone SELECT g, E'a\\tb\\n\\\\' || g, decode('00ff', 'hex') FROM generate_series(1, 1000) g;
CREATE TABLE event (at date, what text) PARTITION BY RANGE (at);
CREATE TABLE event_1 PARTITION OF event FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE TABLE event_2 PARTITION OF event FOR VALUES FROM ('2027-01-01') TO ('2028-01-01');
INSERT INTO event SELECT '2026-06-01'::date + g, 'w' FROM generate_series(1, 400) g;
CREATE TABLE base (id int); CREATE TABLE child (more int) INHERITS (base);
INSERT INTO base VALUES (1); INSERT INTO child VALUES (2, 2);
CREATE VIEW people AS SELECT id, name FROM person;
CREATE TABLE audit (what text); INSERT INTO audit VALUES ('old');
CREATE TABLE watched (id int); INSERT INTO watched VALUES (1), (2);
CREATE FUNCTION watch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN DELETE FROM audit; RETURN OLD; END';
CREATE TRIGGER w BEFORE DELETE ON watched FOR EACH ROW EXECUTE FUNCTION watch();
CREATE TABLE other (id int); INSERT INTO other SELECT generate_series(1, 5000);
CREATE TABLE feeling (id int, now mood); INSERT INTO feeling VALUES (1, 'sad');
CREATE SCHEMA "an ""odd"" s;"; CREATE TABLE "an ""odd"" s;"."line
break $x$ %s *?." (i int); INSERT INTO "an ""odd"" s;"."line
break $x$ %s *?." VALUES (1), (2), (3);
"""


@pytest.fixture(scope="module", params=["18", "15"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, folder: Path) -> Iterator[PostgresServer]:
    made = PostgresServer(folder / f"copies{request.param}", embedded_bindir() if request.param == "18" else debian_bindir())
    yield made
    made.stop()


@pytest.fixture
def database(server: PostgresServer) -> str:
    server.sql("DROP DATABASE IF EXISTS shop WITH (FORCE)")
    server.sql("CREATE DATABASE shop")
    with server.connect("shop") as connection:
        connection.execute(SCHEMA)  # type: ignore[arg-type]
    return "shop"


def restored(shop: Workshop, archive: Path) -> None:
    """Into the database `again`, with pg_restore."""
    shop.server.sql("DROP DATABASE IF EXISTS again WITH (FORCE)")
    shop.server.sql("CREATE DATABASE again")
    subprocess.run(
        [str(embedded_bindir() / "pg_restore"), "-h", "127.0.0.1", "-p", str(shop.server.port), "-U", "postgres", "-d", "again", "--section=pre-data",
         "--section=data", str(archive)],
        check=shop.server.bindir == embedded_bindir(), capture_output=True,
    )  # fmt: skip


async def kept(shop: Workshop) -> dict[str, Any]:
    """The last copy's manifest, and the rows of each table when its archive is restored, where it has one."""
    backup = await shop.last()
    async with shop.vault.open(backup) as opened:
        restored(shop, opened.archive)
        found: dict[str, Any] = {"manifest": opened.manifest, "rows": list(opened.rows()) if "rows.copy.gz" in opened.files else []}
    counts = {}
    for (name,) in shop.server.sql("SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname !~ '^pg_|^inf'", "again"):
        counts[name] = shop.server.sql(f"SELECT count(*) FROM ONLY {name}", "again")[0][0]
    return found | {"counts": counts}


def test_what_is_copied_for_what(server: PostgresServer, database: str, tmp_path: Path) -> None:
    cases: list[tuple[str, CopyKind, dict[str, int]]] = [
        ("SELECT pg_terminate_backend(0)", CopyKind.NONE, {}),
        ("GRANT SELECT ON person TO public", CopyKind.NONE, {}),
        ("DROP TABLE IF EXISTS nothing_there", CopyKind.NONE, {}),
        ("DROP TABLE lone", CopyKind.DUMP, {"public.lone": 1000}),
        ("DROP TABLE person CASCADE", CopyKind.DUMP, {"public.person": 100}),
        ("TRUNCATE person CASCADE", CopyKind.DUMP, {"public.person": 100, "public.line": 50}),
        ("DELETE FROM person", CopyKind.DUMP, {"public.person": 100, "public.line": 50}),
        ("DELETE FROM person WHERE id = 1", CopyKind.DUMP, {"public.person": 100, "public.line": 50}),
        ("DELETE FROM watched WHERE id = 1", CopyKind.DUMP, {"public.watched": 2, "public.audit": 1}),
        ("UPDATE lone SET note = ''", CopyKind.DUMP, {"public.lone": 1000}),
        ("ALTER TABLE lone DROP COLUMN note", CopyKind.DUMP, {"public.lone": 1000}),
        ("DROP TABLE event", CopyKind.DUMP, {"public.event_1": 213, "public.event_2": 187}),
        ("DROP TABLE base CASCADE", CopyKind.DUMP, {"public.base": 1, "public.child": 1}),
        ("DROP TYPE mood CASCADE", CopyKind.DUMP, {"public.person": 100, "public.feeling": 1}),
        ("DELETE FROM people WHERE id = 3", CopyKind.DUMP, {"public.person": 100, "public.line": 50}),
        ('DROP SCHEMA "an ""odd"" s;" CASCADE', CopyKind.DUMP, {'"an ""odd"" s;"."line\nbreak $x$ %s *?."': 3}),
        ("DROP VIEW people", CopyKind.DUMP, {}),
        ("CREATE OR REPLACE FUNCTION watch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN OLD; END'", CopyKind.DUMP, {}),
        ("DELETE FROM base WHERE id = 2", CopyKind.DUMP, {"public.base": 1, "public.child": 1}),
        ("INSERT INTO lone SELECT 1, 'x' FROM other ON CONFLICT (id) DO NOTHING; DELETE FROM other", CopyKind.DUMP, {"public.other": 5000}),
    ]

    async def run() -> None:
        async with workshop(server, tmp_path) as shop:
            for sql, kind, rows in cases:
                async with session(shop, database) as held:
                    plan = await shop.protector.plan(held.order(sql))
                    assert plan.kind is kind, (sql, plan.why)
                    if kind is CopyKind.NONE:
                        continue
                    await held.protect(sql)
                    found = await kept(shop)
                    with_rows = {n: c for n, c in found["counts"].items() if c}
                    assert with_rows == rows, (sql, with_rows)
                    told = {t["name"]: t["rows"] for t in found["manifest"]["tables"]}
                    assert sorted(told.values()) == sorted(rows.values()), (sql, told)

    asyncio.run(run())


def test_the_rows_that_a_filter_matches(server: PostgresServer, database: str, tmp_path: Path) -> None:
    async def run() -> None:
        async with workshop(server, tmp_path) as shop:
            for sql, values, rows, origins in (
                ("DELETE FROM lone WHERE id <= 3", (), 3, {"public.lone"}),
                ("UPDATE lone SET note = 'x' WHERE id = $1", ("7",), 1, {"public.lone"}),
                ("DELETE FROM event WHERE at > '2026-12-30' AND at < '2027-01-03'", (), 3, {"public.event_1", "public.event_2"}),
                ("DELETE FROM lone USING other WHERE other.id = lone.id AND lone.id < 10", (), 6, {"public.lone"}),
                ("DELETE FROM lone WHERE note = $1", ("a\tb\n\\500",), 1, {"public.lone"}),
                ("DELETE FROM lone WHERE id = -1", (), 0, set()),
            ):
                async with session(shop, database) as held:
                    plan, copied = await held.run(sql, *values)
                    assert plan.kind is CopyKind.ROWS, (sql, plan.why)
                    assert copied is not None
                    backup = await shop.last()
                    assert backup.rows == rows, sql
                    async with shop.vault.open(backup) as opened:
                        lines = b"".join(opened.rows()).decode().splitlines()
                        assert {line.split("\t")[0] for line in lines} == origins
                        assert opened.manifest["columns"][0] in ("id", "at")  # type: ignore[index]
                        assert all(len(line.split("\t")) == len(opened.manifest["columns"]) + 1 for line in lines)  # type: ignore[arg-type]

    asyncio.run(run())


def test_rows_are_not_copied_from_a_session_that_writes_values_in_its_own_way(
    server: PostgresServer, database: str, tmp_path: Path
) -> None:
    async def run() -> None:
        async with workshop(server, tmp_path) as shop, session(shop, database) as held:
            await held.connection.execute("SET DateStyle = 'SQL, DMY'")
            with pytest.raises(psycopg.Error, match="pghold copies rows only"):
                await held.run("DELETE FROM event WHERE at = '2026-07-01'")
            assert shop.leftovers() == []
        assert server.sql("SELECT count(*) FROM event", database) == [(400,)]

    asyncio.run(run())


def test_a_database_is_copied_whole_before_it_is_dropped(server: PostgresServer, database: str, tmp_path: Path) -> None:
    async def run() -> None:
        async with workshop(server, tmp_path) as shop, session(shop, "postgres") as held:
            with server.connect(database), pytest.raises(ProtectError, match="1 other session is connected"):
                await held.run("DROP DATABASE shop")
            await held.run("DROP DATABASE shop")
            found = await kept(shop)
            assert found["counts"]["public.other"] == 5000
            assert found["counts"]["public.lone"] == 1000
        assert server.sql("SELECT 1 FROM pg_database WHERE datname = 'shop'") == []

    asyncio.run(run())


def test_what_may_change_anything_copies_everything(server: PostgresServer, database: str, tmp_path: Path) -> None:
    async def run() -> None:
        async with workshop(server, tmp_path) as shop, session(shop, database) as held:
            plan, _ = await held.run("DO $$ BEGIN EXECUTE 'DROP TABLE lone'; END $$")
            assert "whole database" in plan.why
            found = await kept(shop)
            assert found["counts"]["public.lone"] == 1000
            assert found["counts"]["public.other"] == 5000

    asyncio.run(run())


def test_nobody_writes_between_copy_and_destruction(server: PostgresServer, database: str, tmp_path: Path) -> None:
    async def run() -> None:
        async with workshop(server, tmp_path) as shop, session(shop, database) as held:

            def write() -> None:
                with server.connect(database, options="-c lock_timeout=20s") as connection:
                    connection.execute("INSERT INTO lone VALUES (999999)")

            order = held.order("TRUNCATE lone")
            plan = await shop.protector.plan(order)
            await held.connection.execute("BEGIN")
            await held._copy(order, plan)
            writer = asyncio.ensure_future(asyncio.to_thread(write))
            await asyncio.sleep(0.3)
            assert not writer.done()
            await held.connection.execute("TRUNCATE lone")
            await held.connection.commit()
            await writer
            assert server.sql("SELECT count(*) FROM lone", database) == [(1,)]
            assert (await shop.last()).rows == 1000

    asyncio.run(run())


def test_a_session_that_has_locked_other_tables_does_not_stop_its_own_copy(server: PostgresServer, database: str, tmp_path: Path) -> None:
    async def run() -> None:
        async with workshop(server, tmp_path, backup_timeout_s=20) as shop, session(shop, database) as held:
            await held.begin()
            # To ask for the definition of a view is to lock what it reads, and pg_dump has no time limit for that.
            server.sql("CREATE VIEW others AS SELECT * FROM other; CREATE VIEW more AS SELECT * FROM others", database)
            await held.connection.execute("ALTER TABLE other ADD x int")
            await held.run("DROP TABLE lone")
            found = await kept(shop)
            assert found["counts"]["public.lone"] == 1000
            assert found["manifest"]["left_out"] == [
                '"public"."more": reads a table that is locked',
                '"public"."other": locked by this session\'s transaction',
                '"public"."others": reads a table that is locked',
            ]
            # What the transaction has changed itself cannot be read any more.
            with pytest.raises(ProtectError, match="changed by this session's open transaction"):
                await held.run("DROP TABLE other")

    asyncio.run(run())


def test_what_was_copied_in_the_same_transaction_may_be_destroyed_further(server: PostgresServer, database: str, tmp_path: Path) -> None:
    async def run() -> None:
        async with workshop(server, tmp_path) as shop, session(shop, database) as held:
            await held.begin()
            await held.run("TRUNCATE lone")
            await held.run("DROP TABLE lone")
            await held.commit()
            copies = await shop.backups.find()
            assert [c.rows for c in copies] == [0, 1000]
        assert server.sql("SELECT to_regclass('lone')", database) == [(None,)]

    asyncio.run(run())


def test_a_lock_of_somebody_else_ends_the_copy_in_time(server: PostgresServer, database: str, tmp_path: Path) -> None:
    async def run() -> None:
        async with workshop(server, tmp_path, backup_lock_timeout_s=0.5) as shop, session(shop, database) as held:
            with server.connect(database) as other:
                other.execute("BEGIN; LOCK TABLE lone IN ACCESS EXCLUSIVE MODE")
                order = held.order("DROP TABLE lone")
                plan = await shop.protector.plan(order)
                with pytest.raises(ProtectError, match=r"(?i)lock"):
                    await shop.protector.copy(order, plan, None, shop.said.append)
            assert shop.leftovers() == []
            assert (await shop.last()).state is BackupState.FAILED

    asyncio.run(run())


def test_pghold_may_not_read_a_table(server: PostgresServer, database: str, tmp_path: Path) -> None:
    server.sql("DO $$ BEGIN CREATE ROLE weak LOGIN; EXCEPTION WHEN duplicate_object THEN END $$")

    async def run() -> None:
        async with workshop(server, tmp_path, role="weak") as shop, session(shop, database) as held:
            with pytest.raises(ProtectError, match="permission denied"):
                await held.run("DROP TABLE lone")
            assert shop.leftovers() == []
        assert server.sql("SELECT count(*) FROM lone", database) == [(1000,)]

    asyncio.run(run())


def test_large_objects_go_with_the_tables_that_refer_to_them(server: PostgresServer, database: str, tmp_path: Path) -> None:
    server.sql("CREATE TABLE file (content oid); INSERT INTO file SELECT lo_from_bytea(0, 'hello')", database)

    async def run() -> None:
        async with workshop(server, tmp_path) as shop, session(shop, database) as held:
            for sql in ("DROP TABLE file", "SELECT lo_unlink(1)"):
                order = held.order(sql)
                plan = await shop.protector.plan(order)
                await shop.protector.copy(order, plan, None, shop.said.append)
                found = await kept(shop)
                assert found["manifest"]["large_objects"]["count"] == 1
                assert server.sql("SELECT convert_from(lo_get(oid), 'UTF8') FROM pg_largeobject_metadata", "again") == [("hello",)]

    asyncio.run(run())


def test_five_hundred_tables(server: PostgresServer, database: str, tmp_path: Path) -> None:
    server.sql(
        "DO $$ BEGIN FOR i IN 1..500 LOOP EXECUTE format('CREATE TABLE many_%s AS SELECT %s AS i', i, i); END LOOP; END $$", database
    )

    async def run() -> None:
        async with workshop(server, tmp_path) as shop, session(shop, database) as held:
            await held.run("DROP TABLE many_77")
            found = await kept(shop)
            assert {n: c for n, c in found["counts"].items() if c} == {"public.many_77": 1}

    asyncio.run(run())


def test_a_manifest_says_who_and_what(server: PostgresServer, database: str, tmp_path: Path) -> None:
    async def run() -> None:
        async with workshop(server, tmp_path) as shop, session(shop, database) as held:
            _, copied = await held.run("DROP TABLE lone")
            assert copied is not None
            backup = await shop.last()
            place = shop.vault.root / backup.folder
            told = json.loads((place / "manifest.json").read_text())
            assert told["approved_by"] == ["ana"]
            assert told["statement"] == "DROP TABLE lone"
            assert told["restore_point"] == "pghold hold 7"
            assert told["lsn"]
            assert told["files"][0]["name"] == "archive.dump"
            assert json.loads((place / "outcome.json").read_text())["outcome"] == "DROP TABLE"
            assert {p.stat().st_mode & 0o777 for p in place.iterdir()} == {0o600}
            assert place.stat().st_mode & 0o777 == 0o700
            assert copied.text.startswith(f"copy {backup.id}: 1 table, 1,000 rows, ")
            (place / "archive.dump").write_bytes(b"x")
            with pytest.raises(VaultError, match="SHA-256"):
                async with shop.vault.open(backup):
                    pass

    asyncio.run(run())


def test_somebody_who_waits_for_another_table_does_not_stop_a_copy(server: PostgresServer, database: str, tmp_path: Path) -> None:
    async def run() -> None:
        async with workshop(server, tmp_path, backup_lock_timeout_s=1) as shop, session(shop, database) as held:
            with server.connect(database) as reader:
                reader.execute("BEGIN; SELECT count(*) FROM other")

                def alter() -> None:
                    with server.connect(database) as connection:
                        connection.execute("ALTER TABLE other ADD y int")

                waiter = asyncio.ensure_future(asyncio.to_thread(alter))
                while not server.sql("SELECT 1 FROM pg_locks WHERE NOT granted AND relation = 'other'::regclass", database):
                    await asyncio.sleep(0.02)
                await held.run("DROP TABLE lone")
                reader.execute("COMMIT")
                await waiter
            assert (await shop.last()).rows == 1000

    asyncio.run(run())


def test_an_application_s_role_and_a_control_role_that_only_reads(server: PostgresServer, database: str, tmp_path: Path) -> None:
    for role in ("app LOGIN", "reader LOGIN IN ROLE pg_read_all_data, pg_monitor BYPASSRLS"):
        server.sql(f"DO $$ BEGIN CREATE ROLE {role}; EXCEPTION WHEN duplicate_object THEN END $$")
    server.sql("CREATE SCHEMA mine AUTHORIZATION app", database)
    server.sql(
        "SET ROLE app; CREATE TABLE mine.a (i int, tenant text); INSERT INTO mine.a SELECT g, 'x' FROM generate_series(1, 20) g;"
        " ALTER TABLE mine.a ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON mine.a USING (tenant = 'y'); CREATE TABLE mine.b AS SELECT * FROM mine.a",
        database,
    )

    async def run() -> None:
        async with workshop(server, tmp_path, role="reader") as shop, session(shop, database, "app") as held:
            plan, _ = await held.run("DELETE FROM mine.a WHERE i = 1")
            assert plan.kind is CopyKind.DUMP  # the rows that a policy hides are nobody's to count
            plan, _ = await held.run("DELETE FROM mine.b WHERE i < 4")
            assert plan.kind is CopyKind.ROWS
            plan, _ = await held.run("DO $$ BEGIN DELETE FROM mine.b; END $$")
            assert plan.lock == ('"mine"."a"', '"mine"."b"')  # nothing that it may not change
            found = await kept(shop)
            assert found["counts"]["public.lone"] == 1000
            await held.run("DROP SCHEMA mine CASCADE")
            assert {t["name"] for t in (await kept(shop))["manifest"]["tables"]} == {'"mine"."a"', '"mine"."b"'}
            assert found["manifest"]["restore_point"] == ""
            assert (await shop.backups.find())[0].state is BackupState.DONE

    asyncio.run(run())


def test_databases_in_other_encodings(server: PostgresServer, tmp_path: Path) -> None:
    async def run() -> None:
        async with workshop(server, tmp_path) as shop:
            for encoding, value in (("LATIN1", "chr(228)"), ("SQL_ASCII", "convert_from('\\xe4ff', 'SQL_ASCII')")):
                server.sql("DROP DATABASE IF EXISTS coded WITH (FORCE)")
                server.sql(f"CREATE DATABASE coded ENCODING {encoding} TEMPLATE template0 LOCALE 'C'")
                server.sql(f"CREATE TABLE t AS SELECT {value} AS v", "coded")
                async with session(shop, "coded") as held:
                    await held.run("TRUNCATE t")
                    assert (await shop.last()).rows == 1
                    assert shop.vault.manifest((await shop.last()).folder)["encoding"] == encoding
                server.sql("DROP DATABASE coded")

    asyncio.run(run())


def test_hostile_names(server: PostgresServer, database: str, tmp_path: Path) -> None:
    names = ['a"b', "a'b", "a\\b", "a b;--", "a.b", "*", "?", "$1", "%s{}", "ä" * 31, "x" * 63, "select", "\u202eevil", "a\tb\nc", "[a-z]+"]
    quoted = ['"' + name.replace('"', '""') + '"' for name in names]
    for name in quoted:
        server.sql(f"CREATE SCHEMA {name}; CREATE TABLE {name}.{name} AS SELECT 1 AS {name}", database)

    async def run() -> None:
        async with workshop(server, tmp_path) as shop, session(shop, database) as held:
            for name, plain in zip(quoted, names, strict=True):
                plan, _ = await held.run(f"UPDATE {name}.{name} SET {name} = 2 WHERE {name} = 1")
                assert plan.kind is CopyKind.ROWS, name
                async with shop.vault.open(await shop.last()) as opened:
                    assert opened.manifest["columns"] == [plain]
                    assert b"".join(opened.rows()).endswith(b"\t1\n")
            for name in quoted[::4]:
                await held.run(f"DROP TABLE {name}.{name}")
                found = await kept(shop)
                assert [t["name"] for t in found["manifest"]["tables"]] == [f"{name}.{name}"]
                assert sum(found["counts"].values()) == 1

    asyncio.run(run())


def test_a_trigger_that_writes_where_the_role_may_not(server: PostgresServer, database: str, tmp_path: Path) -> None:
    """An audit trigger of somebody else: its table is copied, and that the role may not lock it is no reason to refuse."""
    server.sql("DO $$ BEGIN CREATE ROLE app LOGIN; EXCEPTION WHEN duplicate_object THEN END $$")
    server.sql(
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS 'BEGIN INSERT INTO public.audit VALUES (1); RETURN NULL; END';"
        "CREATE TABLE noted (i int); INSERT INTO noted VALUES (1); ALTER TABLE noted OWNER TO app;"
        "CREATE TRIGGER n AFTER DELETE ON noted FOR EACH ROW EXECUTE FUNCTION note()",
        database,
    )

    async def run() -> None:
        async with workshop(server, tmp_path) as shop, session(shop, database, "app") as held:
            plan, _ = await held.run("DELETE FROM noted")
            assert plan.lock == ('"public"."noted"',)
            assert {t["name"] for t in (await kept(shop))["manifest"]["tables"]} == {'"public"."audit"', '"public"."noted"'}

    asyncio.run(run())
