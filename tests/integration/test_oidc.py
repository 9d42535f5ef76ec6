"""Signing in by OpenID Connect: with a real provider, and with one that lies."""

from __future__ import annotations

import html
import json
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from tests.browsing import PHRASE, Browser, Client
from tests.providers import (
    CLIENT,
    SECRET,
    ECKey,
    Hostile,
    OctKey,
    Provider,
    RSAKey,
    Visit,
    challenge,
    free_port,
    oidc_pghold,
    unsigned,
)
from tests.servers import Pghold, PostgresServer, wait_for


def person(name: str, *groups: str) -> dict[str, Any]:
    return {"email": f"{name}@example.com", "email_verified": True, "groups": list(groups), "preferred_username": name}


ADDRESSES = (f"203.0.{i // 250}.{i % 250 + 1}" for i in count())
ACCOUNTS = {
    "ana": person("ana", "dba", "everybody"),
    "chief": person("chief", "staff", "chiefs"),
    "guest": person("guest", "everybody"),
    "boss": person("boss", "dba"),
    "mover": person("mover", "dba"),
    "newcomer": person("mover-to-be", "dba"),
    "leaver": person("leaver", "dba"),
    "out": person("out", "dba"),
    "silent": {"groups": ["dba"]},
    "shady": {"email": "chief@example.com", "email_verified": False, "groups": ["dba"]},
    "vague": {"email": "vague@example.com", "groups": ["dba"]},
    "odd": {"email": '"<script>"@example.com', "email_verified": True, "groups": ["dba"]},
    "alike": {"email": "аna@example.com", "email_verified": True, "groups": ["dba"]},
}


@pytest.fixture(scope="module")
def real(postgres18: PostgresServer, folder: Path) -> Iterator[tuple[Pghold, Provider]]:
    port = free_port()
    provider = Provider(port, dict(ACCOUNTS), folder)
    proxy = oidc_pghold(postgres18, port, provider.issuer)
    yield proxy, provider
    assert proxy.stop() == 0
    provider.stop()


@pytest.fixture(scope="module")
def lying(postgres18: PostgresServer) -> Iterator[tuple[Pghold, Hostile]]:
    provider = Hostile()
    proxy = oidc_pghold(postgres18, free_port(), provider.issuer, console_default_role="viewer")
    yield proxy, provider
    assert proxy.stop() == 0
    provider.stop()


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    Browser.close_all()


@pytest.fixture
def visits(request: pytest.FixtureRequest) -> Iterator[Any]:
    made: list[Visit] = []

    def visit(proxy: Pghold) -> Visit:
        """From an address of its own, by the word of a proxy on loopback: one address may fail so many times a minute."""
        made.append(Visit(proxy))
        made[-1].http.headers["X-Forwarded-For"] = next(ADDRESSES)
        return made[-1]

    yield visit
    for one in made:
        one.close()


def problem(answer: httpx.Response) -> str:
    found = re.search(r'class="problem"[^>]*>(.*?)</', answer.text, re.DOTALL)
    return html.unescape(found[1]) if found else ""


def role_of(visit: Visit) -> str:
    found = re.search(r'<h1>(\S+) <span class="quiet">(\w+)</span>', visit.get("/account").text)
    return f"{found[1]} {found[2]}" if found else ""


# --- a real provider --------------------------------------------------------------------------------------------------


def test_a_person_signs_in_and_has_the_strongest_role_of_his_groups(real: tuple[Pghold, Provider], visits: Any) -> None:
    proxy, provider = real
    for account, expected in (("ana", "ana@example.com approver"), ("chief", "chief@example.com admin")):
        provider.become(account)
        visit = visits(proxy)
        answer = visit.go("/holds?q=x")
        assert (answer.status_code, answer.headers["location"]) == (303, "/holds?q=x")
        assert role_of(visit) == expected
    assert {"logged in"} <= {r["event"] for r in proxy.audit() if r["operator"] == "ana@example.com"}
    assert SECRET not in (proxy.folder / "stderr.log").read_text()


