"""From a client's DROP to the table being there again, through a running pghold and its command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.equality import checksums_of, dump_of, load_zoo
from tests.servers import Pghold, PostgresServer, wait_for

DATABASE = "zoo_commands"


@pytest.fixture(scope="module")
def proxy(postgres18: PostgresServer) -> Iterator[Pghold]:
    found = Pghold(
        f"postgresql://postgres@127.0.0.1:{postgres18.port}/{DATABASE}",
        backups=True,
        environment={"PGHOLD_BACKUP_MIN_FREE_BYTES": "0", "PGHOLD_BACKUP_SCHEDULE": ""},
    )
    yield found
    assert found.stop() == 0
    assert not (found.folder / "data" / "scratch").exists()


@pytest.fixture
def zoo(postgres18: PostgresServer) -> PostgresServer:
    load_zoo(postgres18, DATABASE)
    return postgres18


def command(proxy: Pghold, *arguments: str, code: int = 0, data: Path | None = None) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "proxy", *arguments], capture_output=True, text=True, check=False, timeout=100,
        env={**os.environ, "PGHOLD_DATA_DIR": str(data or proxy.folder / "data"), "PGHOLD_CONSOLE": proxy.console},
    )  # fmt: skip
    assert done.returncode == code, (done.stdout, done.stderr)
    return done.stdout or done.stderr


def destroy(proxy: Pghold, statement: str) -> int:
    """Send it, approve it, and wait until it has run; returns the hold."""
    with proxy.connect(DATABASE) as connection:
        errors: list[Exception] = []

        def send() -> None:
            try:
                connection.execute(statement.encode())
            except psycopg.Error as error:
                errors.append(error)

        thread = threading.Thread(target=send)
        thread.start()
        hold = proxy.wait_for_hold()["id"]
        assert proxy.approve(hold).status_code == 200
        thread.join(60)
        assert not errors
        assert proxy.wait_for_state(hold, "done", "failed")["state"] == "done"
    return int(hold)


def restore(proxy: Pghold, *arguments: str) -> dict[str, Any]:
    """Ask for it, approve it, and see how it ended."""
    opened = json.loads(command(proxy, "restore", *arguments, "--no-wait", "--json"))
    assert proxy.hold(opened["id"])["state"] == "pending"
    assert proxy.approve(opened["id"]).status_code == 200
    wait_for(lambda: proxy.hold(opened["id"])["state"] in ("done", "failed", "denied"), 60)
    return proxy.hold(opened["id"])


async def test_a_dropped_table_comes_back_in_place(proxy: Pghold, zoo: PostgresServer) -> None:
    before, sums = dump_of(zoo, DATABASE), await checksums_of(zoo, DATABASE)
    hold = destroy(proxy, "DROP TABLE zoo.animal CASCADE")
    assert "zoo.loud_animal" not in dump_of(zoo, DATABASE, "--schema-only")
    done = restore(proxy, str(hold))
    assert (done["state"], done["rule_ids"]) == ("done", ["restore"]), done
    assert done["outcome"].startswith("restored: 1 tables, 63 rows")
    assert await checksums_of(zoo, DATABASE) == sums
    assert dump_of(zoo, DATABASE) == before
    assert [e["outcome"] for e in proxy.audit() if e["event"] == "given back"] == [done["outcome"]]


async def test_a_truncated_table_is_replaced_and_what_was_there_is_copied_first(proxy: Pghold, zoo: PostgresServer) -> None:
    before = dump_of(zoo, DATABASE)
    hold = destroy(proxy, "TRUNCATE zoo.twice")
    zoo.sql("INSERT INTO zoo.twice VALUES ('made', 'since')", DATABASE)
    done = restore(proxy, str(hold))
    assert done["state"] == "done", done["outcome"]
    assert dump_of(zoo, DATABASE) == before
    copies = json.loads("[" + ",".join(command(proxy, "backups", "list", "--json", "--hold", str(done["id"])).splitlines()) + "]")
    assert [c["kind"] for c in copies] == ["dump"]
    again = restore(proxy, "--backup", str(copies[0]["id"]))
    assert again["state"] == "done", again
    assert zoo.sql("SELECT * FROM zoo.twice", DATABASE) == [("made", "since")]


async def test_what_was_made_since_is_not_lost(proxy: Pghold, zoo: PostgresServer) -> None:
    hold = destroy(proxy, "TRUNCATE zoo.twice")
    zoo.sql("CREATE VIEW zoo.made_since AS SELECT a FROM zoo.twice", DATABASE)
    before = dump_of(zoo, DATABASE)
    done = restore(proxy, str(hold))
    assert done["state"] == "failed"
    assert "made since the copy" in done["outcome"]
    assert "zoo.made_since" in done["outcome"]
    assert dump_of(zoo, DATABASE) == before


async def test_a_name_that_is_taken_is_a_conflict(proxy: Pghold, zoo: PostgresServer) -> None:
    hold = destroy(proxy, "DROP TABLE zoo.twice")
    zoo.sql("CREATE TABLE zoo.twice (other integer)", DATABASE)
    before = dump_of(zoo, DATABASE)
    assert 'conflict: "zoo"."twice" is there, and is not the one of the copy' in command(proxy, "restore", str(hold), "--no-wait", code=4)
    assert dump_of(zoo, DATABASE) == before


async def test_into_another_database_and_into_a_schema(proxy: Pghold, zoo: PostgresServer) -> None:
    sums = await checksums_of(zoo, DATABASE)
    hold = destroy(proxy, "DROP TABLE zoo.animal, zoo.big CASCADE")
    after = dump_of(zoo, DATABASE)
    zoo.sql("DROP DATABASE IF EXISTS beside WITH (FORCE)")
    done = restore(proxy, str(hold), "--into", "beside")
    assert done["state"] == "done", done["outcome"]
    found = await checksums_of(zoo, "beside")
    assert found["zoo.animal"] == sums["zoo.animal"]
    assert found["zoo.big"] == sums["zoo.big"]
    done = restore(proxy, str(hold), "--schema", 'odd "name', "--tables", "zoo.animal")
    assert done["state"] == "done", done["outcome"]
    assert (await checksums_of(zoo, DATABASE))['"odd ""name".animal'] == sums["zoo.animal"]
    zoo.sql('DROP SCHEMA "odd ""name" CASCADE', DATABASE)
    assert dump_of(zoo, DATABASE) == after
    zoo.sql("DROP DATABASE beside WITH (FORCE)")


async def test_a_partition_beside(proxy: Pghold, zoo: PostgresServer) -> None:
    sums = await checksums_of(zoo, DATABASE)
    hold = destroy(proxy, "TRUNCATE zoo.log CASCADE")
    done = restore(proxy, str(hold), "--schema", "log_copy")
    assert done["state"] == "done", done["outcome"]
    found = await checksums_of(zoo, DATABASE)
    for name in ("log_2025_low", "log_2025_rest", "log_2026", "log_note"):
        assert found[f"log_copy.{name}"] == sums[f"zoo.{name}"]


def test_copies_are_verified_by_the_proxy_and_without_it(proxy: Pghold, zoo: PostgresServer) -> None:
    hold = destroy(proxy, "DROP TABLE zoo.twice")
    rows = destroy(proxy, "UPDATE public.plain SET v = ''")
    copies = {h: json.loads(command(proxy, "backups", "list", "--json", "--hold", str(h)).splitlines()[-1]) for h in (hold, rows)}
    for backup in copies.values():
        said = json.loads(command(proxy, "backups", "verify", str(backup["id"]), "--json"))
        assert said["proof"] == "equal", said
    folder = proxy.folder / "data" / "backups"
    ids = [str(b["id"]) for b in copies.values()]
    said = command(proxy, "backups", "verify", "--folder", str(folder), *ids, data=proxy.folder / "nowhere")
    assert "restored, 6 rows, equal" in said
    assert "restored, 50 rows, equal" in said
    archive = folder / copies[hold]["folder"] / "archive.dump"
    good = archive.read_bytes()
    archive.write_bytes(good[:-9])
    assert "damaged" in command(proxy, "backups", "verify", ids[0], code=1)
    assert "damaged" in command(proxy, "backups", "verify", "--folder", str(folder), ids[0], code=1)
    assert "damaged" in command(proxy, "restore", "--backup", ids[0], "--no-wait", code=4)
    archive.write_bytes(good)


def test_wrong_uses(proxy: Pghold, zoo: PostgresServer) -> None:
    assert "give the id of a hold" in command(proxy, "restore", code=2)
    assert "there is no copy of what hold 4000 destroyed" in command(proxy, "restore", "4000", code=1)
    assert "there is no backup 4000" in command(proxy, "restore", "--backup", "4000", code=1)
    assert "expected such as 7d" in command(proxy, "backups", "verify", "--older-than", "x", code=2)
