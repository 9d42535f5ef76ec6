"""What a hold is about, and decisions for more than one moment: session grants, retries, held again; in a browser."""

from __future__ import annotations

import threading

import psycopg
import pytest
from playwright.sync_api import expect

from tests.browser.chromium import Window
from tests.browser.scene import held
from tests.browser.steps import approve, events, exists, problem
from tests.browsing import Client
from tests.servers import Pghold, PostgresServer, wait_for

REFUSING = {"options": "-c pghold.on_hold=reject"}


def refused(pghold: Pghold, script: str) -> int:
    """Sent by a client that does not wait; the hold's id."""
    before = {h["id"] for h in pghold.holds()}
    with pghold.connect(**REFUSING) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(script)  # type: ignore[call-overload]
    [found] = [h["id"] for h in pghold.holds() if h["id"] not in before]
    return int(found)


def test_a_hold_says_what_it_is_about_and_what_came_before(window: Window, pghold: Pghold, postgres18: PostgresServer, table: str) -> None:
    postgres18.sql(f"CREATE VIEW {table}_view AS SELECT * FROM {table}; ANALYZE {table}")
    with pghold.connect() as connection:
        connection.execute("SELECT 'the statement before'")
        client = threading.Thread(target=lambda: connection.execute(f"DROP TABLE {table} CASCADE"))
        client.start()
        hold_id = pghold.wait_for_hold()["id"]
        page = window.live(f"/holds/{hold_id}")
        objects = page.locator("#objects")
        expect(objects).to_contain_text("about 10 rows")
        expect(objects).to_contain_text("owner postgres")
        expect(objects).to_contain_text(f"views: {table}_view")
        expect(page.locator(".before")).to_contain_text("the statement before")
        approve(page, name=table)
        client.join(10)
    assert not exists(postgres18, table)


def test_a_session_that_blocks_others_says_whom(window: Window, pghold: Pghold, postgres18: PostgresServer, table: str) -> None:
    with pghold.connect() as connection, pghold.connect(application_name="patient") as other:
        connection.execute(f"BEGIN; LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")  # type: ignore[call-overload]
        waiting = threading.Thread(target=lambda: other.execute(f"SELECT count(*) FROM {table}"))
        waiting.start()
        wait_for(lambda: postgres18.sql("SELECT count(*) FROM pg_locks WHERE NOT granted")[0][0] == 1, 10)
        client = threading.Thread(target=lambda: connection.execute(f"DELETE FROM {table}"))
        client.start()
        hold_id = pghold.wait_for_hold()["id"]
        page = window.live(f"/holds/{hold_id}")
        expect(page.locator("#objects")).to_contain_text("1 session waits behind the locks of this one")
        expect(page.locator("#objects")).to_contain_text("patient")
        page.goto("/holds")
        expect(page.locator(f"#hold-{hold_id}")).to_contain_text("1 session")
        pghold.approve(hold_id)
        client.join(10)
        connection.execute("ROLLBACK")
        waiting.join(10)


def test_what_changed_since_the_look_is_held_again_and_the_page_says_how(
    window: Window, pghold: Pghold, postgres18: PostgresServer, table: str
) -> None:
    client, hold_id = held(pghold, f"DROP TABLE {table}")
    page = window.live(f"/holds/{hold_id}")
    expect(page.locator("#objects")).to_contain_text("owner postgres")
    postgres18.sql(f"ALTER TABLE {table} RENAME TO {table}_old; CREATE TABLE {table} (other int)")
    approve(page, name=table)
    expect(page.locator("#standing")).to_contain_text("held again")
    again = pghold.wait_for_hold()["id"]
    page.goto("/holds")
    expect(page.locator(f"#hold-{again}")).to_contain_text("held again: what it is about changed")
    page.goto(f"/holds/{again}")
    expect(page.locator("#objects")).to_contain_text("is another table now")
    expect(page.locator("#objects").get_by_role("link", name=f"#{hold_id}")).to_be_visible()
    approve(page, name=table)
    expect(page.locator("#standing")).to_contain_text("done")
    client.join(10)
    assert postgres18.sql(f"SELECT to_regclass('{table}') IS NULL, to_regclass('{table}_old') IS NOT NULL")[0] == (True, True)
    postgres18.sql(f"DROP TABLE {table}_old")


def test_a_session_grant_is_given_seen_and_taken_back(window: Window, pghold: Pghold, postgres18: PostgresServer, table: str) -> None:
    with pghold.connect() as connection:
        client = threading.Thread(target=lambda: connection.execute(f"DELETE FROM {table}"))
        client.start()
        hold_id = pghold.wait_for_hold()["id"]
        page = window.live(f"/holds/{hold_id}")
        page.get_by_label("Also let the same rules pass in this session").select_option("for 15 minutes")
        approve(page, name=table)
        expect(page.locator("#standing")).to_contain_text("done")
        client.join(10)
        postgres18.sql(f"INSERT INTO {table} SELECT 1")
        connection.execute(f"DELETE FROM {table}")  # type: ignore[call-overload]  # no wait
        page.goto("/sessions")
        grant = page.locator("tr", has_text="these rules, in session").filter(has=page.get_by_role("link", name=f"#{hold_id}"))
        expect(grant).to_contain_text("delete-without-where")
        window.answers_dialogs = True
        grant.get_by_role("button", name="Take back the grant").click()
        expect(page.get_by_text("decided ahead")).to_have_count(0)
        client = threading.Thread(target=lambda: refused_after(connection, f"DELETE FROM {table}"))
        client.start()
        pghold.deny(pghold.wait_for_hold()["id"])
        client.join(10)
    assert "grant revoked" in events(pghold, hold_id)


def refused_after(connection: psycopg.Connection[tuple[object, ...]], script: str) -> None:
    with pytest.raises(psycopg.Error):
        connection.execute(script)  # type: ignore[call-overload]


def test_a_hold_nobody_waits_for_is_approved_for_one_retry(window: Window, pghold: Pghold, postgres18: PostgresServer, table: str) -> None:
    script = f"DROP TABLE {table}"
    hold_id = refused(pghold, script)
    page = window.live("/holds")
    expect(page.locator(f"#hold-{hold_id}")).to_contain_text("the client does not wait")
    page.goto(f"/holds/{hold_id}")
    expect(page.locator("#approve")).to_contain_text("Nobody waits for it")
    expect(page.locator("#session_minutes")).to_have_count(0)
    approve(page, name="something else")
    assert "type the name of what is lost" in problem(page)
    approve(page, name=table)
    expect(page.locator("#standing")).to_contain_text("runs once, when it is sent again")
    page.goto("/sessions")
    expect(page.get_by_text("one retry of the same statement")).to_be_visible()
    page.goto(f"/holds/{hold_id}")
    with pghold.connect(**REFUSING) as connection:
        connection.execute(script)  # type: ignore[call-overload]
    assert not exists(postgres18, table)
    expect(page.locator("#standing")).to_contain_text("done")
    assert events(pghold, hold_id) == ["held", "operator refused", "approved", "grant used", "outcome"]


def test_a_hold_whose_client_left_can_still_be_approved(window: Window, pghold: Pghold, postgres18: PostgresServer, table: str) -> None:
    client = Client(pghold, f"DROP TABLE {table}")
    hold_id = pghold.wait_for_hold()["id"]
    client._connection.cancel_safe()
    client.join(10)
    page = window.live(f"/holds/{hold_id}")
    expect(page.locator("#standing")).to_contain_text("withdrawn")
    expect(page.locator("#approve")).to_have_count(0)  # taken back by the client itself: there is nothing to approve
    postgres18.sql(f"DROP TABLE {table}")
