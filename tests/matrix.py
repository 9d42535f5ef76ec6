"""The zoo behind the proxy: a statement is sent, approved, and taken back, and the database must be as it was."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from difflib import unified_diff
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from tests.equality import checksums_of, dump_of, load_zoo
from tests.servers import Pghold, PostgresServer, wait_for

TEMPLATE = "zoo_template"
#: How the hold of a statement, or of an errand, can have ended.
ENDED = ("done", "failed", "denied", "withdrawn", "abandoned", "expired")
#: Of one statement or errand, on a machine that has other things to do.
WAIT_S = 60


class Sent:
    """Work of a client, in a thread; what came of it."""

    def __init__(self, proxy: Pghold, database: str, work: Callable[[psycopg.Connection[Any]], Any], **options: Any) -> None:
        self.error: psycopg.Error | None = None
        self.result: Any = None
        self.notices: list[str] = []
        self.connection: psycopg.Connection[Any] | None = None
        self._target = (proxy, database, options)
        self._thread = threading.Thread(target=self._run, args=(work,), daemon=True)
        self._thread.start()

    def _run(self, work: Callable[[psycopg.Connection[Any]], Any]) -> None:
        try:
            proxy, database, options = self._target
            with proxy.connect(database, **options) as connection:
                self.connection = connection
                connection.add_notice_handler(lambda d: self.notices.append(f"{d.message_primary} {d.message_detail or ''}"))
                self.result = work(connection)
        except psycopg.Error as error:
            self.error = error

    @property
    def is_over(self) -> bool:
        return not self._thread.is_alive()

    def done(self) -> Sent:
        self._thread.join(WAIT_S)
        assert self.is_over, "the client still waits"
        return self


def ended(proxy: Pghold, hold_id: int) -> dict[str, Any]:
    """The hold, once it is over."""
    wait_for(lambda: proxy.hold(hold_id)["state"] in ENDED, WAIT_S)
    return proxy.hold(hold_id)


class Zoo:
    """The zoo on one server, behind one proxy with copies; each test gets a database of its own, made from a template."""

    def __init__(self, server: PostgresServer, folder: Path, more: str = "", **environment: str) -> None:
        self.server = server
        load_zoo(server, TEMPLATE)
        if more:
            server.sql(more, TEMPLATE)
        self.schema_and_data = dump_of(server, TEMPLATE)
        self.sums = asyncio.run(checksums_of(server, TEMPLATE))
        folder.mkdir(parents=True, exist_ok=True)
        policy = folder / "pghold.toml"
        policy.write_text('[policy]\nprotected = ["*", "*.*"]\n')
        settings = {"PGHOLD_BACKUP_MIN_FREE_BYTES": "0", "PGHOLD_BACKUP_SCHEDULE": "", **environment}
        upstream = f"postgresql://postgres@127.0.0.1:{server.port}/postgres"
        self.proxy = Pghold(upstream, "--policy", str(policy), folder=folder, backups=True, environment=settings)

    def stop(self) -> None:
        assert self.proxy.stop() == 0
        for (name,) in self.server.sql(
            "SELECT quote_ident(datname) FROM pg_database WHERE datname LIKE 'cell%' OR datname = 'zoo_template'"
        ):
            self.server.sql(f"DROP DATABASE {name} WITH (FORCE)")

    def database(self, name: str) -> str:
        """A new one, with the zoo."""
        with self.server.connect() as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
            connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(TEMPLATE)))
        return name

    def is_as_before(self, database: str) -> bool:
        return dump_of(self.server, database) == self.schema_and_data and asyncio.run(checksums_of(self.server, database)) == self.sums

    def assert_as_before(self, database: str) -> None:
        sums = asyncio.run(checksums_of(self.server, database))
        assert sums == self.sums, [name for name in {**sums, **self.sums} if sums.get(name) != self.sums.get(name)]
        dump = dump_of(self.server, database)
        assert dump == self.schema_and_data, "\n".join(unified_diff(self.schema_and_data.split("\n"), dump.split("\n"), n=1))[:5000]

    def run(self, database: str, work: Callable[[psycopg.Connection[Any]], Any]) -> tuple[Sent, list[dict[str, Any]]]:
        """Let a client work, and approve all that is held of it; the holds, as they ended."""
        sent = Sent(self.proxy, database, work)
        approved: list[int] = []
        while not sent.is_over:
            wait_for(lambda: sent.is_over or bool(self.proxy.holds()), WAIT_S)
            for hold in self.proxy.holds():
                answer = self.proxy.approve(hold["id"])
                assert answer.status_code == 200, answer.text
                approved.append(hold["id"])
                wait_for(lambda: sent.is_over or self.proxy.hold(approved[-1])["state"] in ENDED, WAIT_S)
        return sent.done(), [ended(self.proxy, hold_id) for hold_id in approved]

    def errand(self, response: Any) -> dict[str, Any]:
        """Approve an undo or restore that was asked for; its hold, as it ended."""
        assert response.status_code in (200, 202), response.text
        errand = response.json()
        assert errand["state"] == "pending"
        answer = self.proxy.approve(errand["id"])
        assert answer.status_code == 200, answer.text
        return ended(self.proxy, errand["id"])

    def undo(self, hold_id: int, **body: str) -> dict[str, Any]:
        return self.errand(self.proxy.http.post(f"/api/v1/holds/{hold_id}/undo", json={"reason": "a test", **body}, timeout=WAIT_S))

    def assert_comes_back(self, database: str, work: Callable[[psycopg.Connection[Any]], Any], *kinds: str) -> None:
        """What is destroyed was copied as `kinds` say, hold by hold, and is as before once they are undone, the last one first."""
        sent, holds = self.run(database, work)
        assert sent.error is None, f"{sent.error}\n{self.proxy.log.read_text()[-3000:]}"
        assert [h["state"] for h in holds] == ["done"] * len(kinds), holds
        assert [h["backup"]["kind"] for h in holds] == list(kinds), [h["backup"] for h in holds]
        for hold in holds:
            if hold["backup"]["kind"] in ("dump", "rows"):
                backup = self.proxy.http.get(f"/api/v1/backups/{hold['backup']['backup_id']}").json()
                assert (backup["state"], backup["proof"]) == ("done", "equal"), backup
        # It took effect: no test passes because nothing happened.
        assert not self.is_as_before(database)
        for hold in reversed(holds):
            if hold["backup"]["kind"] != "none":
                undone = self.undo(hold["id"])
                assert undone["state"] == "done", f"{undone['outcome']}\n{self.proxy.log.read_text()[-3000:]}"
        self.assert_as_before(database)
