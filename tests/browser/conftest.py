"""One Chromium for each module; a context of its own for each window."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.cable import Cable
from tests.browser.chromium import PROGRAM, Window, chromium
from tests.browser.scene import operator
from tests.browsing import Browser as Http
from tests.servers import Pghold, PostgresServer

Open = Callable[..., Window]
#: What a busy machine may need; waiting ends with the condition.
expect.set_options(timeout=15_000)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    # Of a module, not of the run: while playwright's loop is there, tests that are coroutines cannot run.
    if not Path(PROGRAM).exists():
        why = f"no browser at {PROGRAM}: apt-get install chromium"
        if os.environ.get("CI"):
            pytest.fail(why)
        pytest.skip(why)
    with chromium() as started:
        yield started


@pytest.fixture
def open_window(browser: Browser, pghold: Pghold) -> Iterator[Open]:
    """Opens windows, of `pghold` unless told otherwise; at the end none of them may have seen an error, a dialog or another host."""
    windows: list[Window] = []

    def make(token: str | None = "", proxy: Pghold | None = None, **options: Any) -> Window:
        windows.append(Window(browser, proxy or pghold, token, **options))
        return windows[-1]

    yield make
    problems = [p for w in windows for p in w.problems]
    for window in windows:
        window.close()
    Http.close_all()
    assert problems == []


@pytest.fixture
def window(open_window: Open) -> Window:
    """The first operator's, on a desktop."""
    return open_window()


@pytest.fixture(scope="module")
def admin(pghold: Pghold) -> Iterator[Http]:
    """To set up what a test is not about."""
    http = Http(pghold)
    # Http.close_all of a test would close it, too.
    Http._open.remove(http.http)
    yield http
    http.http.close()


@pytest.fixture
def person(admin: Http) -> Callable[..., str]:
    """Adds operators; returns their tokens."""

    def add(name: str, role: str = "approver", **fields: str) -> str:
        return operator(admin, name, role, **fields)

    return add


@pytest.fixture
def cable(pghold: Pghold) -> Iterator[Cable]:
    """To the console of `pghold`."""
    made = Cable(int(pghold.console.rpartition(":")[2]))
    yield made
    made.cut()


@pytest.fixture(autouse=True)
def _no_holds_left(pghold: Pghold) -> Iterator[None]:
    """What a failed test left waiting is denied, so that it disturbs no other."""
    yield
    for hold in pghold.holds():
        pghold.deny(hold["id"], "the test is over")


@pytest.fixture(scope="module")
def careful(postgres18: PostgresServer, folder: Path) -> Iterator[Pghold]:
    """A proxy that wants two people for a DROP TABLE, and a code for a TRUNCATE."""
    policy = folder / "careful-browser.toml"
    policy.write_text(
        '[[policy.approvals]]\nrules = "drop-table"\napprovers = 2\n[[policy.approvals]]\nrules = "truncate"\nsecond_factor = true\n'
    )
    proxy = Pghold(f"postgresql://127.0.0.1:{postgres18.port}/postgres", "--policy", str(policy))
    yield proxy
    assert proxy.stop() == 0
