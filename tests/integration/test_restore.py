"""What a statement destroyed comes back as it was: the database is equal by pg_dump and by checksums. Real servers, 18 and 15."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from proxy.backups.archive import Archive, ArchiveError
from proxy.backups.model import CopiedTable, ProtectError
from proxy.backups.restore import InPlace, RestoreError
from proxy.config import Upstream
from proxy.control import Control, ControlError
from tests.equality import checksums_of, dump_of, load_zoo
from tests.integration.test_prove import dump
from tests.servers import PostgresServer, debian_bindir


@pytest.fixture(scope="module", params=["18", "15"])
def server(request: pytest.FixtureRequest, folder: Path) -> Iterator[PostgresServer]:
    if request.param == "18":
        yield request.getfixturevalue("postgres18")
        return
    debian = PostgresServer(folder / "pg15-restore", debian_bindir())
    yield debian
    debian.stop()


class Copy:
    """A database, what it was, and a copy of it: the data of `tables` only, the definition of everything."""

    def __init__(self, server: PostgresServer, path: Path, database: str, sums: dict[str, tuple[int, str]], tables: list[str]) -> None:
        self.server = server
        self.database = database
        self.before = dump_of(server, database)
        self.sums = sums
        keep = {name: sums[name] for name in tables}
        rules = path.with_suffix(".filter")
        kinds = dict(server.sql("SELECT format('%I.%I', relnamespace::regnamespace::name, relname), relkind FROM pg_class", database))
        others = [n for n in sums if n not in keep and kinds.get(n) in ("r", "m")]
        rules.write_text("".join(f"exclude table_data {_pattern(n)}\n" for n in others))
        dump(server, database, path, f"--filter={rules}")
        self.tables = [CopiedTable(name, rows, 0, checksum) for name, (rows, checksum) in keep.items()]
        self.control = Control(Upstream(host="127.0.0.1", port=server.port, user="postgres", password=""), 5)
        self.copied: list[str] = []
        self.archive = Archive(path)
        self.in_place = InPlace(self.control, database, self.archive, self.tables)

    async def protect(self, script: str) -> None:
        self.copied.append(script)

    async def restore(self) -> str:
        return await self.in_place.run(self.protect, lambda text: None)

    async def assert_as_before(self) -> None:
        assert await checksums_of(self.server, self.database) == self.sums
        assert dump_of(self.server, self.database) == self.before


def _pattern(name: str) -> str:
    """For --filter: a name in quotes is taken as it is."""
    schema, _, table = name.partition(".") if not name.startswith('"') else (name.rpartition('".')[0] + '"', "", name.rpartition('".')[2])
    return f"{schema}.{table}".replace("\n", "\\n")


@pytest.fixture
async def copy(server: PostgresServer, tmp_path: Path, request: pytest.FixtureRequest) -> Copy:
    load_zoo(server, "zoo_restore")
    return Copy(server, tmp_path / "archive.dump", "zoo_restore", await checksums_of(server, "zoo_restore"), request.param)


LOG = ["zoo.log", "zoo.log_2025", "zoo.log_2025_low", "zoo.log_2025_rest", "zoo.log_2026"]
ODD = '"odd ""schema""; name"."table ""with"" \'all\', $1; --"'

DESTROYED = [
    (["zoo.animal"], "DROP TABLE zoo.animal CASCADE"),
    (["zoo.meal"], "DROP TABLE zoo.meal CASCADE"),
    (["zoo.keeper", "zoo.house"], "DROP TABLE zoo.keeper, zoo.house CASCADE"),
    (["zoo.animal", "zoo.meal", "zoo.visit"], "TRUNCATE zoo.animal, zoo.meal, zoo.visit RESTART IDENTITY CASCADE"),
    (["zoo.animal"], "ALTER TABLE zoo.animal DROP COLUMN mood CASCADE"),
    (["zoo.big"], "ALTER TABLE zoo.big ALTER COLUMN id TYPE bigint"),
    (["zoo.meal"], "DELETE FROM zoo.meal"),
    (["zoo.visit"], "UPDATE zoo.visit SET at = now(), animal = NULL"),
    (["zoo.animal", "zoo.meal", "zoo.visit"], "DELETE FROM zoo.animal"),
    (LOG, "DROP TABLE zoo.log CASCADE"),
    ([*LOG, "zoo.log_note"], "TRUNCATE zoo.log CASCADE"),
    (LOG, "ALTER TABLE zoo.log DROP COLUMN message"),
    (["zoo.log_2025", "zoo.log_2025_low", "zoo.log_2025_rest"], "DROP TABLE zoo.log_2025 CASCADE"),
    (["zoo.base", "zoo.derived"], "DROP TABLE zoo.base CASCADE"),
    (["zoo.base", "zoo.derived"], "ALTER TABLE zoo.base DROP COLUMN label"),
    (["zoo.big"], "UPDATE zoo.big SET body = NULL"),
    (["zoo.empty", "zoo.nothing", "zoo.twice", "zoo.unlogged"], "DROP TABLE zoo.empty, zoo.nothing, zoo.twice, zoo.unlogged"),
    ([ODD], f"DROP TABLE {ODD}"),
    ([ODD], f'ALTER TABLE {ODD} DROP COLUMN "späce é"'),
    (["public.plain"], "DROP TABLE public.plain"),
]


@pytest.mark.parametrize(("copy", "statement"), DESTROYED, indirect=["copy"], ids=[s for _, s in DESTROYED])
async def test_what_was_destroyed_comes_back(copy: Copy, statement: str) -> None:
    copy.server.sql(statement, copy.database)
    # The materialized view is not asked for: it is made again where it was taken.
    assert dump_of(copy.server, copy.database) != copy.before
    plan = await copy.in_place.plan()
    assert not plan.conflicts
    assert not plan.does_nothing
    await copy.restore()
    assert len(copy.copied) == 1
    await copy.assert_as_before()
    # Once more changes nothing, although all oids are new.
    assert (await copy.in_place.plan()).does_nothing
    assert (await copy.restore()).startswith("nothing to do")


MEAL = pytest.mark.parametrize("copy", [["zoo.meal"]], indirect=True)


@MEAL
@pytest.mark.parametrize(
    ("since", "says"),
    [
        ("DROP TABLE zoo.meal CASCADE; CREATE TABLE zoo.meal (other integer)", "is there, and is not the one of the copy"),
        ("DROP TABLE zoo.meal CASCADE; CREATE VIEW zoo.meal AS SELECT 1", "is there, and is not the one of the copy"),
        ("ALTER TABLE zoo.meal RENAME TO moved", "was renamed to"),
        ("DELETE FROM zoo.meal; CREATE VIEW zoo.since AS SELECT * FROM zoo.meal", "made since the copy"),
        (
            "DELETE FROM zoo.meal; CREATE FUNCTION zoo.since() RETURNS SETOF zoo.meal LANGUAGE sql AS 'SELECT * FROM zoo.meal'",
            "made since the copy",
        ),
        ("DROP TABLE zoo.meal CASCADE; DELETE FROM zoo.animal WHERE id = 5", "violates foreign key"),
        ("DROP TABLE zoo.meal CASCADE; DROP TABLE zoo.animal CASCADE", r"violates foreign key|the copy has no rows of it"),
    ],
)
async def test_what_is_in_the_way_changes_nothing(copy: Copy, since: str, says: str) -> None:
    copy.server.sql(since, copy.database)
    before = dump_of(copy.server, copy.database)
    with pytest.raises((RestoreError, ControlError), match=says):
        await copy.restore()
    assert dump_of(copy.server, copy.database) == before


@MEAL
async def test_what_belongs_to_a_replaced_table_becomes_what_it_was(copy: Copy) -> None:
    copy.server.sql("DELETE FROM zoo.meal; CREATE INDEX since ON zoo.meal (what); COMMENT ON TABLE zoo.meal IS 'since'", copy.database)
    await copy.restore()
    await copy.assert_as_before()


@MEAL
async def test_a_session_that_is_killed_at_any_step_changes_nothing(copy: Copy) -> None:
    copy.server.sql("DELETE FROM zoo.meal", copy.database)
    before = dump_of(copy.server, copy.database)
    steps: list[str] = []
    await_all = [
        "restoring: definitions",
        "restoring: rows of table 1 of 1",
        "restoring: indexes, constraints and what depends on them",
        "comparing: table 1 of 1",
    ]
    for step in await_all:

        def kill(text: str, step: str = step) -> None:
            steps.append(text)
            if text == step:
                found = copy.server.sql(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pghold' AND datname = 'zoo_restore'"
                )
                assert found == [(True,)]

        with pytest.raises((ControlError, psycopg.Error)):
            await copy.in_place.run(copy.protect, kill)
        assert dump_of(copy.server, copy.database) == before
    assert set(await_all) <= set(steps)
    await copy.restore()
    await copy.assert_as_before()


@MEAL
async def test_a_copy_that_fails_lets_nothing_be_dropped(copy: Copy) -> None:
    copy.server.sql("DELETE FROM zoo.meal", copy.database)
    before = dump_of(copy.server, copy.database)

    async def protect(script: str) -> None:
        assert script == 'DROP TABLE "zoo"."meal" CASCADE'
        raise ProtectError("the disk is full")

    with pytest.raises(ProtectError):
        await copy.in_place.run(protect, lambda text: None)
    assert dump_of(copy.server, copy.database) == before


@MEAL
async def test_a_role_without_rights_changes_nothing(copy: Copy) -> None:
    copy.server.sql("ALTER ROLE zoo_reader LOGIN")
    copy.server.sql("DELETE FROM zoo.meal", copy.database)
    before = dump_of(copy.server, copy.database)
    control = Control(Upstream(host="127.0.0.1", port=copy.server.port, user="zoo_reader", password=""), 5)
    with pytest.raises(ControlError, match=r"permission denied|must be owner"):
        await InPlace(control, copy.database, copy.archive, copy.tables).run(copy.protect, lambda text: None)
    assert dump_of(copy.server, copy.database) == before


@MEAL
async def test_a_damaged_archive_changes_nothing(copy: Copy) -> None:
    copy.server.sql("DROP TABLE zoo.meal CASCADE", copy.database)
    before = dump_of(copy.server, copy.database)
    whole = copy.archive.path.read_bytes()
    for at in (100, len(whole) // 4, len(whole) // 2):
        copy.archive.path.write_bytes(whole[:at])
        with pytest.raises((RestoreError, ArchiveError, ControlError)):
            await InPlace(copy.control, copy.database, Archive(copy.archive.path), copy.tables).run(copy.protect, lambda text: None)
        assert dump_of(copy.server, copy.database) == before


@MEAL
async def test_a_manifest_that_is_not_the_archives_changes_nothing(copy: Copy) -> None:
    copy.server.sql("DROP TABLE zoo.meal CASCADE", copy.database)
    before = dump_of(copy.server, copy.database)
    wrong = [CopiedTable(t.name, t.rows, 0, "1:" + "0" * 32) for t in copy.tables]
    with pytest.raises(RestoreError, match="has other content"):
        await InPlace(copy.control, copy.database, copy.archive, wrong).run(copy.protect, lambda text: None)
    assert dump_of(copy.server, copy.database) == before
