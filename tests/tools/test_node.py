"""Sequelize, TypeORM and Knex run their destructive commands through pghold."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tools.stage import Stage

FOLDER = Path(__file__).parents[1] / "node" / "tools"
FILLED = (
    "INSERT INTO category (name) SELECT 'c' || g FROM generate_series(1, 7) g",
    "INSERT INTO customer (name) SELECT 'c' || g FROM generate_series(1, 5) g",
)


def script(name: str, command: str) -> list[str]:
    return ["node", f"{name}.mjs", command]


def filled(stage: Stage, name: str) -> None:
    stage.run(script(name, "sync"), FOLDER, through=False)
    for statement in FILLED:
        stage.server.sql(statement, stage.database)


@pytest.mark.parametrize(
    ("command", "title"),
    [("force", r"Sequelize force sync of \d+ tables"), ("drop", r"Sequelize drop of up to \d+ tables")],
)
def test_sequelize(stage: Stage, command: str, title: str) -> None:
    hold = stage.is_one_act(lambda: filled(stage, "sequelize"), script("sequelize", command), FOLDER, title)
    # They were never analysed: the counts come from pghold's own look.
    rows = {t["name"]: t["rows"] for t in hold["act"]["tables"]}
    assert rows["public.category"] == 7
    assert rows["public.customer"] == 5
    assert len(rows) >= 12


def test_sequelize_in_production(production: Stage) -> None:
    production.is_refused(lambda: filled(production, "sequelize"), script("sequelize", "force"), FOLDER)


def test_ordinary_commands_of_sequelize_pass(stage: Stage) -> None:
    stage.rebuild()
    for command in ("sync", "use", "sync"):
        code, out = stage.end(stage.start(script("sequelize", command), FOLDER))
        assert code == 0, out


@pytest.mark.parametrize("command", ["drop-schema", "rebuild", "drop-database"])
def test_typeorm(stage: Stage, command: str) -> None:
    stage.is_one_act(lambda: filled(stage, "typeorm"), script("typeorm", command), FOLDER, r"TypeORM schema drop of \d+ tables")


def test_typeorm_synchronization_with_less(stage: Stage) -> None:
    stage.is_one_act(lambda: filled(stage, "typeorm"), script("typeorm", "narrow"), FOLDER, r"TypeORM synchronization of up to \d+ tables")


def test_typeorm_in_production(production: Stage) -> None:
    production.is_refused(lambda: filled(production, "typeorm"), script("typeorm", "drop-schema"), FOLDER)


def test_ordinary_commands_of_typeorm_pass(stage: Stage) -> None:
    stage.rebuild()
    for command in ("sync", "use", "sync"):
        code, out = stage.end(stage.start(script("typeorm", command), FOLDER))
        assert code == 0, out


KNEX = ["node", "../../node_modules/knex/bin/cli.js"]


def test_knex_rollback_of_everything(stage: Stage) -> None:
    folder = FOLDER / "knex"

    def migrated() -> None:
        stage.run([*KNEX, "migrate:latest"], folder, through=False)

    def unlocked() -> None:
        """What gives the lock back belongs to what was denied."""
        stage.run([*KNEX, "migrate:unlock"], folder, through=False)

    stage.is_one_act(migrated, [*KNEX, "migrate:rollback", "--all"], folder, r"Knex rollback of up to \d+ tables", unlocked)


def test_knex_migration_is_held_once(stage: Stage) -> None:
    """It ends with an UPDATE without WHERE, of its lock."""
    stage.rebuild()
    process = stage.start([*KNEX, "migrate:latest"], FOLDER / "knex")
    hold = stage.hold(process)
    assert hold["rule_ids"] == ["update-without-where"]
    assert hold["act"]["tool"] == "Knex"
    assert stage.proxy.approve(hold["id"]).status_code == 200
    code, out = stage.end(process)
    assert code == 0, out
    assert len(stage.contents()) > 10


def test_knex_migration_that_drops(stage: Stage) -> None:
    folder = FOLDER / "knex"

    def migrated() -> None:
        stage.run([*KNEX, "migrate:latest"], folder, through=False)

    def unlocked() -> None:
        stage.run([*KNEX, "migrate:unlock"], folder, through=False)

    title = r"Knex migration of up to \d+ tables"
    stage.is_one_act(migrated, [*KNEX, "migrate:latest"], folder, title, unlocked, MIGRATIONS="./narrowing")