def test_a_session_of_before_the_sign_in_is_not_taken_over(real: tuple[Pghold, Provider], visits: Any) -> None:
    proxy, provider = real
    provider.become("ana")
    stranger = visits(proxy)
    provider.become("chief")
    stranger.go()
    planted = stranger.http.cookies["pghold"]
    victim = visits(proxy)
    victim.http.cookies.set("pghold", planted, domain="127.0.0.1")
    provider.become("ana")
    answer = victim.go()
    assert answer.headers["set-cookie"].startswith("pghold=")
    assert f"pghold={planted}" not in answer.headers["set-cookie"]
    assert stranger.get("/holds").status_code == 303, "the one that was planted is over"


def test_who_asks_says_so_with_state_nonce_and_pkce(real: tuple[Pghold, Provider], visits: Any) -> None:
    begun = visits(real[0]).begin("//evil.example")
    asked = {k: v[0] for k, v in parse_qs(urlsplit(begun.headers["location"]).query).items()}
    assert (asked["response_type"], asked["code_challenge_method"]) == ("code", "S256")
    assert asked["redirect_uri"] == f"{real[0].console}/login/oidc/callback"
    assert all(len(asked[k]) >= 20 for k in ("state", "nonce", "code_challenge"))
    assert "httponly" in begun.headers["set-cookie"].lower()


@pytest.mark.parametrize(
    ("account", "why"),
    [
        ("guest", "in no group that has a role"),
        ("silent", "sends no email"),
        ("shady", "verified"),
        ("vague", "verified"),
        ("odd", "a name from another system"),
        ("alike", "a name from another system"),
    ],
)
def test_who_is_not_let_in_is_told_why(real: tuple[Pghold, Provider], visits: Any, account: str, why: str) -> None:
    proxy, provider = real
    provider.become(account)
    visit = visits(proxy)
    answer = visit.go()
    assert answer.status_code == 403
    assert why in problem(answer)
    assert "<script>" not in answer.text
    assert visit.get("/holds").status_code == 303
    assert "login failed" in {r["event"] for r in proxy.audit()}


def test_a_local_operator_is_not_taken_over(real: tuple[Pghold, Provider], visits: Any) -> None:
    proxy, provider = real
    admin = Browser(proxy)
    assert admin.post("/people/add", name="boss@example.com", role="viewer").status_code == 200
    for email in ("boss@example.com", "Boss@Example.com"):
        provider.become("boss", email=email)
        answer = visits(proxy).go()
        assert answer.status_code == 403
        assert "is a local operator" in problem(answer)
    # And an operator of the provider is not made a local one by adding his name.
    provider.become("ana")
    assert visits(proxy).go().status_code == 303
    assert admin.post("/people/add", name="Ana@example.com", role="admin").status_code == 409


def test_an_account_is_one_operator_whatever_its_address(real: tuple[Pghold, Provider], visits: Any) -> None:
    proxy, provider = real
    provider.become("mover")
    assert visits(proxy).go().status_code == 303
    # Another account with his address is not he.
    provider.become("newcomer", email="Mover@example.com")
    answer = visits(proxy).go()
    assert (answer.status_code, "another account" in problem(answer)) == (403, True)
    # With another address he is not a second person who could approve besides himself.
    provider.become("mover", email="mover2@example.com")
    answer = visits(proxy).go()
    assert (answer.status_code, "You are mover@example.com here" in problem(answer)) == (403, True)


def test_the_answer_must_come_to_the_browser_that_asked(real: tuple[Pghold, Provider], visits: Any) -> None:
    """Login CSRF: an attacker's own answer would sign a victim in as the attacker."""
    proxy, provider = real
    provider.become("ana")
    attacker, victim = visits(proxy), visits(proxy)
    place = attacker.until_callback()
    answer = victim.http.get(place)
    assert (answer.status_code, "not begun here" in problem(answer)) == (403, True)
    victim.begin()
    assert victim.http.get(place).status_code == 403
    assert victim.get("/holds").status_code == 303
    # It is still good where it was begun, and there once.
    assert attacker.http.get(place).status_code == 303
    assert attacker.http.get(place).status_code == 403


