"""Sessions, activity, audit, policy, health, people and one's own account."""

from __future__ import annotations

import csv
import json
import re
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import psycopg
import pytest
from playwright.sync_api import expect

from tests.browser.chromium import Window
from tests.browser.conftest import Open
from tests.browser.scene import held, waiting
from tests.browser.steps import problem, wait_for_event
from tests.browsing import Browser as Http
from tests.servers import Pghold, PostgresServer, embedded_bindir, wait_for


def test_sessions_are_listed_live_filtered_and_ended(window: Window, pghold: Pghold, table: str) -> None:
    page = window.live("/sessions")
    idle = pghold.connect(application_name="a-quiet-one")
    row = page.get_by_role("row", name="a-quiet-one")
    expect(row).to_contain_text("idle")
    client, hold_id = held(pghold, f"DROP TABLE {table}", application_name="a-held-one")
    expect(page.get_by_role("link", name=f"held #{hold_id}")).to_be_visible()
    page.get_by_label("Filter").fill("a-held-one")
    page.get_by_role("button", name="Filter").click()
    expect(page.locator("tbody tr")).to_have_count(1)
    window.answers_dialogs = True
    page.get_by_role("button", name=re.compile("End session")).click()
    client.join(10)
    assert client.error is not None
    wait_for_event(pghold, "killed", operator="operator")
    assert pghold.wait_for_state(hold_id, "withdrawn", "abandoned")
    assert idle.execute("SELECT 1").fetchone() == (1,)
    page.goto("/sessions")
    expect(page.get_by_role("row", name="a-quiet-one")).to_be_visible()
    expect(page.get_by_role("row", name="a-held-one")).to_have_count(0)
    idle.close()


def test_only_an_admin_can_end_a_session(open_window: Open, pghold: Pghold, person: Callable[..., str]) -> None:
    with pghold.connect(application_name="stays") as connection:
        page = open_window(person("ov-approver")).live("/sessions")
        expect(page.get_by_role("row", name="stays")).to_be_visible()
        expect(page.get_by_role("button", name=re.compile("End session"))).to_have_count(0)
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_activity_is_drawn_as_charts_with_words_beside_them(window: Window, pghold: Pghold, table: str) -> None:
    with pghold.connect() as connection:
        connection.execute("SELECT 1")
    client, hold_id = held(pghold, f"DROP TABLE {table}")
    pghold.deny(hold_id)
    client.join(10)
    page = window.live("/activity")
    for title in ("Judged scripts and executions", "Those that were not harmless", "How long holds waited"):
        expect(page.get_by_role("img", name=re.compile(f"^{title}: "))).to_be_visible()
    bars = page.locator("rect.bar-hold")
    expect(bars.first).to_be_visible()
    assert re.search(r"\d\d:\d\d: [\d,]+ hold", str(bars.first.locator("title").text_content()))
    expect(page.locator(".tile.key-hold dd")).not_to_have_text("0")
    # Its key has the colour of the bars.
    colour = page.locator(".legend .key-hold").first.evaluate("key => getComputedStyle(key).borderLeftColor")
    assert bars.first.evaluate("bar => getComputedStyle(bar).fill") == colour
    page.get_by_role("link", name="24h").click()
    expect(page.get_by_role("link", name="24h")).to_have_attribute("aria-current", "page")


def test_the_audit_log_is_searched_and_exported_and_its_chain_is_whole(window: Window, pghold: Pghold, table: str) -> None:
    client, hold_id = held(pghold, f"DROP TABLE {table}", application_name="auditee")
    pghold.deny(hold_id, "=1+1 no formulas")
    client.join(10)
    page = window.live("/audit")
    expect(page.get_by_text("The chain is whole")).to_be_visible()
    page.get_by_label("hold").fill(str(hold_id))
    page.get_by_label("event").select_option("denied")
    page.get_by_role("button", name="Search").click()
    expect(page.locator("#records tbody tr")).to_have_count(1)
    expect(page.locator("#records")).to_contain_text("=1+1 no formulas")
    with page.expect_download() as lines:
        page.get_by_role("link", name="JSON Lines").click()
    records = [json.loads(line) for line in lines.value.path().read_text().splitlines()]
    assert [(r["event"], r["hold_id"]) for r in records] == [("denied", hold_id)]
    with page.expect_download() as table_file:
        page.get_by_role("link", name="CSV").click()
    rows = list(csv.DictReader(table_file.value.path().read_text().splitlines()))
    assert rows[0]["reason"] == "'=1+1 no formulas"
    page.get_by_label("text").fill("there is no such word")
    page.get_by_role("button", name="Search").click()
    expect(page.get_by_text("No record fits.")).to_be_visible()
    page.get_by_role("link", name="Show all").click()
    assert page.locator("#records tbody tr").count() > 3
    page.get_by_role("link", name=f"#{hold_id}").first.click()
    expect(page.locator("#standing")).to_contain_text("denied")


