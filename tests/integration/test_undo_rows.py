"""Rows put back on real servers, and what may be in the way."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.backups.errands import ErrandError
from proxy.backups.undoing import ConflictError, Conflicts
from proxy.model import Hold, HoldState
from tests.equality import dump_of, load_zoo
from tests.office import ANA, Office, office
from tests.servers import PostgresServer

ABORT, SKIP, OVERWRITE = Conflicts


@pytest.fixture(params=["15", "18"])
def server(request: pytest.FixtureRequest, postgres15: PostgresServer, postgres18: PostgresServer) -> PostgresServer:
    return postgres15 if request.param == "15" else postgres18


@pytest.fixture
async def zoo(server: PostgresServer, tmp_path: Path) -> AsyncIterator[Office]:
    load_zoo(server, "undo")
    async with office(server, "undo", tmp_path / "data") as made:
        yield made


@pytest.fixture
async def plain(server: PostgresServer, tmp_path: Path) -> AsyncIterator[Office]:
    """Tables made for the test, in a small database."""
    server.sql("DROP DATABASE IF EXISTS undo_plain WITH (FORCE)")
    server.sql("CREATE DATABASE undo_plain TEMPLATE template0")
    async with office(server, "undo_plain", tmp_path / "data") as made:
        made.sql(
            """CREATE TABLE parent (id int PRIMARY KEY);
            CREATE TABLE t (id int PRIMARY KEY, parent int REFERENCES parent, boss int REFERENCES t, email text UNIQUE, note text, at timestamptz);
            INSERT INTO parent SELECT generate_series(1, 3);
            INSERT INTO t SELECT g, g % 3 + 1, NULLIF(g - 1, 0), 'mail' || g, 'note ' || g, '2026-01-01' FROM generate_series(1, 10) g"""
        )
        yield made


async def destroyed(at: Office, script: str, relation: str, where: str) -> Hold:
    """Copy the rows, then run the script, as a session would."""
    hold = await at.hold(script)
    await at.keep_rows(hold, relation, f"SELECT t.tableoid::pg_catalog.regclass, t.* FROM {relation} t WHERE {where}")
    at.sql(script)
    await at.book.move(hold.id, HoldState.DONE, "done")
    return hold


async def taken_back(at: Office, hold: Hold, conflicts: Conflicts = ABORT) -> Hold:
    return await at.approve(await at.undo.submit(hold.id, ANA, conflicts=conflicts))


def table(at: Office) -> list[tuple[int, str]]:
    return at.sql("SELECT id, concat_ws('|', parent, boss, email, note, at) FROM t ORDER BY id")


@pytest.mark.parametrize(
    ("script", "relation", "where"),
    [
        ("DELETE FROM zoo.visit WHERE id > 3", "zoo.visit", "id > 3"),
        ("DELETE FROM zoo.log WHERE level < 4 AND level <> 3", "zoo.log", "level < 4 AND level <> 3"),
        ("DELETE FROM zoo.twice WHERE a = 'x'", "zoo.twice", "a = 'x'"),
        ("UPDATE zoo.big SET body = '', raw = NULL WHERE id < 5", "zoo.big", "id < 5"),
        ("UPDATE zoo.log SET message = NULL WHERE level = 2", "zoo.log", "level = 2"),
        ("UPDATE zoo.keeper SET name = name || '!' WHERE id < 9", "zoo.keeper", "id < 9"),
        (
            'UPDATE "odd ""schema""; name"."table ""with"" \'all\', $1; --" SET "a.b" = NULL, "späce é" = $$%s {n}$$ WHERE "select" = 1',
            '"odd ""schema""; name"."table ""with"" \'all\', $1; --"',
            '"select" = 1',
        ),
    ],
    ids=["delete", "partitions", "no key", "toast", "update partitions", "unique", "odd names"],
)
async def test_a_database_is_as_it_was(zoo: Office, script: str, relation: str, where: str) -> None:
    before = dump_of(zoo.server, "undo")
    hold = await destroyed(zoo, script, relation, where)
    assert dump_of(zoo.server, "undo") != before
    report = await zoo.undo.report(hold.id)
    assert not report.conflicts, report.conflicts
    ended = await taken_back(zoo, hold)
    assert ended.state is HoldState.DONE, ended.outcome
    assert dump_of(zoo.server, "undo") == before


async def test_every_type_of_value_comes_back(zoo: Office) -> None:
    zoo.sql("TRUNCATE zoo.meal, zoo.visit; DROP RULE animal_no_delete ON zoo.animal")
    before = dump_of(zoo.server, "undo")
    hold = await destroyed(zoo, "DELETE FROM zoo.animal WHERE id > 20", "zoo.animal", "id > 20")
    ended = await taken_back(zoo, hold)
    assert ended.state is HoldState.DONE, ended.outcome
    assert dump_of(zoo.server, "undo") == before

    hold = await destroyed(
        zoo, "UPDATE zoo.animal SET name = 'x', facts = NULL, homes = NULL, weight = 1 WHERE id > 20", "zoo.animal", "id > 20"
    )
    ended = await taken_back(zoo, hold)
    assert ended.state is HoldState.DONE, ended.outcome
    assert dump_of(zoo.server, "undo") == before


async def test_nothing_is_done_by_a_report_or_before_the_approval(plain: Office) -> None:
    hold = await destroyed(plain, "DELETE FROM t WHERE id = 10", "public.t", "id = 10")
    before = table(plain)
    await plain.undo.report(hold.id)
    undo = await plain.undo.submit(hold.id, ANA)
    assert table(plain) == before
    assert "INSERT INTO public.t" in undo.request.script
    assert "1 row" in undo.request.script
    assert undo.request.rule_ids == ("undo",)


async def test_rows_that_are_there_again(plain: Office) -> None:
    was = table(plain)
    hold = await destroyed(plain, "DELETE FROM t WHERE id >= 9", "public.t", "id >= 9")
    plain.sql("INSERT INTO t VALUES (9, 1, NULL, 'new', 'mine', NULL)")
    report = await plain.undo.report(hold.id)
    assert [(c.kind, c.rows) for c in report.conflicts] == [("exists", 1)]
    with pytest.raises(ConflictError, match="there again"):
        await plain.undo.submit(hold.id, ANA)

    skipped = await taken_back(plain, hold, SKIP)
    assert skipped.state is HoldState.DONE, skipped.outcome
    assert skipped.outcome == "1 rows inserted again, 1 rows left out"
    assert plain.sql("SELECT note FROM t WHERE id >= 9 ORDER BY id") == [("mine",), ("note 10",)]

    plain.sql("DELETE FROM t WHERE id = 10")
    over = await taken_back(plain, hold, OVERWRITE)
    assert over.outcome == "1 rows inserted again, 1 rows set back"
    assert table(plain) == was


async def test_parents_that_are_gone(plain: Office) -> None:
    hold = await destroyed(plain, "DELETE FROM t WHERE id >= 8", "public.t", "id >= 8")
    plain.sql("UPDATE t SET parent = 1; DELETE FROM parent WHERE id = 3")
    report = await plain.undo.report(hold.id)
    assert [(c.kind, c.rows, c.may_overwrite) for c in report.conflicts] == [("parent", 1, False)]
    with pytest.raises(ConflictError):
        await plain.undo.submit(hold.id, ANA, conflicts=OVERWRITE)
    # 8 refers to the parent that is gone, 9 to 8, 10 to 9: nothing is left.
    ended = await taken_back(plain, hold, SKIP)
    assert ended.outcome == "3 rows left out"


async def test_a_value_that_is_taken_by_another_row(plain: Office) -> None:
    hold = await destroyed(plain, "DELETE FROM t WHERE id >= 9", "public.t", "id >= 9")
    plain.sql("INSERT INTO t VALUES (11, 1, NULL, 'mail10', 'other', NULL)")
    report = await plain.undo.report(hold.id)
    assert [(c.kind, c.rows) for c in report.conflicts] == [("unique", 1)]
    ended = await taken_back(plain, hold, SKIP)
    assert ended.outcome == "1 rows inserted again, 1 rows left out"


async def test_an_updates_rows_that_changed_or_went_since(plain: Office) -> None:
    was = table(plain)
    hold = await destroyed(plain, "UPDATE t SET note = '' WHERE id <= 4", "public.t", "id <= 4")
    plain.sql("UPDATE t SET at = now() WHERE id = 2")
    plain.sql("UPDATE t SET boss = NULL WHERE id = 5; DELETE FROM t WHERE id = 4")
    report = await plain.undo.report(hold.id)
    assert sorted((c.kind, c.rows) for c in report.conflicts) == [("changed", 1), ("deleted", 1)]
    assert "at" in next(c.text for c in report.conflicts if c.kind == "changed")

    ended = await taken_back(plain, hold, SKIP)
    assert ended.outcome == "2 rows set back, 2 rows left out"
    assert plain.sql("SELECT note FROM t WHERE id <= 4 ORDER BY id") == [("note 1",), ("",), ("note 3",)]

    over = await taken_back(plain, hold, OVERWRITE)
    assert over.outcome == "1 rows inserted again, 3 rows set back"
    plain.sql("UPDATE t SET boss = 4 WHERE id = 5")
    assert table(plain) == was


async def test_values_that_were_swapped_are_swapped_back(plain: Office) -> None:
    plain.sql("ALTER TABLE t DROP CONSTRAINT t_email_key, ADD UNIQUE (email) DEFERRABLE")
    was = table(plain)
    script = "UPDATE t SET email = 'mail' || (3 - id) WHERE id IN (1, 2)"
    hold = await destroyed(plain, script, "public.t", "id IN (1, 2)")
    assert not (await plain.undo.report(hold.id)).conflicts
    assert (await taken_back(plain, hold)).state is HoldState.DONE
    assert table(plain) == was


async def test_what_is_in_the_way_comes_after_the_report(plain: Office) -> None:
    hold = await destroyed(plain, "DELETE FROM t WHERE id >= 9", "public.t", "id >= 9")
    undo = await plain.undo.submit(hold.id, ANA)
    plain.sql("INSERT INTO t (id) VALUES (9)")
    before = table(plain)
    ended = await plain.approve(undo)
    assert ended.state is HoldState.DENIED
    assert "has changed since" in str(ended.outcome)
    assert table(plain) == before


async def test_the_table_is_another_now(plain: Office) -> None:
    hold = await destroyed(plain, "DELETE FROM t WHERE id >= 9", "public.t", "id >= 9")
    plain.sql("ALTER TABLE t ADD COLUMN fresh int DEFAULT 5, ADD COLUMN doubled int GENERATED ALWAYS AS (id * 2) STORED")
    report = await plain.undo.report(hold.id)
    assert not report.conflicts
    assert any("fresh" in note for note in report.notes)

    plain.sql("ALTER TABLE t ALTER COLUMN note TYPE int USING 1")
    report = await plain.undo.report(hold.id)
    assert [c.kind for c in report.conflicts] == ["columns"]
    plain.sql("ALTER TABLE t DROP COLUMN note")
    report = await plain.undo.report(hold.id)
    assert "note" in report.conflicts[0].text
    for way in Conflicts:
        with pytest.raises(ConflictError):
            await plain.undo.submit(hold.id, ANA, conflicts=way)
    plain.sql("DROP TABLE t")
    with pytest.raises(ErrandError, match="pghold restore"):
        await plain.undo.report(hold.id)


async def test_without_a_key_an_update_cannot_be_undone(plain: Office) -> None:
    plain.sql("CREATE TABLE nokey (id int, v text); INSERT INTO nokey VALUES (1, 'a'), (1, 'a')")
    hold = await destroyed(plain, "UPDATE nokey SET v = '' WHERE id = 1", "public.nokey", "id = 1")
    with pytest.raises(ErrandError, match="no key"):
        await plain.undo.report(hold.id)
    hold = await destroyed(plain, "UPDATE t SET id = id + 100 WHERE id = 10", "public.t", "id = 10")
    with pytest.raises(ErrandError, match="changed the key"):
        await plain.undo.report(hold.id)


async def test_a_trigger_that_swallows_rows_undoes_the_undo(plain: Office) -> None:
    hold = await destroyed(plain, "DELETE FROM t WHERE id >= 9", "public.t", "id >= 9")
    plain.sql(
        "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN IF NEW.id = 10 THEN RETURN NULL; END IF; RETURN NEW; END';"
        "CREATE TRIGGER no BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION no()"
    )
    assert any("no" in n for n in (await plain.undo.report(hold.id)).notes)
    before = table(plain)
    ended = await taken_back(plain, hold)
    assert ended.state is HoldState.FAILED
    assert table(plain) == before


async def test_an_undo_is_undone(plain: Office) -> None:
    hold = await destroyed(plain, "UPDATE t SET note = 'after' WHERE id <= 4", "public.t", "id <= 4")
    after = table(plain)
    undo = await taken_back(plain, hold)
    assert undo.copy is not None
    assert undo.copy.state == "done"
    assert table(plain) != after
    assert plain.keeper.ended_with == [("4 rows set back", False)]
    again = await taken_back(plain, undo)
    assert again.outcome == "4 rows set back"
    assert table(plain) == after


async def test_no_row_is_overwritten_without_a_copy(plain: Office) -> None:
    hold = await destroyed(plain, "UPDATE t SET note = 'after' WHERE id <= 4", "public.t", "id <= 4")
    after = table(plain)
    plain.keeper.fails = "the disk is full"
    ended = await taken_back(plain, hold)
    assert ended.state is HoldState.DENIED
    assert "the disk is full" in str(ended.outcome)
    assert table(plain) == after


async def test_merge_and_upsert(plain: Office) -> None:
    was = table(plain)
    script = "INSERT INTO t SELECT g, 1, NULL, 'up' || g, 'up', NULL FROM generate_series(9, 10) g ON CONFLICT (id) DO UPDATE SET note = excluded.note"
    hold = await destroyed(plain, script, "public.t", "id IN (9, 10)")
    assert (await taken_back(plain, hold)).outcome == "2 rows set back"
    assert table(plain) == was
    script = "MERGE INTO t USING parent p ON t.id = p.id + 7 WHEN MATCHED AND t.id = 10 THEN DELETE WHEN MATCHED THEN UPDATE SET note = ''"
    hold = await destroyed(plain, script, "public.t", "id IN (8, 9, 10)")
    assert (await taken_back(plain, hold)).outcome == "1 rows inserted again, 2 rows set back"
    assert table(plain) == was


async def test_rows_of_children_are_not_mixed(zoo: Office) -> None:
    hold = await destroyed(zoo, "DELETE FROM zoo.base WHERE id > 1", "zoo.base", "id > 1")
    with pytest.raises(ErrandError, match="inherit"):
        await zoo.undo.report(hold.id)


async def test_a_copy_that_lost_rows_is_not_put_back(plain: Office) -> None:
    from dataclasses import replace

    hold = await destroyed(plain, "DELETE FROM t WHERE id >= 9", "public.t", "id >= 9")
    [(key, kept)] = plain.rows.items()
    plain.rows[key] = replace(kept, rows=3)
    with pytest.raises(ErrandError, match="should have 3 rows"):
        await plain.undo.report(hold.id)


async def test_code_of_the_tables_owner_runs_as_the_owner(plain: Office) -> None:
    plain.sql(
        """DROP ROLE IF EXISTS undo_mallory; CREATE ROLE undo_mallory;
        GRANT USAGE, CREATE ON SCHEMA public TO undo_mallory;
        CREATE TABLE seen (who text, what text); GRANT INSERT ON seen TO PUBLIC;
        CREATE FUNCTION tell(what text) RETURNS boolean LANGUAGE plpgsql AS
            'BEGIN INSERT INTO public.seen VALUES (current_user, what); RETURN true; END';
        CREATE FUNCTION tells() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM public.tell(TG_ARGV[0]); RETURN NEW; END';
        CREATE TYPE odd AS ENUM ('a', 'b');
        CREATE FUNCTION odd_text(odd) RETURNS text LANGUAGE plpgsql AS 'BEGIN PERFORM public.tell(''cast''); RETURN ''x''; END';
        CREATE CAST (odd AS text) WITH FUNCTION odd_text(odd);
        CREATE DOMAIN checked AS text CHECK (public.tell('domain ' || VALUE));
        CREATE TABLE trap (id int PRIMARY KEY, v text CHECK (public.tell('check')), o odd, d checked);
        INSERT INTO trap VALUES (1, 'one', 'a', 'd'), (2, 'two', 'b', 'd');
        CREATE TRIGGER t1 BEFORE INSERT OR UPDATE ON trap FOR EACH ROW EXECUTE FUNCTION tells('trigger');
        CREATE CONSTRAINT TRIGGER t2 AFTER INSERT OR UPDATE ON trap DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW EXECUTE FUNCTION tells('deferred');
        ALTER TABLE trap OWNER TO undo_mallory"""
    )
    for script in ("DELETE FROM trap WHERE id = 1", "UPDATE trap SET v = 'x' WHERE id = 2"):
        hold = await destroyed(plain, script, "public.trap", script.partition("WHERE ")[2])
        plain.sql("TRUNCATE seen")
        ended = await taken_back(plain, hold)
        assert ended.state is HoldState.DONE, ended.outcome
        seen = plain.sql("SELECT DISTINCT who FROM seen")
        assert seen == [("undo_mallory",)], plain.sql("SELECT * FROM seen")
        assert {what for (what,) in plain.sql("SELECT what FROM seen")} >= {"trigger", "deferred", "check"}
    plain.sql("DROP OWNED BY undo_mallory CASCADE; DROP ROLE undo_mallory")
