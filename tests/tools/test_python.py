"""SQLAlchemy, Alembic, Django, pg_restore and psql run their destructive commands through pghold."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.servers import embedded_bindir
from tests.tools.stage import Stage

PROJECTS = Path(__file__).parent / "projects"
DJANGO = [sys.executable, "manage.py"]
ALEMBIC = [sys.executable, "-m", "alembic"]


# --- dumps ----------------------------------------------------------------------------------------------------------


def program(name: str) -> str:
    return str(embedded_bindir() / name)


def dumped(stage: Stage, target: Path, *options: str) -> None:
    stage.run([program("psql"), "-q", "-v", "ON_ERROR_STOP=1", "-f", "shop.sql"], PROJECTS / "dump", through=False)
    stage.run([program("pg_dump"), *options, "-f", str(target)], target.parent, through=False)


# Without one of these pg_restore goes on after an error, denied or not, and copies rows into what is still there.
@pytest.mark.parametrize("options", [("--exit-on-error",), ("--if-exists", "--single-transaction")])
def test_pg_restore(stage: Stage, tmp_path: Path, options: tuple[str, ...]) -> None:
    target = tmp_path / "dump"
    command = [program("pg_restore"), "--clean", *options, "-d", stage.database, str(target)]
    title = r"pg_restore --clean of up to \d+ tables"
    stage.is_one_act(lambda: dumped(stage, target, "-Fc"), command, tmp_path, title)


def test_pg_restore_in_production(production: Stage, tmp_path: Path) -> None:
    target = tmp_path / "dump"
    command = [program("pg_restore"), "--clean", "--exit-on-error", "-d", production.database, str(target)]
    production.is_refused(lambda: dumped(production, target, "-Fc"), command, tmp_path)


def test_script_of_a_dump(stage: Stage, tmp_path: Path) -> None:
    target = tmp_path / "dump.sql"
    command = [program("psql"), "-q", "-v", "ON_ERROR_STOP=1", "-f", str(target)]
    title = r"pg_dump --clean script of up to \d+ tables"
    stage.is_one_act(lambda: dumped(stage, target, "--clean", "--if-exists"), command, tmp_path, title)


# --- Django ---------------------------------------------------------------------------------------------------------


def migrated(stage: Stage) -> None:
    stage.run([*DJANGO, "migrate", "--verbosity", "0"], PROJECTS / "django", through=False)


def test_django_flush(stage: Stage) -> None:
    command = [*DJANGO, "flush", "--noinput", "--traceback"]
    stage.is_one_act(lambda: migrated(stage), command, PROJECTS / "django", r"Django flush of \d+ tables?")


def test_django_migrate_to_zero(stage: Stage) -> None:
    command = [*DJANGO, "migrate", "shop", "zero"]
    stage.is_one_act(lambda: migrated(stage), command, PROJECTS / "django", r"Django migrate of up to \d+ tables")


def test_django_in_production(production: Stage) -> None:
    production.is_refused(lambda: migrated(production), [*DJANGO, "flush", "--noinput", "--traceback"], PROJECTS / "django")


def test_test_database_of_django_is_left_alone(stage: Stage) -> None:
    stage.rebuild()
    code, out = stage.end(stage.start([*DJANGO, "test", "--noinput"], PROJECTS / "django", TEST_DATABASE="shop_test"))
    assert code == 0, out


# --- SQLAlchemy and Alembic -----------------------------------------------------------------------------------------


def alembic(stage: Stage, *command: str) -> None:
    stage.run([*ALEMBIC, *command], PROJECTS / "alembic", through=False)


@pytest.mark.parametrize("target", ["base", "0001"])
def test_alembic_downgrade(stage: Stage, target: str) -> None:
    command = [*ALEMBIC, "downgrade", target]
    title = r"Alembic downgrade or upgrade of up to \d+ tables"
    stage.is_one_act(lambda: alembic(stage, "upgrade", "head"), command, PROJECTS / "alembic", title)


def test_alembic_upgrade_that_drops_is_held_in_production_and_not_denied(production: Stage) -> None:
    production.rebuild()
    alembic(production, "upgrade", "0002")
    before = production.contents()
    process = production.start([*ALEMBIC, "upgrade", "head"], PROJECTS / "alembic")
    hold = production.hold(process)
    assert "forced-sync" not in hold["rule_ids"]
    assert production.proxy.deny(hold["id"]).status_code == 200
    code, out = production.end(process)
    assert code != 0
    assert "denied by operator: not now" in out
    assert production.contents() == before


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
def test_sqlalchemy_drop_all(stage: Stage, driver: str) -> None:
    def made() -> None:
        stage.run([sys.executable, "shop.py", "psycopg", "create", "fill"], PROJECTS / "sqlalchemy", through=False)

    command = [sys.executable, "shop.py", driver, "drop"]
    stage.is_one_act(made, command, PROJECTS / "sqlalchemy", r"SQLAlchemy drop all of up to \d+ tables")