def test_the_policy_in_force_is_shown_and_a_statement_is_tried_without_running(window: Window, pghold: Pghold, table: str) -> None:
    page = window.live("/policy")
    rule = page.get_by_role("row", name=re.compile("^drop-table "))
    expect(rule).to_contain_text("hold")
    box = page.get_by_role("textbox", name="Statement")
    expect(box).to_have_value("")
    for script, verdict in ((f"DROP TABLE {table}", "held"), ("SELECT 1", "let pass"), ("COPY x TO PROGRAM 'sh'", "denied")):
        box.fill(script)
        page.get_by_role("button", name="Judge it").click()
        expect(page.locator("#tried h2")).to_have_text(f"It would be: {verdict}")
        expect(box).to_have_value(script)
    assert pghold.holds() == []
    with pghold.connect() as connection:
        assert connection.execute(f"SELECT count(*) FROM {table}").fetchone() == (10,)  # type: ignore[call-overload]
    page.get_by_role("button", name="Read the file again").click()
    expect(page.get_by_role("heading", name="Policy")).to_be_visible()
    wait_for_event(pghold, "reloaded", operator="operator")


def test_health_says_what_is_wrong(window: Window, pghold: Pghold) -> None:
    page = window.live("/health")
    expect(page.get_by_text("All is well")).to_be_visible()
    expect(page.locator(".facts")).to_contain_text("production")
    expect(page.locator(".facts")).to_contain_text(str(pghold.folder / "data"))


def test_health_says_that_the_server_is_gone_and_that_it_is_back(open_window: Open, folder: Path) -> None:
    server = PostgresServer(folder / "unwell", embedded_bindir())
    proxy = Pghold(f"postgresql://127.0.0.1:{server.port}/postgres")
    try:
        page = open_window(proxy=proxy).live("/health")
        expect(page.get_by_text("All is well")).to_be_visible()
        server.stop()
        wait_for(lambda: not proxy.http.get("/readyz").json()["ready"], 30)
        expect(page.get_by_role("alert").filter(has_text="could not connect to the server")).to_be_visible(timeout=20_000)
        server.start()
        wait_for(lambda: proxy.http.get("/readyz").json()["ready"], 30)
        expect(page.get_by_text("All is well")).to_be_visible(timeout=20_000)
    finally:
        proxy.stop()
        server.stop()


def test_what_is_not_there_leads_back_by_the_navigation(window: Window) -> None:
    for path in ("/holds/999999", "/nowhere", "/rules/no-such-rule"):
        answer = window.page.goto(path)
        assert answer is not None
        assert answer.status == 404
        expect(window.page.get_by_role("heading", name="Not found")).to_be_visible()
        expect(window.page.get_by_role("navigation", name="Main")).to_be_visible()


def test_backups_say_that_there_are_none_yet(window: Window) -> None:
    expect(window.live("/backups").get_by_text("There are no copies yet")).to_be_visible()


def test_somebody_is_added_shown_once_his_token_disabled_and_removed(open_window: Open, pghold: Pghold) -> None:
    window = open_window()
    page = window.live("/people")
    page.get_by_role("textbox", name="Name", exact=True).fill("ov-new")
    page.get_by_label("Role", exact=True).select_option("approver")
    page.get_by_label("Databases").fill("billing* shop")
    page.get_by_label("Decides up to").select_option("high")
    page.get_by_label("Database roles that are his own").fill("newcomer")
    page.get_by_role("button", name="Add", exact=True).click()
    token = page.locator("#secret").inner_text()
    row = page.get_by_role("row", name="ov-new")
    for words in ("approver", "billing*, shop, up to high", "newcomer"):
        expect(row).to_contain_text(words)
    wait_for_event(pghold, "operator changed", outcome="added as approver")
    page.goto("/people")
    assert token not in page.content()
    his = open_window(token)
    expect(his.live("/holds").get_by_role("link", name="ov-new approver")).to_be_visible()
    row.get_by_role("button", name="Disable").click()
    expect(row).to_contain_text("disabled")
    expect(his.go("/holds").get_by_role("heading", name="Sign in")).to_be_visible()
    row.get_by_role("button", name="Enable").click()
    expect(row.get_by_text("disabled")).to_be_hidden()
    window.answers_dialogs = True
    row.get_by_role("button", name="Remove").click()
    expect(row).to_have_count(0)
    for what in ("disable", "enable", "remove"):
        wait_for_event(pghold, "operator changed", outcome=what)


