"""Soft drop on real servers: what goes, comes back, and what is left to the usual copy."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
import pytest

from proxy.backups.errands import ErrandError
from proxy.backups.model import BackupState, CopyPlan
from proxy.backups.undoing import ConflictError, Conflicts
from proxy.model import Decision, Hold, HoldState
from proxy.store.trash import TrashState
from tests.equality import dump_of, load_zoo
from tests.office import ANA, Office, office
from tests.servers import PostgresServer


@pytest.fixture(params=["15", "18"])
def server(request: pytest.FixtureRequest, postgres15: PostgresServer, postgres18: PostgresServer) -> PostgresServer:
    return postgres15 if request.param == "15" else postgres18


@pytest.fixture
async def zoo(server: PostgresServer, tmp_path: Path) -> AsyncIterator[Office]:
    load_zoo(server, "softdrop")
    async with office(server, "softdrop", tmp_path / "data") as made:
        yield made


async def planned(at: Office, script: str, *names: str, role: str = "postgres") -> tuple[Hold, CopyPlan | None]:
    hold = await at.hold(script, role=role)
    return hold, await at.trash.plan(at.order(hold, *names))


async def dropped(at: Office, script: str, *names: str, role: str = "postgres") -> Hold:
    """Soft-drop as the session would, and end the hold."""
    hold, plan = await planned(at, script, *names, role=role)
    assert plan is not None, at.logged
    assert plan.substitute is not None
    assert plan.substitute.sql.isascii()
    with at.connect() as connection:
        connection.execute(f'SET ROLE "{role}"')
        connection.execute("SET search_path = zoo, public")
        connection.execute(plan.substitute.sql)
        assert connection.execute("SHOW search_path").fetchone() == ("zoo, public",)
    await at.book.move(hold.id, HoldState.DONE, "DROP TABLE")
    return hold


async def taken_back(at: Office, hold: Hold, conflicts: Conflicts = Conflicts.ABORT) -> Hold:
    return await at.approve(await at.undo.submit(hold.id, ANA, conflicts=conflicts))


@pytest.mark.parametrize(
    ("script", "names"),
    [
        ("DROP TABLE public.plain", ["public.plain"]),
        ("DROP TABLE IF EXISTS zoo.visit", ["zoo.visit"]),
        ("DROP TABLE zoo.house CASCADE", ["zoo.house"]),
        ("DROP TABLE zoo.big, zoo.twice, zoo.unlogged, zoo.nothing", ["zoo.big", "zoo.twice", "zoo.unlogged", "zoo.nothing"]),
        ('DROP TABLE "odd ""schema""; name"."table ""with"" \'all\', $1; --"', ['"odd ""schema""; name"."table ""with"" \'all\', $1; --"']),
        ('DROP TABLE "odd ""schema""; name"."line\nbreak"', ['"odd ""schema""; name"."line\nbreak"']),
        (
            'DROP TABLE zoo."sixty_three_bytes_long_name_of_a_table_that_goes_up_to_the_limit"',
            ['zoo."sixty_three_bytes_long_name_of_a_table_that_goes_up_to_the_limit"'],
        ),
    ],
    ids=["serial", "keys", "cascade", "several", "odd name", "line break", "63 bytes"],
)
async def test_what_was_dropped_comes_back_as_it_was(zoo: Office, script: str, names: list[str]) -> None:
    before = dump_of(zoo.server, "softdrop")
    hold = await dropped(zoo, script, *names)
    for name in names:
        with zoo.connect() as connection:
            assert connection.execute("SELECT to_regclass(%s)", [name]).fetchone() == (None,)
    assert dump_of(zoo.server, "softdrop") != before
    report = await zoo.undo.report(hold.id)
    assert not report.conflicts
    undo = await taken_back(zoo, hold)
    assert undo.state is HoldState.DONE, undo.outcome
    assert dump_of(zoo.server, "softdrop") == before
    [backup] = await zoo.backups.find(hold_id=hold.id)
    assert backup.state is BackupState.REMOVED
    assert "given back" in zoo.events()
    with pytest.raises(ErrandError):
        await zoo.undo.report(hold.id)


@pytest.mark.parametrize(
    ("script", "names", "why"),
    [
        ("DROP TABLE zoo.house", ["zoo.house"], "without CASCADE"),
        ("DROP TABLE zoo.log CASCADE", ["zoo.log"], "depends on it|no ordinary table"),
        ("DROP TABLE zoo.log_2026", ["zoo.log_2026"], "depends on it|no ordinary table"),
        ("DROP TABLE zoo.base CASCADE", ["zoo.base"], "depends on it|no ordinary table"),
        ("DROP TABLE zoo.derived", ["zoo.derived"], "no ordinary table"),
        ("DROP TABLE zoo.animal CASCADE", ["zoo.animal"], "depends on it"),
        ("DROP TABLE zoo.meal CASCADE", ["zoo.meal"], "proc depends on it"),
        ("DROP TABLE zoo.keeper CASCADE", ["zoo.keeper"], "publication"),
    ],
)
async def test_what_cannot_be_brought_back_exactly_is_left_to_the_usual_copy(zoo: Office, script: str, names: list[str], why: str) -> None:
    _, plan = await planned(zoo, script, *names)
    assert plan is None
    [told] = zoo.logged
    import re

    assert re.search(why, told["why"]), told
    assert zoo.sql("SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'pghold_trash%'") == [(0,)]


async def test_other_statements_are_no_soft_drop(zoo: Office) -> None:
    for script in ("TRUNCATE public.plain", "DROP TABLE public.plain; SELECT 1", "DROP VIEW zoo.loud_view", "DELETE FROM public.plain"):
        hold = await zoo.hold(script)
        assert await zoo.trash.plan(zoo.order(hold, "public.plain")) is None


async def test_a_transaction_that_is_rolled_back_has_moved_nothing(zoo: Office) -> None:
    before = dump_of(zoo.server, "softdrop")
    hold, plan = await planned(zoo, "DROP TABLE zoo.house CASCADE", "zoo.house")
    assert plan is not None
    assert plan.substitute is not None
    with zoo.connect() as connection:
        connection.execute("BEGIN")
        connection.execute(plan.substitute.sql)
        await zoo.book.move(hold.id, HoldState.DONE, "DROP TABLE")
        [item] = await zoo.trash.items.find(hold_id=hold.id)
        # The transaction is open: nobody can tell yet.
        assert (await zoo.trash.settle(item)).state is TrashState.PLANNED
        connection.execute("ROLLBACK")
    with pytest.raises(ErrandError, match="not in the trash"):
        await zoo.undo.report(hold.id)
    zoo.sql(f"DROP SCHEMA {item.move.trash}")
    assert dump_of(zoo.server, "softdrop") == before


async def test_a_statement_that_fails_leaves_nothing_behind(zoo: Office) -> None:
    hold, plan = await planned(zoo, "DROP TABLE zoo.house CASCADE", "zoo.house")
    assert plan is not None
    assert plan.substitute is not None
    # Something that depends on it comes in between: what was planned is not what would be dropped now.
    zoo.sql("CREATE VIEW zoo.late AS SELECT * FROM zoo.house")
    with zoo.connect() as connection, pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
        connection.execute(plan.substitute.sql)
    await zoo.book.move(hold.id, HoldState.FAILED, "55000")
    [item] = await zoo.trash.items.find(hold_id=hold.id)
    assert (await zoo.trash.settle(item)).state is TrashState.VOID
    assert zoo.sql("SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'pghold_trash%'") == [(0,)]
    assert zoo.sql("SELECT count(*) FROM zoo.house") == [(3,)]


async def test_an_application_role_drops_its_own_table_and_cannot_reach_it_any_more(zoo: Office) -> None:
    zoo.sql(
        'CREATE TABLE zoo."its own" (id int PRIMARY KEY); INSERT INTO zoo."its own" VALUES (1); ALTER TABLE zoo."its own" OWNER TO "zoo owner"'
    )
    before = dump_of(zoo.server, "softdrop")
    hold = await dropped(zoo, 'DROP TABLE zoo."its own"', 'zoo."its own"', role="zoo owner")
    [item] = await zoo.trash.items.find(hold_id=hold.id)
    await zoo.trash.settle(item)
    with zoo.connect() as connection:
        connection.execute('SET ROLE "zoo owner"')
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(f'SELECT * FROM {item.move.trash}."its own"')
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(f"CREATE TABLE {item.move.trash}.mine (id int)")
        # The name is free again, with all that belonged to it.
        connection.execute('CREATE TABLE zoo."its own" (id int PRIMARY KEY); DROP TABLE zoo."its own"')
    assert (await taken_back(zoo, hold)).state is HoldState.DONE
    assert dump_of(zoo.server, "softdrop") == before


async def test_a_table_of_somebody_else_is_left_to_postgresqls_own_error(zoo: Office) -> None:
    _, plan = await planned(zoo, "DROP TABLE public.plain", "public.plain", role="zoo owner")
    assert plan is None
    assert "not owned" in zoo.logged[0]["why"]


async def test_a_name_that_is_taken_again_is_a_conflict(zoo: Office) -> None:
    hold = await dropped(zoo, "DROP TABLE public.plain", "public.plain")
    zoo.sql("CREATE TABLE public.plain (other int)")
    report = await zoo.undo.report(hold.id)
    assert [c.kind for c in report.conflicts] == ["name"]
    for way in Conflicts:
        with pytest.raises(ConflictError, match="plain"):
            await zoo.undo.submit(hold.id, ANA, conflicts=way)
    zoo.sql("ALTER TABLE public.plain RENAME TO other")
    assert (await taken_back(zoo, hold)).state is HoldState.DONE
    assert zoo.sql("SELECT count(*) FROM public.plain") == [(50,)]


async def test_the_name_is_taken_between_the_report_and_the_approval(zoo: Office) -> None:
    hold = await dropped(zoo, "DROP TABLE public.plain", "public.plain")
    undo = await zoo.undo.submit(hold.id, ANA)
    zoo.sql("CREATE TABLE public.plain (other int)")
    ended = await zoo.approve(undo)
    assert ended.state is HoldState.FAILED
    assert "again" in str(ended.outcome)
    zoo.sql("DROP TABLE public.plain")
    assert (await taken_back(zoo, hold)).state is HoldState.DONE


async def test_a_foreign_key_whose_rows_have_changed_since(zoo: Office) -> None:
    hold = await dropped(zoo, "DROP TABLE zoo.visit", "zoo.visit")
    # The rows in the trash hold nothing back: it is as if they were gone.
    zoo.sql("TRUNCATE zoo.meal")
    zoo.sql("DELETE FROM zoo.animal WHERE id % 2 = 0")
    failed = await taken_back(zoo, hold)
    assert failed.state is HoldState.FAILED
    assert "visit_animal_fkey" in str(failed.outcome)
    assert zoo.sql("SELECT to_regclass('zoo.visit')") == [(None,)]
    done = await taken_back(zoo, hold, Conflicts.SKIP)
    assert done.state is HoldState.DONE
    assert "without the foreign keys visit_animal_fkey" in str(done.outcome)
    assert zoo.sql("SELECT conname FROM pg_constraint WHERE conrelid = 'zoo.visit'::regclass AND contype = 'f'") == [
        ("visit_follows_fkey",)
    ]


async def test_a_view_that_went_along_comes_back_and_works(zoo: Office) -> None:
    hold = await dropped(zoo, "DROP TABLE zoo.house CASCADE", "zoo.house")
    assert zoo.sql("SELECT to_regclass('zoo.keeper_houses')") == [(None,)]
    assert (await taken_back(zoo, hold)).state is HoldState.DONE
    assert zoo.sql("SELECT count(*) FROM zoo.keeper_houses") == [(3,)]


async def test_purge_is_held_and_then_final(zoo: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    hold = await dropped(zoo, "DROP TABLE zoo.house CASCADE", "zoo.house")
    [item] = await zoo.trash.items.find(hold_id=hold.id)
    item = await zoo.trash.settle(item)
    assert item.state is TrashState.KEPT
    assert await zoo.trash.propose_purge() == []  # not due
    purge = await zoo.errands.submit(zoo.trash.purge([item]), ANA)
    assert purge.request.findings[0].irreversible
    ended = await zoo.approve(purge)
    assert ended.state is HoldState.DONE, ended.outcome
    assert "unprotected" in zoo.events()  # no protector is wired here
    assert zoo.sql("SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'pghold_trash%'") == [(0,)]
    with pytest.raises(ErrandError):
        await zoo.undo.report(hold.id)


async def test_what_is_due_is_proposed_once_a_day(server: PostgresServer, tmp_path: Path) -> None:
    load_zoo(server, "softdrop")
    async with office(server, "softdrop", tmp_path / "data", soft_drop_days=1e-9) as at:
        hold = await dropped(at, "DROP TABLE public.plain", "public.plain")
        [item] = await at.trash.items.find(hold_id=hold.id)
        await at.trash.settle(item)
        [purge] = await at.trash.propose_purge()
        assert purge.request.rule_ids == ("purge",)
        assert f'DROP TABLE "{item.move.trash}"."plain";' in purge.request.script
        assert await at.trash.propose_purge() == []
        await at.book.decide(purge.id, Decision(False, "ana", "not yet", purge.created_at))
        assert await at.trash.propose_purge() == []
        assert (await taken_back(at, hold)).state is HoldState.DONE


async def test_a_control_role_that_may_make_no_schema(server: PostgresServer, tmp_path: Path) -> None:
    load_zoo(server, "softdrop")
    server.sql("DROP ROLE IF EXISTS softdrop_weak; CREATE ROLE softdrop_weak LOGIN")
    async with office(server, "softdrop", tmp_path / "data", user="softdrop_weak") as at:
        _, plan = await planned(at, "DROP TABLE public.plain", "public.plain")
        assert plan is None
        assert "permission denied for database" in at.logged[0]["why"]
    server.sql("DROP ROLE softdrop_weak")


async def test_the_schema_of_somebody_else_is_left_alone(zoo: Office) -> None:
    zoo.sql("CREATE SCHEMA pghold_trash_1; CREATE TABLE pghold_trash_1.plain ()")
    hold = await dropped(zoo, "DROP TABLE public.plain", "public.plain")
    [item] = await zoo.trash.items.find(hold_id=hold.id)
    assert item.move.trash == "pghold_trash_1_2"
    assert (await taken_back(zoo, hold)).state is HoldState.DONE
    assert zoo.sql("SELECT to_regclass('pghold_trash_1.plain') IS NULL") == [(False,)]


async def test_a_table_that_is_locked_is_not_waited_for_for_ever(zoo: Office) -> None:
    hold = await dropped(zoo, "DROP TABLE public.plain", "public.plain")
    [item] = await zoo.trash.items.find(hold_id=hold.id)
    await zoo.trash.settle(item)
    with zoo.connect() as connection:
        connection.execute("BEGIN")
        connection.execute(f"SELECT * FROM {item.move.trash}.plain LIMIT 1")
        ended = await taken_back(zoo, hold)
        assert ended.state is HoldState.FAILED
        assert "lock timeout" in str(ended.outcome)
    assert (await taken_back(zoo, hold)).state is HoldState.DONE
