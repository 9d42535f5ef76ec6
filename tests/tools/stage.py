"""A database of its own behind pghold, for one tool: run its command, look at what is held, decide, and compare what is left.

The server is the shared PostgreSQL 18; the proxy runs as in development, where a forced sync is held. Copies are off unless asked for.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from tests.servers import Pghold, PostgresServer, wait_for

#: How long a command may take: a JVM or a bundler starts slowly on a busy machine.
COMMAND_S: Final = 120.0


class Stage:
    """Attributes:
    database: its name; it must not look like a test database, which forced syncs may destroy.
    proxy: pghold in front of it.
    """

    def __init__(
        self, server: PostgresServer, database: str, environment: str = "development", *options: str, backups: bool = False
    ) -> None:
        self.server = server
        self.database = database
        self.rebuild()
        url = f"postgresql://postgres@127.0.0.1:{server.port}/{database}"
        self.proxy = Pghold(url, "--environment", environment, *options, backups=backups)

    def rebuild(self) -> None:
        """An empty database of that name."""
        self.server.sql(f'DROP DATABASE IF EXISTS "{self.database}" WITH (FORCE)')
        self.server.sql(f'CREATE DATABASE "{self.database}"')

    def close(self) -> None:
        self.proxy.stop()
        self.server.sql(f'DROP DATABASE IF EXISTS "{self.database}" WITH (FORCE)')

    def url(self, *, through: bool = True, scheme: str = "postgresql") -> str:
        """Of the database, through the proxy or past it."""
        port = self.proxy.port if through else self.server.port
        return f"{scheme}://postgres@127.0.0.1:{port}/{quote(self.database)}"

    def start(self, command: list[str], folder: Path, *, through: bool = True, **environment: str) -> subprocess.Popen[str]:
        """Run a tool's command with DATABASE_URL and libpq's variables set; its output is one stream."""
        port = self.proxy.port if through else self.server.port
        given = {
            **os.environ,
            "DATABASE_URL": self.url(through=through),
            "PGHOST": "127.0.0.1",
            "PGPORT": str(port),
            "PGUSER": "postgres",
            "PGDATABASE": self.database,
            **environment,
        }
        return subprocess.Popen(
            command, cwd=folder, env=given, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )

    def run(self, command: list[str], folder: Path, *, through: bool = True, **environment: str) -> str:
        """To its end, which must be a success; return its output."""
        process = self.start(command, folder, through=through, **environment)
        out, _ = process.communicate(timeout=COMMAND_S)
        assert process.returncode == 0, out
        return out

    def hold(self, process: subprocess.Popen[str]) -> dict[str, Any]:
        """The one that the command waits for, once what it is about is known."""

        def is_there() -> bool:
            if process.poll() is not None:
                raise AssertionError(f"the command ended without a hold, code {process.returncode}: {process.stdout.read()}")  # type: ignore[union-attr]
            return bool(self.proxy.holds())

        wait_for(is_there, COMMAND_S)
        holds = self.proxy.holds()
        assert len(holds) == 1, holds
        return holds[0]

    def end(self, process: subprocess.Popen[str]) -> tuple[int, str]:
        """Its exit code and output. Nothing may be held meanwhile: one decision was enough."""
        more: list[Any] = []

        def is_over() -> bool:
            for hold in self.proxy.holds():
                more.append((hold["script"], hold["rule_ids"], hold["act"] and hold["act"]["title"]))
                self.proxy.deny(hold["id"])
            return process.poll() is not None

        with ThreadPoolExecutor(1) as pool:
            reading = pool.submit(process.communicate, timeout=COMMAND_S)
            wait_for(is_over, COMMAND_S)
            out, _ = reading.result()
        assert not more, f"held again: {more}"
        return process.returncode, out

    def contents(self) -> dict[str, list[Any]]:
        """Every table of the database with its rows, past the proxy."""
        names = self.server.sql(
            "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1",
            self.database,
        )
        return {name: sorted(self.server.sql(f"SELECT t::text FROM {name} AS t", self.database)) for (name,) in names}

    # --- the matrix ---------------------------------------------------------------------------------------------

    def is_one_act(
        self,
        prepare: Callable[[], object],
        command: list[str],
        folder: Path,
        title: str,
        mend: Callable[[], object] = lambda: None,
        **environment: str,
    ) -> dict[str, Any]:
        """The whole of it: held as one, denied without a loss, approved with what the tool does by itself. Return the approved hold.

        `title` is a regular expression for what people are told; `mend` is what the tool's user does after an error.
        """
        self.rebuild()
        prepare()
        before = self.contents()
        for approves in (False, True):
            process = self.start(command, folder, **environment)
            hold = self.hold(process)
            assert re.fullmatch(title, hold["act"]["title"]), hold["act"]["title"]
            hold = self._counted(int(hold["id"]))
            tables = {t["name"] for t in hold["act"]["tables"]}
            if hold["act"]["reach"] != "statement":
                # Some make tables anew before they drop the first.
                assert tables >= {name.replace('"', "") if name.islower() else name for name in before}, tables
            assert set(hold["relations"]) >= tables
            answered = self.proxy.approve(hold["id"]) if approves else self.proxy.deny(hold["id"])
            assert answered.status_code == 200
            code, out = self.end(process)
            if approves:
                assert code == 0, out
            else:
                assert code != 0, out
                assert "denied by operator: not now" in out, out
                assert not lost(before, self.contents())
                assert not hold["act"]["forced"] or self.contents() == before
                mend()
        after = self.contents()
        ended = self.proxy.wait_for_state(hold["id"], "done")
        self.rebuild()
        prepare()
        self.run(command, folder, through=False, **environment)
        # Tools write down when they ran.
        assert {name: len(rows) for name, rows in self.contents().items()} == {name: len(rows) for name, rows in after.items()}
        return ended

    def _counted(self, hold_id: int) -> dict[str, Any]:
        """The hold, once it was looked into. What is locked by its own session cannot be counted by another."""

        def is_known() -> bool:
            impact = self.proxy.hold(hold_id)["impact"]
            return impact is not None and impact["consequences"] is not None

        wait_for(is_known, 20)
        return self.proxy.hold(hold_id)

    def is_refused(self, prepare: Callable[[], object], command: list[str], folder: Path, **environment: str) -> None:
        """In production."""
        self.rebuild()
        prepare()
        before = self.contents()
        code, out = self.end(self.start(command, folder, **environment))
        assert code != 0, out
        assert "forced sync is not allowed in production" in out, out
        assert [r["rule_ids"][0] for r in self.proxy.audit() if r["event"] == "denied by policy"][-1:] == ["forced-sync"]
        assert self.contents() == before


def lost(before: dict[str, list[Any]], now: dict[str, list[Any]]) -> dict[str, int]:
    """How many rows are not there any more, by table; not those in which tools keep their own history.

    Only their number: steps that were taken back before the one that was denied have changed columns.
    """
    gone = {name: len(rows) - len(now.get(name, [])) for name, rows in before.items() if "migrations" not in name}
    return {name: count for name, count in gone.items() if count > 0 or name not in now}
