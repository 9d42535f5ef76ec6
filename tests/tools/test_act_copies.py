"""An act is copied as a whole before its first statement, and proven."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers import PostgresServer, wait_for
from tests.tools.stage import Stage
from tests.tools.test_node import FOLDER, filled, script


@pytest.fixture
def stage(postgres18: PostgresServer) -> Iterator[Stage]:
    made = Stage(postgres18, "shop_copied", backups=True)
    yield made
    made.close()


def test_forced_sync_is_copied_once(stage: Stage) -> None:
    filled(stage, "sequelize")
    process = stage.start(script("sequelize", "force"), FOLDER)
    hold = stage.hold(process)
    assert stage.proxy.approve(hold["id"]).status_code == 200
    code, out = stage.end(process)
    assert code == 0, out
    wait_for(lambda: stage.proxy.hold(hold["id"])["state"] == "done", 30)
    copy = stage.proxy.hold(hold["id"])["backup"]
    assert (copy["state"], copy["proof"], copy["rows"]) == ("done", "equal", 12)
    assert copy["tables"] == len(hold["act"]["tables"])
    taken = [b for b in stage.proxy.http.get("/api/v1/backups").json() if b["hold_id"] == hold["id"]]
    assert len(taken) == 1