def test_made_up_states_and_used_codes_sign_nobody_in(real: tuple[Pghold, Provider], visits: Any) -> None:
    proxy, provider = real
    provider.become("ana")
    visit = visits(proxy)
    place = visit.until_callback()
    query = {k: v[0] for k, v in parse_qs(urlsplit(place).query).items()}
    for forged in ({**query, "state": "x"}, {k: v for k, v in query.items() if k != "state"}, {"state": query["state"] + "x", "code": "x"}):
        assert visit.http.get(f"{proxy.console}/login/oidc/callback", params=forged).status_code == 403
    assert visit.http.get(place).status_code == 303
    begun = visit.begin()
    state = parse_qs(urlsplit(begun.headers["location"]).query)["state"][0]
    again = visit.http.get(f"{proxy.console}/login/oidc/callback", params={**query, "state": state})
    assert (again.status_code, problem(again)) == (403, "The provider did not confirm the login.")


def test_a_provider_that_says_no_signs_nobody_in(real: tuple[Pghold, Provider], visits: Any) -> None:
    proxy, provider = real
    provider.say("account", account=None)
    answer = visits(proxy).go()
    assert (answer.status_code, problem(answer)) == (403, "The provider did not sign you in.")


@pytest.mark.parametrize("alg", ["ES256", "RS256"])
def test_new_keys_of_the_provider_are_fetched_when_one_is_seen(real: tuple[Pghold, Provider], visits: Any, alg: str) -> None:
    proxy, provider = real
    provider.become("ana")
    assert visits(proxy).go().status_code == 303
    provider.say("rotate", alg=alg)
    # At most once in ten seconds, which the second of these may have to wait for.
    wait_for(lambda: visits(proxy).go().status_code == 303, 20)


def test_signing_out_ends_the_session_here(real: tuple[Pghold, Provider], visits: Any) -> None:
    proxy, provider = real
    provider.become("ana")
    visit = visits(proxy)
    visit.go()
    kept = {c.name: c.value for c in visit.http.cookies.jar}["pghold"]
    assert visit.post("/logout").status_code == 303
    thief = visits(proxy)
    thief.http.cookies.set("pghold", kept or "", domain="127.0.0.1")
    assert thief.get("/holds").status_code == 303


def token_of(visit: Visit) -> str:
    found = re.search(r'id="secret">([^<]+)<', visit.post("/account/token", name=f"t{time.monotonic_ns()}", days="30").text)
    assert found is not None
    return found[1]


def api(proxy: Pghold, token: str, path: str = "/api/v1/holds", **body: str) -> httpx.Response:
    method = "POST" if body else "GET"
    return httpx.request(method, f"{proxy.console}{path}", json=body or None, headers={"Authorization": f"Bearer {token}"}, trust_env=False)


def test_a_person_who_lost_his_group_loses_everything_at_his_next_sign_in(real: tuple[Pghold, Provider], visits: Any) -> None:
    proxy, provider = real
    provider.become("leaver")
    first = visits(proxy)
    first.go()
    token = token_of(first)
    assert api(proxy, token).status_code == 200
    provider.become("leaver", groups=["everybody"])
    assert first.get("/holds").status_code == 200, "until then his session goes on"
    assert visits(proxy).go().status_code == 403
    assert first.get("/holds").status_code == 303
    assert api(proxy, token).status_code == 401
    provider.become("leaver", groups=["staff"])
    last = visits(proxy)
    last.go()
    assert role_of(last) == "leaver@example.com viewer"
    assert api(proxy, token, "/api/v1/holds/1/deny", reason="x").status_code in (403, 404)


