"""Several people for one hold, and all the ways in which one person could be two."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import psycopg
import pytest

from tests.browsing import PHRASE, Browser, Client
from tests.servers import Pghold, PostgresServer, wait_for

NUMBERS = count(1)


@pytest.fixture(scope="module")
def careful(postgres18: PostgresServer, folder: Path) -> Iterator[Pghold]:
    policy = folder / "four-eyes.toml"
    policy.write_text('[[policy.approvals]]\napprovers = 2\n[[policy.approvals]]\nrules = "truncate"\nsecond_factor = true\n')
    proxy = Pghold(f"postgresql://127.0.0.1:{postgres18.port}/postgres", "--policy", str(policy))
    postgres18.sql("CREATE TABLE IF NOT EXISTS eyed (id int)")
    yield proxy
    assert proxy.stop() == 0


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    Browser.close_all()


class Case:
    """A hold, and an admin who does not decide."""

    def __init__(self, proxy: Pghold, script: str = "DROP TABLE IF EXISTS eyed_not") -> None:
        self.proxy = proxy
        self.admin = Browser(proxy)
        before = {h["id"] for h in proxy.holds()}
        self.client = Client(proxy, script)
        wait_for(lambda: {h["id"] for h in proxy.holds()} - before, 10)
        self.hold = max({h["id"] for h in proxy.holds()} - before)

    def person(self, **fields: str) -> tuple[str, str, Browser]:
        """Name, token and browser of a new approver."""
        name = f"p{next(NUMBERS)}"
        answer = self.admin.post("/people/add", name=name, **{"role": "approver", **fields})
        found = re.search(r'id="secret">([^<]+)<', answer.text)
        assert found is not None, self.admin.problem(answer)
        return name, found[1], Browser(self.proxy, found[1])

    def approve(self, browser: Browser) -> int:
        return browser.approve(self.hold, object_name="eyed_not").status_code

    @property
    def state(self) -> str:
        return str(self.proxy.hold(self.hold)["state"])

    def end(self) -> None:
        self.proxy.deny(self.hold)
        self.client.join(10)


@pytest.mark.parametrize("loss", ["disable", "remove"])
def test_the_approval_of_somebody_who_is_let_go_counts_no_more(careful: Pghold, loss: str) -> None:
    case = Case(careful)
    name, _, first = case.person()
    _, _, second = case.person()
    _, _, third = case.person()
    assert case.approve(first) == 303
    assert case.admin.post("/people/change", name=name, action=loss).status_code == 303
    assert case.approve(second) == 303
    assert case.state == "pending"
    assert case.approve(third) == 303
    case.client.join(10)
    assert case.client.error is None
    assert name not in careful.hold(case.hold)["decision"]["approvers"]


def test_one_person_is_one_however_often_and_by_whatever_way_he_comes(careful: Pghold) -> None:
    case = Case(careful)
    name, token, browser = case.person()
    browsers = [browser, *(Browser(careful, token) for _ in range(3))]
    other = re.search(r'id="secret">([^<]+)<', browser.post("/account/token", name="other", days="1").text)
    assert other is not None

    def by_api(which: str) -> int:
        answer = careful.http.post(
            f"/api/v1/holds/{case.hold}/approve",
            json={"phrase": PHRASE, "reason": "x"},
            headers={"Authorization": f"Bearer {which}"},
        )
        return answer.status_code

    def by_psql(user: str, password: str) -> int:
        with psycopg.connect(
            host="127.0.0.1", port=careful.port, user=user, password=password, dbname="pghold", autocommit=True
        ) as connection:
            try:
                connection.execute(f"APPROVE {case.hold} '{PHRASE}' 'x'")  # type: ignore[call-overload]
            except psycopg.Error:
                return 409
        return 200

    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(case.approve, b) for b in browsers]
        waiting += [pool.submit(by_api, t) for t in (token, other[1])]
        waiting += [pool.submit(by_psql, name, token), pool.submit(by_psql, f"{name}/other", other[1])]
        statuses = [w.result() for w in waiting]
    assert sum(s in (200, 303) for s in statuses) == 1, statuses
    assert all(s in (200, 303, 409, 422) for s in statuses), statuses
    assert case.state == "pending"
    case.end()


def test_many_at_once_make_one_decision_of_two(careful: Pghold) -> None:
    case = Case(careful)
    people = [case.person()[2] for _ in range(6)]
    with ThreadPoolExecutor(6) as pool:
        statuses = list(pool.map(case.approve, people))
    case.client.join(10)
    assert case.client.error is None
    assert set(statuses) <= {303, 409}
    assert len(careful.hold(case.hold)["decision"]["approvers"]) >= 2
    assert [r["event"] for r in careful.audit() if r["hold_id"] == case.hold].count("approved") == 1


@pytest.mark.parametrize("fields", [{"role": "viewer"}, {"databases": "other*"}, {"max_severity": "low"}, {"database_roles": "postgres"}])
def test_who_may_not_decide_does_not_count_either(careful: Pghold, fields: dict[str, str]) -> None:
    case = Case(careful)
    _, _, allowed = case.person()
    _, _, other = case.person(**fields)
    assert case.approve(allowed) == 303
    assert case.approve(other) == 403
    refused = other.approve(case.hold, object_name="eyed_not", break_glass="true")
    assert refused.status_code == 403
    assert case.state == "pending"
    case.end()


def test_break_glass_still_needs_the_second_factor(careful: Pghold) -> None:
    case = Case(careful, "TRUNCATE eyed")
    _, _, alone = case.person()
    answer = alone.approve(case.hold, object_name="eyed", break_glass="true")
    assert (answer.status_code, "second factor" in alone.problem(answer)) == (422, True)
    assert case.state == "pending"
    case.end()


def test_what_outlives_a_session_needs_a_fresh_one(careful: Pghold) -> None:
    """Whoever finds an open browser cannot make himself a token, a device, or another operator."""
    import sqlite3

    case = Case(careful)
    admin = Browser(careful)
    with sqlite3.connect(careful.folder / "data" / "pghold.sqlite", timeout=20) as connection:
        connection.execute("UPDATE web_sessions SET created_at = '2020-01-01T00:00:00+00:00'")
    connection.close()
    assert admin.get("/holds").status_code == 200
    for path, fields in (
        ("/account/token", {"name": "thief", "days": "365"}),
        ("/account/second-factor", {"action": "confirm", "secret": "A" * 32, "code": "123456"}),
        ("/account/password", {"new": "correct horse battery", "again": "correct horse battery"}),
        ("/people/add", {"name": "thief", "role": "admin"}),
        ("/people/change", {"name": "p1", "action": "enable"}),
        ("/people/change", {"name": "p1", "action": "forget-second-factor"}),
    ):
        answer = admin.post(path, **fields)
        assert (answer.status_code, "sign out and in again" in admin.problem(answer)) == (403, True), path
    admin.sign_in("", careful.token)
    assert admin.post("/account/token", name="mine", days="1").status_code == 200
    case.end()