def test_people_are_for_admins_and_auditors(open_window: Open, pghold: Pghold, person: Callable[..., str]) -> None:
    for role in ("viewer", "approver"):
        page = open_window(person(f"ov-{role}-2", role)).live("/holds")
        expect(page.get_by_role("link", name="People")).to_have_count(0)
        answer = page.goto("/people")
        assert answer is not None
        assert answer.status == 403
        expect(page.get_by_role("heading", name="Not allowed")).to_be_visible()
    page = open_window(person("ov-auditor-2", "auditor")).live("/people")
    expect(page.get_by_role("row", name="operator")).to_be_visible()
    expect(page.locator("main form")).to_have_count(0)


def test_a_token_with_an_end_is_made_used_and_revoked(open_window: Open, pghold: Pghold, person: Callable[..., str]) -> None:
    window = open_window(person("ov-tok"))
    page = window.live("/account")
    page.get_by_label("Name", exact=True).fill("laptop")
    page.get_by_label("Valid for").select_option("7")
    page.get_by_role("button", name="Make a token").click()
    token = page.locator("#secret").inner_text()
    until = time.strftime("%Y-%m-%d", time.gmtime(time.time() + 7 * 86400))
    expect(page.locator("main")).to_contain_text(f"until {until}")

    def status() -> int:
        return httpx.get(f"{pghold.console}/api/v1/holds", headers={"Authorization": f"Bearer {token}"}, trust_env=False).status_code

    assert status() == 200
    window.answers_dialogs = True
    page.get_by_role("button", name="Revoke laptop").click()
    expect(page.get_by_role("button", name="Revoke laptop")).to_have_count(0)
    assert status() == 401
    wait_for_event(pghold, "operator changed", operator="ov-tok", outcome="token laptop revoked")


def test_a_question_before_something_final_can_be_answered_with_no(window: Window, pghold: Pghold, person: Callable[..., str]) -> None:
    person("ov-stays")
    page = window.live("/people")
    page.get_by_role("row", name="ov-stays").get_by_role("button", name="Remove").click()
    assert [p for p in window.problems if p.startswith("a dialog: confirm Remove ov-stays?")]
    window.problems.clear()
    page.goto("/people")
    expect(page.get_by_role("row", name="ov-stays")).to_be_visible()


@pytest.mark.parametrize("role", ["viewer", "auditor"])
def test_who_may_not_decide_has_no_form_and_is_refused_by_the_server(
    open_window: Open, pghold: Pghold, table: str, person: Callable[..., str], role: str
) -> None:
    token = person(f"ov-{role}-3", role)
    with waiting(pghold, (f"DROP TABLE {table}", {})) as (hold_id,):
        page = open_window(token).live(f"/holds/{hold_id}")
        expect(page.locator("main form")).to_have_count(0)
        expect(page.get_by_text(f"the role {role} may not decide")).to_be_visible()
        http = Http(pghold, token)
        for path in (f"/holds/{hold_id}/decide", "/holds/together", "/holds/practice", "/people/add", "/policy/reload"):
            answer = http.post(path, action="approve", ids=str(hold_id), count="1", phrase="x", reason="x", name="x", role="admin")
            assert answer.status_code == 403, path
        assert pghold.hold(hold_id)["state"] == "pending"


def test_a_client_sees_in_psql_what_the_page_shows(window: Window, pghold: Pghold, table: str) -> None:
    with waiting(pghold, (f"DROP TABLE {table}", {})) as (hold_id,):
        window.live(f"/holds/{hold_id}")
        with psycopg.connect(
            host="127.0.0.1", port=pghold.port, user="operator", password=pghold.token, dbname="pghold", autocommit=True
        ) as console:
            rows = console.execute("SHOW HOLDS").fetchall()
        assert str(hold_id) in {str(row[0]) for row in rows}


def test_a_wrong_time_in_a_search_is_said(window: Window) -> None:
    page = window.live("/audit?hold=seven")
    assert problem(page) == "hold: expected a number"
