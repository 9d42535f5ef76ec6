"""The console over HTTP, with real servers: pages, decisions, people, and what must not get through."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import psycopg
import pyotp
import pytest

from tests.browsing import PHRASE, Browser, Client
from tests.servers import Pghold, PostgresServer, wait_for

PAGES = (
    "/holds",
    "/sessions",
    "/activity",
    "/audit",
    "/audit/chain",
    "/policy",
    "/backups",
    "/health",
    "/people",
    "/account",
    "/rules/drop-table",
)


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    Browser.close_all()


@pytest.fixture
def browser(pghold: Pghold) -> Browser:
    return Browser(pghold)


def held(pghold: Pghold, script: str, **options: str) -> tuple[Client, int]:
    before = {h["id"] for h in pghold.holds()}
    client = Client(pghold, script, **options)
    wait_for(lambda: {h["id"] for h in pghold.holds()} - before, 10)
    return client, max({h["id"] for h in pghold.holds()} - before)


def operator(browser: Browser, name: str, role: str = "approver", **fields: str) -> str:
    answer = browser.post("/people/add", name=name, role=role, **fields)
    found = re.search(r'id="secret">([^<]+)<', answer.text)
    assert found is not None, browser.problem(answer)
    return found[1]


# --- pages ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PAGES)
def test_every_page_is_there_for_a_signed_in_operator(browser: Browser, path: str) -> None:
    answer = browser.get(path)
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("path", [*PAGES, "/events", "/holds/1", "/holds/1/script.sql", "/audit/export", "/holds/list"])
def test_nothing_is_shown_to_those_who_are_not_signed_in(pghold: Pghold, path: str) -> None:
    answer = Browser(pghold, token=None).http.get(path)
    assert answer.status_code in (303, 401)
    assert "DROP" not in answer.text


def test_a_hold_is_approved_on_its_page(pghold: Pghold, browser: Browser, postgres18: PostgresServer, table: str) -> None:
    client, hold_id = held(pghold, f"DROP TABLE {table}")
    page = browser.get(f"/holds/{hold_id}").text
    assert "cannot be taken back" in page
    assert f'<span class="name danger">{table}</span>' in page or "danger" in page
    assert browser.approve(hold_id, object_name=table).status_code == 303
    client.join(10)
    assert client.error is None
    assert postgres18.sql(f"SELECT to_regclass('{table}')") == [(None,)]
    assert "approved by" in browser.get(f"/holds/{hold_id}").text


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"phrase": "yes"}, "type the phrase"),
        ({"reason": " "}, "a reason is needed"),
        ({"object_name": "another"}, "type the name of what is lost"),
        ({"object_name": ""}, "type the name of what is lost"),
    ],
)
def test_an_approval_that_lacks_something_decides_nothing(
    pghold: Pghold, browser: Browser, table: str, fields: dict[str, str], problem: str
) -> None:
    client, hold_id = held(pghold, f"DROP TABLE {table}")
    answer = browser.approve(hold_id, **{"object_name": table, **fields})
    assert answer.status_code == 422
    assert problem in browser.problem(answer)
    assert pghold.hold(hold_id)["state"] == "pending"
    pghold.deny(hold_id)
    client.join(10)


def test_a_returned_statement_reaches_the_client_with_the_operators_words(pghold: Pghold, browser: Browser, table: str) -> None:
    client, hold_id = held(pghold, f"DELETE FROM {table}")
    answer = browser.post(
        f"/holds/{hold_id}/decide", action="return", reason="one tenant only", suggestion=f"DELETE FROM {table} WHERE id = 7"
    )
    assert answer.status_code == 303
    client.join(10)
    assert client.error is not None
    assert "one tenant only" in str(client.error)
    assert f"DELETE FROM {table} WHERE id = 7" in str(client.error.diag.message_hint)


def test_thirty_drops_of_one_program_are_one_decision(pghold: Pghold, browser: Browser, table: str) -> None:
    clients = [Client(pghold, f"DROP TABLE IF EXISTS {table}_{i}", application_name="sync") for i in range(30)]
    wait_for(lambda: len(pghold.holds()) == 30, 10)
    page = browser.get("/holds").text
    found = re.search(r'href="/holds/together\?ids=([\d,]+)"', page)
    assert found is not None
    assert found[1].count(",") == 29
    fields = {"ids": found[1], "action": "approve", "phrase": PHRASE, "reason": "the sync of the test"}
    refused = browser.post("/holds/together", **fields, count="29")
    assert refused.status_code == 422
    assert len(pghold.holds()) == 30
    assert browser.post("/holds/together", **fields, count="30").status_code == 200
    for client in clients:
        client.join(10)
    assert [c.error for c in clients] == [None] * 30


def test_a_practice_hold_is_real_everywhere_but_on_the_server(pghold: Pghold, browser: Browser) -> None:
    answer = browser.post("/holds/practice")
    assert answer.status_code == 303
    hold_id = int(answer.headers["location"].rpartition("/")[2])
    assert browser.approve(hold_id, object_name="Cards").status_code == 303
    assert pghold.wait_for_state(hold_id, "done")["outcome"] == "practice: nothing was run"


def test_the_policy_page_judges_without_running(pghold: Pghold, browser: Browser, postgres18: PostgresServer, table: str) -> None:
    answer = browser.post("/policy/try", script=f"DROP TABLE {table}", role="app")
    assert answer.status_code == 200
    assert "held" in answer.text
    assert "drop-table" in answer.text
    assert postgres18.sql(f"SELECT to_regclass('{table}') IS NOT NULL") == [(True,)]
    assert "let pass" in browser.post("/policy/try", script="SELECT 1").text


def test_the_audit_page_finds_and_exports(pghold: Pghold, browser: Browser, table: str) -> None:
    client, hold_id = held(pghold, f"DROP TABLE {table} /* =cmd */")
    browser.post(f"/holds/{hold_id}/decide", action="deny", reason="=1+1")
    client.join(10)
    assert table in browser.get(f"/audit?hold={hold_id}").text
    assert "No record fits" in browser.get("/audit?text=there-is-no-such-word").text
    lines = browser.get(f"/audit/export?hold={hold_id}&format=jsonl").text.splitlines()
    assert {json.loads(line)["event"] for line in lines} >= {"held", "denied"}
    csv = browser.get(f"/audit/export?hold={hold_id}&format=csv").text
    assert "'=1+1" in csv, "a spreadsheet must not take a reason for a formula"
    assert "The chain is whole" in browser.get("/audit/chain").text


# --- races ------------------------------------------------------------------------------------------------------------


def test_two_browsers_a_program_and_psql_make_one_decision(pghold: Pghold, browser: Browser, table: str) -> None:
    for _ in range(5):
        client, hold_id = held(pghold, f"TRUNCATE {table}")
        other = Browser(pghold)
        console = psycopg.connect(
            host="127.0.0.1", port=pghold.port, user="operator", password=pghold.token, dbname="pghold", autocommit=True
        )

        def psql(console: psycopg.Connection = console, hold_id: int = hold_id) -> str:
            try:
                console.execute(f"APPROVE {hold_id} '{PHRASE}' 'psql'")  # type: ignore[call-overload]
            except psycopg.Error as error:
                return str(error)
            return ""

        with ThreadPoolExecutor(4) as pool:
            web = [pool.submit(b.approve, hold_id, object_name=table, reason="web") for b in (browser, other)]
            program, sql = pool.submit(pghold.approve, hold_id, "program"), pool.submit(psql)
            outcomes = [f.result().status_code == 303 for f in web] + [program.result().status_code == 200, sql.result() == ""]
            told = [browser.problem(f.result()) for f in web] + [program.result().json().get("detail", ""), sql.result()]
        console.close()
        client.join(10)
        assert sum(outcomes) == 1
        for won, text in zip(outcomes, told, strict=True):
            assert won or ("no longer pending" in text and "operator" in text)


# --- people -----------------------------------------------------------------------------------------------------------


def test_roles_do_what_they_may_and_no_more(pghold: Pghold, browser: Browser, table: str) -> None:
    client, hold_id = held(pghold, f"DROP TABLE {table}")
    for role in ("viewer", "auditor"):
        reader = Browser(pghold, operator(browser, f"r-{role}", role))
        assert reader.get(f"/holds/{hold_id}").status_code == 200
        assert reader.approve(hold_id, object_name=table).status_code == 403
        assert reader.post("/holds/practice").status_code == 403
        assert reader.post("/sessions/1/kill").status_code == 403
        assert reader.post("/people/add", name="mallory", role="admin").status_code == 403
    approver = Browser(pghold, operator(browser, "r-approver"))
    assert approver.get("/people").status_code == 403
    assert approver.post("/people/change", name="r-viewer", action="remove").status_code == 403
    assert approver.post("/policy/reload").status_code == 403
    assert pghold.hold(hold_id)["state"] == "pending"
    pghold.deny(hold_id)
    client.join(10)


def test_an_operator_decides_within_his_scope(pghold: Pghold, browser: Browser, table: str) -> None:
    client, hold_id = held(pghold, f"DROP TABLE {table}")
    elsewhere = Browser(pghold, operator(browser, "s-elsewhere", databases="billing*"))
    junior = Browser(pghold, operator(browser, "s-junior", max_severity="medium"))
    own = Browser(pghold, operator(browser, "s-own", database_roles="postgres"))
    namesake = Browser(pghold, operator(browser, "postgres"))
    for person, why in ((elsewhere, "you decide for billing*"), (junior, "up to severity medium"), (own, "his own"), (namesake, "his own")):
        answer = person.approve(hold_id, object_name=table)
        assert answer.status_code == 403
        assert why in person.problem(answer)
    pghold.deny(hold_id)
    client.join(10)


def test_a_disabled_operator_is_out_at_once(pghold: Pghold, browser: Browser) -> None:
    token = operator(browser, "d-gone")
    gone = Browser(pghold, token)
    assert browser.post("/people/change", name="d-gone", action="disable").status_code == 303
    assert gone.http.get("/holds").status_code == 303
    assert Browser(pghold, token=None).sign_in("", token).status_code == 401
    assert httpx.get(f"{pghold.console}/api/v1/holds", headers={"Authorization": f"Bearer {token}"}, trust_env=False).status_code == 401


def test_a_password_is_set_and_ends_other_sessions(pghold: Pghold, browser: Browser) -> None:
    token = operator(browser, "p-ana")
    first, second = Browser(pghold, token), Browser(pghold, token)
    assert first.post("/account/password", new="short", again="short").status_code == 422
    answer = first.post("/account/password", new="correct horse battery", again="correct horse battery")
    assert answer.status_code == 200
    assert first.http.get("/holds").status_code == 200
    assert second.http.get("/holds").status_code == 303
    assert Browser(pghold, token=None).sign_in("p-ana", "correct horse battery").status_code == 303


def test_wrong_passwords_lock_the_name_and_tell_nothing(pghold: Pghold, browser: Browser) -> None:
    Browser(pghold, operator(browser, "l-bob")).post("/account/password", new="correct horse battery", again="correct horse battery")
    guesser = Browser(pghold, token=None)
    answers = [guesser.sign_in("l-bob", f"wrong {i}") for i in range(5)]
    assert [a.status_code for a in answers] == [401] * 5
    assert guesser.problem(guesser.sign_in("nobody", "wrong")) == guesser.problem(answers[0])
    assert guesser.sign_in("l-bob", "correct horse battery").status_code == 429


@pytest.fixture(scope="module")
def careful(postgres18: PostgresServer, folder) -> Iterator[Pghold]:  # type: ignore[no-untyped-def]
    """A proxy that wants two people for a DROP TABLE, and a code for a TRUNCATE."""
    policy = folder / "careful.toml"
    policy.write_text(
        '[[policy.approvals]]\nrules = "drop-table"\napprovers = 2\n'
        '[[policy.approvals]]\nrules = "truncate"\nsecond_factor = true\n'
        '[[policy.approvals]]\nrules = "drop-schema"\napprovers = 2\nbreak_glass = false\n'
    )
    proxy = Pghold(f"postgresql://127.0.0.1:{postgres18.port}/postgres", "--policy", str(policy))
    yield proxy
    assert proxy.stop() == 0


def test_two_people_must_approve(careful: Pghold, postgres18: PostgresServer, table: str) -> None:
    admin = Browser(careful)
    second = Browser(careful, operator(admin, "f-second"))
    client, hold_id = held(careful, f"DROP TABLE {table}")
    assert admin.approve(hold_id, object_name=table).status_code == 303
    assert careful.hold(hold_id)["state"] == "pending"
    assert "1 of 2" in admin.get(f"/holds/{hold_id}").text
    again = admin.approve(hold_id, object_name=table)
    assert again.status_code == 409
    assert "another person" in admin.problem(again)
    assert second.approve(hold_id, object_name=table).status_code == 303
    client.join(10)
    assert client.error is None
    assert careful.hold(hold_id)["decision"]["approvers"] == ["operator", "f-second"]
    assert [r["event"] for r in careful.audit() if r["hold_id"] == hold_id].count("approval") == 2


def test_break_glass_is_one_person_and_loud(careful: Pghold, table: str) -> None:
    admin = Browser(careful)
    client, hold_id = held(careful, f"DROP TABLE {table}")
    assert admin.approve(hold_id, object_name=table, break_glass="true", reason="the site is down").status_code == 303
    client.join(10)
    assert client.error is None
    assert careful.hold(hold_id)["decision"]["break_glass"] is True
    assert [r["reason"] for r in careful.audit() if r["event"] == "break-glass" and r["hold_id"] == hold_id] == ["the site is down"]


def test_the_command_line_is_told_that_another_must_approve_and_has_break_glass(careful: Pghold, table: str) -> None:
    client, hold_id = held(careful, f"DROP TABLE {table}")
    command = [sys.executable, "-m", "proxy", "approve", str(hold_id), "--phrase", PHRASE, "--reason", "cli"]
    place = ["--console", careful.console, "--token", careful.token]
    first = subprocess.run([*command, *place], capture_output=True, text=True)
    assert (first.returncode, first.stdout) == (0, f"Hold {hold_id} is pending: 1 more must approve.\n")
    second = subprocess.run([*command, "--break-glass", *place], capture_output=True, text=True)
    assert (second.returncode, second.stdout) == (0, f"Hold {hold_id} is approved.\n")
    client.join(10)
    assert client.error is None


def test_break_glass_can_be_forbidden(careful: Pghold) -> None:
    admin = Browser(careful)
    client, hold_id = held(careful, "DROP SCHEMA nowhere")
    answer = admin.approve(hold_id, object_name="nowhere", break_glass="true")
    assert answer.status_code == 403
    assert careful.hold(hold_id)["state"] == "pending"
    careful.deny(hold_id)
    client.join(10)


def test_a_second_factor_is_asked_for_and_a_code_counts_once(careful: Pghold, table: str) -> None:
    admin = Browser(careful)
    ana = Browser(careful, operator(admin, "t-ana"))
    client, hold_id = held(careful, f"TRUNCATE {table}")
    assert "none yet" in ana.problem(ana.approve(hold_id, object_name=table))
    found = re.search(r'id="totp-secret">([^<]+)<', ana.get("/account").text)
    assert found is not None
    totp = pyotp.TOTP(found[1])
    assert ana.post("/account/second-factor", action="confirm", secret=found[1], code="000000").status_code == 422
    # The code that confirms the device is used up: the next is that of the step before or after.
    import time

    now = int(time.time())
    ana.post("/account/second-factor", action="confirm", secret=found[1], code=totp.at(now - 30))
    assert "A device is set up" in ana.get("/account").text
    assert "wrong" in ana.problem(ana.approve(hold_id, object_name=table, code=totp.at(now - 30)))
    assert ana.approve(hold_id, object_name=table, code=totp.at(now)).status_code == 303
    client.join(10)
    assert client.error is None


# --- what must not get through ----------------------------------------------------------------------------------------


def test_a_form_without_the_sessions_token_does_nothing(pghold: Pghold, browser: Browser, table: str) -> None:
    client, hold_id = held(pghold, f"TRUNCATE {table}")
    fields = {"action": "approve", "phrase": PHRASE, "reason": "x", "object_name": table}
    other = Browser(pghold)
    for csrf in ({}, {"csrf": ""}, {"csrf": "x" * 43}, {"csrf": other.csrf}, {"csrf": "\u00e9"}):
        assert browser.http.post(f"/holds/{hold_id}/decide", data={**fields, **csrf}).status_code == 403
    assert pghold.hold(hold_id)["state"] == "pending"
    pghold.deny(hold_id)
    client.join(10)


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_another_site_changes_nothing_even_with_the_token(browser: Browser, headers: dict[str, str]) -> None:
    answer = browser.http.post("/holds/practice", data={"csrf": browser.csrf}, headers=headers)
    assert answer.status_code == 403


def test_a_session_of_before_the_login_is_not_taken_over(pghold: Pghold) -> None:
    victim = Browser(pghold, token=None)
    victim.http.cookies.set("pghold", "chosen-by-an-attacker", domain="127.0.0.1")
    victim.sign_in("", pghold.token)
    values = [c.value for c in victim.http.cookies.jar if c.name == "pghold"]
    assert "chosen-by-an-attacker" not in values[-1:]
    attacker = Browser(pghold, token=None)
    attacker.http.cookies.set("pghold", "chosen-by-an-attacker")
    assert attacker.http.get("/holds").status_code == 303


def test_signing_out_ends_the_session_on_the_server(pghold: Pghold) -> None:
    browser = Browser(pghold)
    kept = dict(browser.http.cookies)
    assert browser.post("/logout").status_code == 303
    thief = Browser(pghold, token=None)
    thief.http.cookies.update(kept)
    assert thief.http.get("/holds").status_code == 303


HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'{{7*7}}"


def test_the_text_of_a_statement_is_never_markup(pghold: Pghold, browser: Browser, table: str) -> None:
    name = '"<script>alert(1)</script>"'
    client, hold_id = held(pghold, f"DROP TABLE IF EXISTS {table}, {name} /* {HOSTILE} */", application_name=HOSTILE[:60])
    for path in ("/holds", f"/holds/{hold_id}", "/sessions", f"/audit?hold={hold_id}", "/holds?q=script", f"/holds/together?ids={hold_id}"):
        page = browser.get(path).text
        assert "<script>alert" not in page
        assert "<img src=x" not in page
        assert "49" not in re.findall(r"onerror=alert\(1\)&gt;&#34;&#39;(\d+)", page)
    browser.post(f"/holds/{hold_id}/decide", action="deny", reason=HOSTILE)
    client.join(10)
    for path in ("/holds", f"/holds/{hold_id}", f"/audit?hold={hold_id}"):
        assert "<script>alert" not in browser.get(path).text
    assert "<script>alert" not in browser.post("/policy/try", script=HOSTILE, role=HOSTILE).text


def test_characters_that_deceive_are_shown_by_their_codes(pghold: Pghold, browser: Browser, table: str) -> None:
    client, hold_id = held(pghold, f"DROP TABLE {table} /* \u202e safe \u200b */ -- \u0430dmin")
    page = browser.get(f"/holds/{hold_id}").text
    assert "U+202E RIGHT-TO-LEFT OVERRIDE" in page
    assert "U+200B ZERO WIDTH SPACE" in page
    assert "\u202e" not in page
    assert "\u200b" not in page
    assert "\u202e" not in browser.get("/holds").text
    pghold.deny(hold_id)
    client.join(10)


@pytest.mark.parametrize(
    "target", ["//evil.example", "https://evil.example", "/\\evil.example", "/\t/evil.example", "javascript:alert(1)", "\r\nX: y"]
)
def test_signing_in_leads_to_no_other_host(pghold: Pghold, target: str) -> None:
    answer = Browser(pghold, token=None).sign_in("", pghold.token, target)
    assert answer.headers["location"] == "/"
    assert "x" not in {k.lower() for k in answer.headers} - {"x-content-type-options", "x-frame-options"}


@pytest.mark.parametrize(
    "path",
    [
        "/static/../views.py",
        "/static/%2e%2e/views.py",
        "/static/..%2fviews.py",
        "/static//etc/passwd",
        "/holds/1%00",
        "/rules/..%2f..%2fetc",
    ],
)
def test_paths_lead_nowhere_else(browser: Browser, path: str) -> None:
    answer = browser.http.get(path)
    assert answer.status_code in (404, 422)
    assert "import" not in answer.text


def test_every_answer_has_the_headers(pghold: Pghold, browser: Browser) -> None:
    for path in ("/login", "/holds", "/static/console.js", "/api/v1/holds", "/nowhere", "/healthz"):
        headers = browser.http.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert "server" not in headers
    cookie = Browser(pghold, token=None).sign_in("", pghold.token).headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "samesite=lax" in cookie.lower()


def test_tokens_that_were_made_up_are_good_for_nothing(pghold: Pghold) -> None:
    for token in ("pghold_", pghold.token[:-1], pghold.token + "x", pghold.token.upper(), "null", "' OR 1=1 --"):
        answer = httpx.get(f"{pghold.console}/api/v1/holds", headers={"Authorization": f"Bearer {token}"}, trust_env=False)
        assert answer.status_code == 401
        assert Browser(pghold, token=None).sign_in("operator", token or "x").status_code in (401, 429)


def test_the_referrer_policy_lets_browsers_name_the_origin_of_our_own_forms(pghold: Pghold) -> None:
    """With no-referrer they send `Origin: null` (Fetch standard, "append a request Origin header"), which is refused."""
    page = Browser(pghold, token=None).http.get("/login")
    assert page.headers["referrer-policy"] == "same-origin"
    own = Browser(pghold, token=None).http.post("/login", data={"password": pghold.token}, headers={"Origin": pghold.console})
    assert own.status_code == 303
