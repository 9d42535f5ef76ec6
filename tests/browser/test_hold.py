"""A hold's page: what it shows, and each way to answer."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import pyotp
from playwright.sync_api import expect

from tests.browser.chromium import Window
from tests.browser.conftest import Open
from tests.browser.scene import held, operator, waiting
from tests.browser.steps import approve, deny, events, exists, problem
from tests.browsing import Browser as Http
from tests.browsing import Client
from tests.servers import Pghold, PostgresServer


def test_our_facts_come_first_then_the_script_with_its_dangerous_words_marked(window: Window, pghold: Pghold, table: str) -> None:
    script = f"-- tidy up\nDROP TABLE {table} CASCADE;\nSELECT 'x', 42"
    with waiting(pghold, (script, {"application_name": "deploy 7"})) as (hold_id,):
        page = window.live(f"/holds/{hold_id}")
        headings = page.locator("main h2").all_inner_texts()
        assert [re.sub(r"\s.*", "", h) for h in headings[:2]] == ["What", "The"], headings
        findings = page.locator(".findings")
        expect(findings).to_contain_text(f"DROP TABLE {table}")
        expect(findings).to_contain_text("cannot be taken back")
        for words in ("postgres", "deploy 7", "127.0.0.1:", "simple"):
            expect(page.locator(".facts.wide").last).to_contain_text(words)
        shown = page.locator("pre.script")
        assert shown.inner_text() == script
        expect(shown.locator(".danger", has_text=table)).to_be_visible()
        expect(shown.locator(".comment")).to_have_text("-- tidy up")
        expect(shown.locator(".string")).to_have_text("'x'")
        page.get_by_role("link", name="drop-table").click()
        expect(page.get_by_role("heading", name="drop-table high")).to_be_visible()
        expect(page.get_by_role("heading", name="Why")).to_be_visible()
        expect(page.get_by_role("heading", name="Instead")).to_be_visible()


def test_characters_that_hide_or_deceive_are_shown_by_their_codes(window: Window, pghold: Pghold, table: str) -> None:
    with waiting(pghold, (f"DROP TABLE {table} /* \u202e safe \u200b */ -- \u0430dmin", {})) as (hold_id,):
        page = window.live(f"/holds/{hold_id}")
        warning = page.locator("main").get_by_role("note")
        expect(warning).to_contain_text("characters that hide, or look like others")
        expect(warning).to_contain_text("U+202E RIGHT-TO-LEFT OVERRIDE")
        marked = page.locator("pre.script .hidden")
        expect(marked.nth(0)).to_have_text("U+202E")
        expect(marked.nth(1)).to_have_text("U+200B")
        assert marked.nth(0).bounding_box() is not None
        assert "\u202e" not in page.content()


def test_parameters_of_a_prepared_statement_are_shown(window: Window, pghold: Pghold, table: str) -> None:
    client = Client(pghold, f"UPDATE {table} SET id = length(%s)", parameters=["41; <b>x</b>"])
    page = window.live("/holds")
    page.locator("a.row").click()
    expect(page.get_by_role("heading", name="Parameters")).to_be_visible()
    expect(page.locator(".parameters")).to_contain_text("$1")
    expect(page.locator(".parameters")).to_contain_text("41; <b>x</b>")
    expect(page.locator(".facts.wide").last).to_contain_text("extended")
    deny(page, "no")
    expect(page.locator("#standing")).to_contain_text("denied")
    client.join(10)


def test_similar_decisions_of_before_are_on_the_page(window: Window, pghold: Pghold, table: str) -> None:
    client, first = held(pghold, f"TRUNCATE {table}")
    pghold.deny(first, "it is month's end")
    client.join(10)
    with waiting(pghold, (f"TRUNCATE {table}", {})) as (hold_id,):
        page = window.live(f"/holds/{hold_id}")
        similar = page.get_by_role("region", name="Similar decisions")
        expect(similar).to_contain_text("denied by operator: it is month's end")
        expect(similar).to_contain_text("the same script")
        similar.get_by_role("link", name=f"#{first}").click()
        expect(page.locator("#standing")).to_contain_text("denied by operator")


def test_what_is_wrong_in_an_approval_is_said_and_nothing_typed_is_lost(
    window: Window, pghold: Pghold, postgres18: PostgresServer, table: str
) -> None:
    client, hold_id = held(pghold, f"DROP TABLE {table}")
    page = window.live(f"/holds/{hold_id}")
    approve(page, name=table, phrase="yes please", reason="asked by the team")
    assert "type the phrase: YES I UNDERSTAND THE RISKS" in problem(page)
    expect(page.locator("#approve-reason")).to_have_value("asked by the team")
    approve(page, name="another_table", reason="asked by the team")
    assert f"type the name of what is lost: {table}" in problem(page)
    # Without any name the browser itself does not send it.
    page.locator("#object_name").fill("")
    page.locator("#approve").get_by_role("button", name="Approve").click()
    assert page.evaluate("document.activeElement.id") == "object_name"
    assert pghold.hold(hold_id)["state"] == "pending"
    assert exists(postgres18, table)
    assert events(pghold, hold_id) == ["held", "operator refused", "operator refused"]
    approve(page, name=table, reason="asked by the team")
    expect(page.locator("#standing")).to_contain_text("done")
    expect(page.locator("#standing")).to_contain_text("approved by operator: asked by the team")
    client.join(10)
    assert client.error is None
    assert not exists(postgres18, table)
    assert events(pghold, hold_id) == ["held", "operator refused", "operator refused", "approved", "outcome"]


def test_a_denial_reaches_the_client_with_its_reason(window: Window, pghold: Pghold, postgres18: PostgresServer, table: str) -> None:
    client, hold_id = held(pghold, f"DELETE FROM {table}")
    page = window.live(f"/holds/{hold_id}")
    deny(page, "add a WHERE clause")
    expect(page.locator("#standing")).to_contain_text("denied by operator: add a WHERE clause")
    client.join(10)
    assert "add a WHERE clause" in str(client.error)
    assert postgres18.sql(f"SELECT count(*) FROM {table}") == [(10,)]
    assert events(pghold, hold_id) == ["held", "denied"]


def test_a_statement_is_edited_and_returned_in_the_clients_hint(window: Window, pghold: Pghold, table: str) -> None:
    client, hold_id = held(pghold, f"DELETE FROM {table}")
    page = window.live(f"/holds/{hold_id}")
    page.get_by_text("Edit and return").click()
    form = page.locator("#return")
    expect(form.get_by_label("The statement to send instead")).to_have_value(re.compile(f"DELETE FROM {table}"))
    form.get_by_label("The statement to send instead").fill(f"DELETE FROM {table}\nWHERE id = 7")
    form.get_by_label("Reason").fill("one of them only")
    form.get_by_role("button", name="Return it").click()
    expect(page.locator("#standing")).to_contain_text("denied by operator: one of them only")
    client.join(10)
    assert client.error is not None
    assert "one of them only" in str(client.error)
    assert f"DELETE FROM {table}\nWHERE id = 7" in str(client.error.diag.message_hint)
    assert pghold.hold(hold_id)["decision"]["suggestion"] == f"DELETE FROM {table}\nWHERE id = 7"


def test_nobody_decides_his_own_statement_nor_outside_his_scope(
    open_window: Open, pghold: Pghold, table: str, person: Callable[..., str]
) -> None:
    with waiting(pghold, (f"DROP TABLE {table}", {})) as (hold_id,):
        for name, fields, why in (
            ("ho-own", {"database_roles": "postgres"}, "a requester never decides his own statement"),
            ("ho-elsewhere", {"databases": "billing*"}, "you decide for billing*, not for database postgres"),
            ("ho-junior", {"max_severity": "medium"}, "you decide up to severity medium; this one is high"),
        ):
            token = person(name, **fields)
            page = open_window(token).live(f"/holds/{hold_id}")
            expect(page.get_by_text(f"You cannot decide this: {why}.")).to_be_visible()
            expect(page.locator("#approve")).to_have_count(0)
            # Nor does the server take a form that the page does not have.
            assert Http(pghold, token).approve(hold_id, object_name=table).status_code == 403
        assert pghold.hold(hold_id)["state"] == "pending"
        assert events(pghold, hold_id) == ["held"] + ["operator refused"] * 3


def test_two_people_must_approve_and_each_sees_how_many_did(
    open_window: Open, careful: Pghold, postgres18: PostgresServer, table: str
) -> None:
    second_token = operator(Http(careful), "ho-second")
    client, hold_id = held(careful, f"DROP TABLE {table}")
    first = open_window(proxy=careful).live(f"/holds/{hold_id}")
    second = open_window(second_token, proxy=careful).live(f"/holds/{hold_id}")
    expect(first.locator("#approve")).to_contain_text("This takes 2 people")
    approve(first, name=table, reason="planned")
    expect(first.locator("#standing")).to_contain_text("1 of 2 approvals")
    expect(second.locator("#standing")).to_contain_text("1 of 2 approvals")
    expect(second.locator("#standing")).to_contain_text("approved by operator: planned")
    approve(first, name=table, reason="and again")
    assert "another person must, too" in problem(first)
    assert exists(postgres18, table)
    approve(second, name=table, reason="looked at it")
    expect(second.locator("#standing")).to_contain_text("done")
    expect(first.locator("#standing")).to_contain_text("approved by ho-second with operator")
    client.join(10)
    assert client.error is None
    assert not exists(postgres18, table)
    assert events(careful, hold_id) == ["held", "approval", "operator refused", "approval", "approved", "outcome"]


def test_break_glass_takes_one_person_and_is_marked_everywhere(open_window: Open, careful: Pghold, table: str) -> None:
    client, hold_id = held(careful, f"DROP TABLE {table}")
    page = open_window(proxy=careful).live(f"/holds/{hold_id}")
    page.get_by_label("Break-glass: approve alone").check()
    approve(page, name=table, reason="the site is down")
    expect(page.locator("#standing")).to_contain_text("break-glass")
    expect(page.locator("#standing")).to_contain_text("the site is down")
    client.join(10)
    assert client.error is None
    assert "break-glass" in events(careful, hold_id)
    page.goto("/audit?event=break-glass")
    expect(page.locator("#records")).to_contain_text("the site is down")


def test_a_second_factor_is_set_up_by_its_qr_code_and_each_code_counts_once(open_window: Open, careful: Pghold, table: str) -> None:
    window = open_window(operator(Http(careful), "ho-totp"), proxy=careful)
    client, hold_id = held(careful, f"TRUNCATE {table}")
    page = window.live(f"/holds/{hold_id}")
    approve(page, name=table, code="123456")
    assert "you have none yet: set one up under Account" in problem(page)
    page.goto("/account")
    picture = page.get_by_alt_text("The secret above as a QR code")
    assert picture.evaluate("image => image.complete && image.naturalWidth > 100")
    secret = page.locator("#totp-secret").inner_text()
    totp, now = pyotp.TOTP(secret), int(time.time())
    used, good = totp.at(now - 30), totp.at(now)
    page.get_by_label("The code that it shows").fill("000000" if used != "000000" else "000001")
    page.get_by_role("button", name="Set up").click()
    assert "does not fit" in problem(page)
    assert page.locator("#totp-secret").inner_text() == secret, "a mistyped code must not change what was scanned"
    page.get_by_label("The code that it shows").fill(used)
    page.get_by_role("button", name="Set up").click()
    expect(page.get_by_text("The second factor is set up.")).to_be_visible()
    page.goto(f"/holds/{hold_id}")
    approve(page, name=table, code=used)
    assert "was used before" in problem(page)
    assert careful.hold(hold_id)["state"] == "pending"
    approve(page, name=table, code=good)
    expect(page.locator("#standing")).to_contain_text("done")
    client.join(10)
    assert client.error is None
    page.goto("/account")
    page.get_by_label("Code").fill(good)
    page.get_by_role("button", name="Take it away").click()
    assert "used before" in problem(page)


def test_a_hold_that_ended_while_its_page_was_open_cannot_be_answered(window: Window, pghold: Pghold, table: str) -> None:
    client, hold_id = held(pghold, f"DROP TABLE {table}")
    page = window.live(f"/holds/{hold_id}")
    page.locator("#approve-reason").fill("half typed")
    client.cancel()
    expect(page.locator("#standing")).to_contain_text("withdrawn")
    expect(page.locator("#approve")).to_have_count(0)
    client.join(10)
    page.reload()
    expect(page.locator("#standing")).to_contain_text("withdrawn")


def test_all_of_a_long_script_can_be_downloaded(window: Window, pghold: Pghold, table: str) -> None:
    script = f"DROP TABLE {table} -- {'x' * 30_000}"
    with waiting(pghold, (script, {})) as (hold_id,):
        page = window.live(f"/holds/{hold_id}")
        expect(page.get_by_text("The first 20,000 characters are shown.")).to_be_visible()
        with page.expect_download() as download:
            page.get_by_role("link", name="Download all of it").click()
        assert download.value.suggested_filename == f"hold-{hold_id}.sql"
        assert download.value.path().read_text() == script