def test_a_disabled_person_is_out_with_his_tokens_and_does_not_come_back(real: tuple[Pghold, Provider], visits: Any) -> None:
    proxy, provider = real
    provider.become("out")
    visit = visits(proxy)
    visit.go()
    token = token_of(visit)
    admin = Browser(proxy)
    assert admin.post("/people/change", name="out@example.com", action="disable").status_code == 303
    assert visit.get("/holds").status_code == 303
    assert api(proxy, token).status_code == 401
    answer = visits(proxy).go()
    assert (answer.status_code, "is disabled" in problem(answer)) == (403, True)


def test_a_person_of_the_provider_decides_with_a_token_but_never_about_his_own(
    real: tuple[Pghold, Provider], visits: Any, postgres18: PostgresServer, table: str
) -> None:
    proxy, provider = real
    postgres18.sql("DO $$ BEGIN CREATE ROLE ana SUPERUSER LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
    postgres18.sql('DO $$ BEGIN CREATE ROLE "Ana" SUPERUSER LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$')
    provider.become("ana")
    visit = visits(proxy)
    visit.go()
    token = token_of(visit)
    for role, status in (("ana", 403), ("Ana", 403), ("postgres", 200)):
        connection = proxy.connect()
        connection.close()
        client = RoleClient(proxy, role, f"TRUNCATE {table}")
        wait_for(lambda: bool(proxy.holds()), 10)
        hold_id = proxy.holds()[0]["id"]
        answer = api(proxy, token, f"/api/v1/holds/{hold_id}/approve", phrase=PHRASE, reason="tested")
        assert answer.status_code == status, answer.text
        page = visit.post(f"/holds/{hold_id}/decide", action="deny", reason="x")
        assert page.status_code == (403 if status == 403 else 409)
        if status == 403:
            assert "never decides his own" in answer.text
            proxy.deny(hold_id)
        client.join(10)


class RoleClient(Client):
    def __init__(self, proxy: Pghold, role: str, script: str) -> None:
        self._role = role
        super().__init__(Proxied(proxy, role), script)  # type: ignore[arg-type]  # only connect() is used


class Proxied:
    def __init__(self, proxy: Pghold, role: str) -> None:
        self._proxy, self._role = proxy, role

    def connect(self, dbname: str, **options: Any) -> Any:
        import psycopg

        return psycopg.connect(host="127.0.0.1", port=self._proxy.port, user=self._role, dbname=dbname, autocommit=True, **options)


def test_a_person_of_the_provider_has_no_password_here(real: tuple[Pghold, Provider], visits: Any) -> None:
    proxy, provider = real
    provider.become("ana")
    visit = visits(proxy)
    visit.go()
    answer = visit.post("/account/password", new="correct horse battery", again="correct horse battery")
    assert answer.status_code == 403
    assert Browser(proxy, token=None).sign_in("ana@example.com", "correct horse battery").status_code == 401


def test_a_browser_signs_in_through_the_provider(real: tuple[Pghold, Provider]) -> None:
    from playwright.sync_api import sync_playwright

    proxy, provider = real
    provider.become("ana")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox", "--no-proxy-server"])
        try:
            page = chromium.new_page()
            page.goto(f"{proxy.console}/policy")
            page.get_by_role("link", name="Sign in with your organisation").click()
            page.wait_for_url(f"{proxy.console}/policy")
            page.goto(f"{proxy.console}/account")
            assert "ana@example.com" in (page.text_content("h1") or "")
        finally:
            chromium.close()


# --- a provider that lies ---------------------------------------------------------------------------------------------


def test_what_a_right_answer_is(lying: tuple[Pghold, Hostile], visits: Any) -> None:
    """So that the refusals below are for what they say. The default role is for those without a group of ours."""
    proxy, provider = lying
    for groups, expected in ((["dba"], "approver"), (["none"], "viewer"), ("chiefs", "admin"), (None, "viewer"), ([{"a": 1}, 7], "viewer")):
        provider.answer = lambda nonce, groups=groups: provider.good(nonce, groups=groups)
        visit = visits(proxy)
        assert provider.sign_in(visit).status_code == 303
        assert role_of(visit) == f"eve@example.com {expected}"
    authorization, body = provider.requests[-1]
    assert authorization.startswith("Basic ")
    assert challenge(body["code_verifier"][0]) == provider.asked["code_challenge"]


OTHER = RSAKey.generate_key(2048, {"kid": "one", "use": "sig"})
EC = ECKey.generate_key("P-256", {"kid": "one"})
NOW = int(time.time())


def changed(**claims: Any) -> Any:
    return lambda p, nonce: p.token(p.claims(nonce, **claims))


LIES = {
    "no signature": lambda p, n: {**p.token(p.claims(n)), "id_token": unsigned(p.claims(n), "none")},
    "no signature, in capitals": lambda p, n: {**p.token(p.claims(n)), "id_token": unsigned(p.claims(n), "NONE")},
    "a signature left out": lambda p, n: {**p.token(p.claims(n)), "id_token": unsigned(p.claims(n), "RS256")},
    "HMAC with the client's secret": lambda p, n: p.token(p.claims(n), OctKey.import_key(SECRET), "HS256"),
    "HMAC with the public key": lambda p, n: p.token(p.claims(n), OctKey.import_key(p.key.as_pem(private=False)), "HS256"),
    "another key of the same name": lambda p, n: p.token(p.claims(n), OTHER),
    "a key that comes along": lambda p, n: p.token(p.claims(n), OTHER, jwk=OTHER.as_dict(private=False)),
    "a key of another kind": lambda p, n: p.token(p.claims(n), EC, "ES256"),
    "another issuer": changed(iss="https://evil.example"),
    "no issuer": changed(iss=None),
    "for another client": changed(aud="another"),
    "for nobody": changed(aud=None),
    "for two, by another": changed(aud=[CLIENT, "another"], azp="another"),
    "over": changed(exp=NOW - 3600),
    "never over": changed(exp=None),
    "over at no time": changed(exp="tomorrow"),
    "not yet": changed(nbf=NOW + 3600),
    "of the future": changed(iat=NOW + 3600),
    "another nonce": changed(nonce="another"),
    "no nonce": changed(nonce=None),
    "no subject": changed(sub=None),
    "an empty subject": changed(sub=""),
    "a subject that is no text": changed(sub=7),
    "no token": lambda p, n: {"access_token": "a", "token_type": "Bearer"},
    "half a token": lambda p, n: {**p.token(p.claims(n)), "id_token": p.token(p.claims(n))["id_token"][:-20]},
    "claims that were changed": lambda p, n: {**p.token(p.claims(n)), "id_token": swapped(p, n)},
    "an error": lambda p, n: {"error": "invalid_grant"},
    "a list": lambda p, n: [1, 2],
    "a number for a token": lambda p, n: {**p.token(p.claims(n)), "id_token": 7},
}  # fmt: skip


def swapped(provider: Hostile, nonce: str) -> str:
    head, _, signature = provider.token(provider.claims(nonce))["id_token"].split(".")
    body = provider.token(provider.claims(nonce, groups=["chiefs"]))["id_token"].split(".")[1]
    return f"{head}.{body}.{signature}"


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_signs_nobody_in(lying: tuple[Pghold, Hostile], visits: Any, lie: str) -> None:
    proxy, provider = lying
    provider.answer = lambda nonce: json.dumps(LIES[lie](provider, nonce)).encode()
    visit = visits(proxy)
    answer = provider.sign_in(visit)
    assert answer.status_code == 403
    assert problem(answer) in ("The provider's answer is not valid.", "The provider did not confirm the login.")
    assert visit.get("/holds").status_code == 303


@pytest.mark.parametrize("body", [b"", b"no JSON", b"null", b'"text"', b"{" * 2000, b"\xff\xfe"])
def test_an_answer_that_is_none_signs_nobody_in(lying: tuple[Pghold, Hostile], visits: Any, body: bytes) -> None:
    proxy, provider = lying
    provider.answer = lambda nonce: body
    assert provider.sign_in(visits(proxy)).status_code == 403


def test_an_answer_of_another_provider_is_not_taken(lying: tuple[Pghold, Hostile], visits: Any) -> None:
    """Mix-up (RFC 9207)."""
    proxy, provider = lying
    provider.answer = provider.good
    visit = visits(proxy)
    assert provider.sign_in(visit, iss="https://evil.example").status_code == 403
    assert provider.sign_in(visit, iss=provider.issuer).status_code == 303


def test_keys_that_we_do_not_know_are_no_reason_to_refuse_the_others(lying: tuple[Pghold, Hostile], visits: Any) -> None:
    proxy, provider = lying
    provider.published = [{"kty": "AKP", "alg": "ML-DSA-44", "pub": "x"}, {"kty": "RSA"}, {"kty": "oct", "k": "c2VjcmV0", "kid": "one"}]
    new = RSAKey.generate_key(2048, {"kid": "two", "use": "sig"})
    provider.published.append(new.as_dict(private=False))
    provider.answer = lambda nonce: json.dumps(provider.token(provider.claims(nonce), new, kid="two")).encode()
    wait_for(lambda: provider.sign_in(visits(proxy)).status_code == 303, 20)
    # The key of before was taken back.
    provider.answer = provider.good
    assert provider.sign_in(visits(proxy)).status_code == 403
    provider.published = [provider.key.as_dict(private=False), new.as_dict(private=False)]
    wait_for(lambda: provider.sign_in(visits(proxy)).status_code == 303, 20)


def test_a_slow_provider_keeps_nobody_else_waiting(lying: tuple[Pghold, Hostile], visits: Any) -> None:
    proxy, provider = lying
    provider.answer = lambda nonce: b"{}"
    provider.hold_back = threading_event()
    provider.waiting.clear()
    visit = visits(proxy)
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(provider.sign_in, visit)
        assert provider.waiting.wait(10)
        assert Browser(proxy).get("/holds").status_code == 200
        assert not slow.done()
        provider.hold_back.set()
        provider.hold_back = None
        assert slow.result().status_code == 403


def threading_event() -> Any:
    import threading

    return threading.Event()


@pytest.mark.parametrize("wrong", ["down", "another issuer", "no JSON", "no keys"])
def test_a_provider_that_is_down_or_odd_is_told_and_other_ways_work(postgres18: PostgresServer, visits: Any, wrong: str) -> None:
    provider = Hostile()
    if wrong == "another issuer":
        provider.metadata["issuer"] = "https://evil.example"
    if wrong == "no keys":
        provider.published = {"a": 1}  # type: ignore[assignment]
    if wrong == "no JSON":
        provider.metadata = [1]  # type: ignore[assignment]
    if wrong == "down":
        provider.stop()
    proxy = oidc_pghold(postgres18, free_port(), provider.issuer)
    visit = visits(proxy)
    answer = visit.begin()
    if wrong == "no keys":
        assert provider.sign_in(visit).status_code == 403
    else:
        assert answer.status_code == 502
        assert "provider" in problem(answer)
    assert Browser(proxy).get("/holds").status_code == 200
    assert proxy.stop() == 0
    if wrong != "down":
        provider.stop()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"oidc_client_secret": ""}, "oidc_client_id and oidc_client_secret"),
        ({"oidc_issuer": "http://login.example.com"}, "oidc_issuer must begin with https"),
        ({"oidc_issuer": "login.example.com"}, "expected https"),
        ({"console_roles": '{"dba": "king"}'}, "console_roles"),
    ],
)
def test_settings_that_cannot_be_are_refused_with_the_reason(postgres18: PostgresServer, settings: dict[str, str], words: str) -> None:
    with pytest.raises(RuntimeError, match=rf"(?s)exit code 2.*{words}"):
        oidc_pghold(postgres18, free_port(), "https://login.example.com", **settings)
