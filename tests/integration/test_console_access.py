"""Who may do what: every route of the console, and every command of the psql console, for everybody who could come.

The tables are complete by test: a new route or command without a line here fails.
"""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from types import SimpleNamespace
from typing import Any

import httpx
import psycopg
import pytest
from starlette.routing import BaseRoute

from proxy.admin.commands import APPROVE_FORM, DENY_FORM, HELP, PURGE_FORM, UNDO_FORM
from proxy.clock import SystemClock
from proxy.config import Settings
from proxy.console.web import make_console
from tests.browsing import PHRASE, Browser, Client
from tests.servers import Pghold, PostgresServer, wait_for

ADDRESSES = (f"198.51.{i // 250}.{i % 250 + 1}" for i in count())
#: Those who come. "over": the session or the token has ended; "disabled": somebody has disabled the operator since.
PEOPLE = ("nobody", "over", "disabled", "viewer", "auditor", "approver", "admin")
Expected = int | str
LOGIN = "to the login"


def row(stranger: Expected, viewer: Expected, auditor: Expected, approver: Expected, admin: Expected) -> dict[str, Expected]:
    return dict(zip(PEOPLE, (stranger, stranger, stranger, viewer, auditor, approver, admin), strict=True))


def everybody(status: Expected) -> dict[str, Expected]:
    return dict.fromkeys(PEOPLE, status)


PAGE = row(LOGIN, 200, 200, 200, 200)
OWN = 401  # what a form answers to those who are not signed in
READ = row(401, 200, 200, 200, 200)

ROUTES: dict[str, dict[str, Expected]] = {
    "GET /": row(LOGIN, 303, 303, 303, 303),
    "GET /holds": PAGE,
    "GET /holds/list": PAGE,
    "GET /holds/together": PAGE,
    "POST /holds/together": row(OWN, 403, 403, 422, 422),
    "POST /holds/practice": row(OWN, 403, 403, 303, 303),
    "GET /holds/{hold_id:int}": PAGE,
    "GET /holds/{hold_id:int}/state": PAGE,
    "GET /holds/{hold_id:int}/script.sql": PAGE,
    "GET /holds/{hold_id:int}/objects": PAGE,
    "POST /grants/{grant_id:int}/revoke": row(OWN, 403, 403, 404, 404),
    "POST /holds/{hold_id:int}/decide": row(OWN, 403, 403, 422, 422),
    "POST /holds/{hold_id:int}/undo": row(OWN, 403, 403, 409, 409),
    "GET /events": READ,
    "GET /sessions": PAGE,
    "POST /sessions/{session_id:int}/kill": row(OWN, 403, 403, 403, 404),
    "GET /activity": PAGE,
    "GET /backups": PAGE,
    "GET /backups/{backup_id:int}": row(LOGIN, 404, 404, 404, 404),
    "POST /backups/take": row(OWN, 403, 403, 403, 303),
    "POST /backups/{backup_id:int}/verify": row(OWN, 403, 403, 404, 404),
    "POST /backups/{backup_id:int}/restore": row(OWN, 403, 403, 404, 404),
    "GET /health": PAGE,
    "POST /health/notifications/test": row(OWN, 403, 403, 403, 200),
    "POST /health/notifications/{letter_id:int}/again": row(OWN, 403, 403, 403, 409),
    "POST /health/notifications/{letter_id:int}/dismiss": row(OWN, 403, 403, 403, 303),
    "GET /schema": PAGE,
    "GET /schema/diff": row(LOGIN, 404, 404, 404, 404),
    "POST /schema/accept": row(OWN, 403, 403, 403, 303),
    "POST /health/accept": row(OWN, 403, 403, 403, 303),
    "GET /audit": PAGE,
    "GET /audit/chain": PAGE,
    "POST /audit/verify": row(OWN, 403, 303, 303, 303),
    "GET /audit/export": PAGE,
    "GET /policy": PAGE,
    "POST /policy/try": row(OWN, 200, 200, 200, 200),
    "POST /policy/reload": row(OWN, 403, 403, 403, 303),
    "GET /rules/{rule_id}": PAGE,
    "GET /people": row(LOGIN, 403, 200, 403, 200),
    "POST /people/add": row(OWN, 403, 403, 403, 422),
    "POST /people/change": row(OWN, 403, 403, 403, 404),
    "GET /account": PAGE,
    "GET /account/browsers": PAGE,
    "POST /account/browsers": row(OWN, 303, 303, 303, 303),
    "POST /account/password": row(OWN, 422, 422, 422, 422),
    "POST /account/second-factor": row(OWN, 422, 422, 422, 422),
    "POST /account/token": row(OWN, 422, 422, 422, 422),
    "POST /account/token/revoke": row(OWN, 404, 404, 404, 404),
    "GET /login": row(200, 303, 303, 303, 303),
    "POST /login": everybody(401),
    "POST /logout": row(OWN, 303, 303, 303, 303),
    "GET /login/oidc": everybody(502),
    "GET /login/oidc/callback": everybody(403),
    "GET /static/{name}": everybody(200),
    "GET /api/v1/openapi.json": everybody(200),
    "GET /healthz": everybody(200),
    "GET /readyz": everybody(200),
    "GET /metrics": everybody(200),
    "GET /api/v1/holds": READ,
    "GET /api/v1/holds/{hold_id}": READ,
    "POST /api/v1/holds/{hold_id}/approve": row(401, 403, 403, 422, 422),
    "POST /api/v1/holds/{hold_id}/deny": row(401, 403, 403, 422, 422),
    "GET /api/v1/holds/{hold_id}/undo": row(401, 403, 403, 409, 409),
    "POST /api/v1/holds/{hold_id}/undo": row(401, 403, 403, 409, 409),
    "GET /api/v1/trash": READ,
    "POST /api/v1/trash/purge": row(401, 403, 403, 409, 409),
    "GET /api/v1/events": READ,
    "GET /api/v1/me": READ,
    "GET /api/v1/review": READ,
    "GET /api/v1/holds/{hold_id}/review": READ,
    "POST /api/v1/holds/together": row(401, 403, 403, 422, 422),
    "GET /api/v1/grants": READ,
    "DELETE /api/v1/grants/{grant_id}": row(401, 403, 403, 404, 404),
    "GET /api/v1/backups": READ,
    "GET /api/v1/backups/{backup_id}": row(401, 404, 404, 404, 404),
    "POST /api/v1/backups": row(401, 403, 403, 403, 202),
    "POST /api/v1/backups/{backup_id}/restore": row(401, 403, 403, 404, 404),
    "POST /api/v1/backups/{backup_id}/verify": row(401, 403, 403, 404, 404),
    "GET /api/v1/keeping": READ,
    "POST /api/v1/keeping/prune": row(401, 403, 403, 403, 200),
    "GET /api/v1/notifications": row(401, 403, 403, 403, 200),
    "POST /api/v1/notifications/test": row(401, 403, 403, 403, 200),
    "GET /api/v1/operators": row(401, 403, 200, 403, 200),
    "POST /api/v1/operators": row(401, 403, 403, 403, 400),
    "GET /api/v1/operators/{name}": row(401, 403, 404, 403, 404),
    "PATCH /api/v1/operators/{name}": row(401, 403, 403, 403, 404),
    "DELETE /api/v1/operators/{name}": row(401, 403, 403, 403, 404),
    "POST /api/v1/operators/{name}/tokens": row(401, 403, 403, 403, 404),
    "DELETE /api/v1/operators/{name}/tokens/{token}": row(401, 403, 403, 403, 404),
    "PUT /api/v1/operators/{name}/password": row(401, 403, 403, 403, 404),
    "POST /api/v1/operators/{name}/second-factor": row(401, 403, 403, 403, 403),
    "PUT /api/v1/operators/{name}/second-factor": row(401, 403, 403, 403, 403),
    "DELETE /api/v1/operators/{name}/second-factor": row(401, 403, 403, 403, 404),
    "GET /api/v1/health": READ,
    "GET /api/v1/schema": READ,
    "GET /api/v1/schema/log": row(401, 404, 404, 404, 404),
    "GET /api/v1/schema/show": row(401, 404, 404, 404, 404),
    "GET /api/v1/schema/diff": row(401, 404, 404, 404, 404),
    "POST /api/v1/schema/accept": row(401, 403, 403, 403, 200),
    "POST /api/v1/health/accept": row(401, 403, 403, 403, 200),
    "GET /api/v1/sessions": READ,
    "DELETE /api/v1/sessions/{session_id}": row(401, 403, 403, 403, 404),
    "POST /api/v1/reload": row(401, 403, 403, 403, 200),
}

#: What a form or a body needs to be understood, and to change nothing that another test needs when it is.
FIELDS: dict[str, dict[str, Any]] = {
    "POST /holds/together": {"ids": "{hold}", "action": "deny", "reason": ""},
    "POST /holds/{hold_id:int}/decide": {"action": "deny", "reason": ""},
    "POST /policy/try": {"script": "SELECT 1"},
    "POST /backups/take": {"database": "not-there"},
    "POST /backups/{backup_id:int}/restore": {"how": "place"},
    "POST /api/v1/backups": {"database": "not-there-either"},
    "POST /api/v1/backups/{backup_id}/restore": {"tables": []},
    "POST /api/v1/keeping/prune": {"dry_run": True},
    "POST /people/add": {"name": "no name", "role": "admin"},
    "POST /people/change": {"name": "not-there", "action": "remove"},
    "POST /account/password": {"new": "correct horse battery", "again": "another horse battery"},
    "POST /account/second-factor": {"action": "confirm", "secret": "A" * 32, "code": "x"},
    "POST /account/token": {"name": "no name", "days": "1"},
    "POST /account/token/revoke": {"name": "not-there"},
    "POST /login": {"name": "nobody", "password": "wrong"},
    "POST /api/v1/holds/{hold_id}/approve": {"phrase": "yes", "reason": "x"},
    "POST /api/v1/holds/{hold_id}/deny": {"reason": ""},
    "POST /api/v1/holds/together": {"ids": ["{hold}"], "approve": False, "reason": ""},
    "POST /api/v1/holds/{hold_id}/undo": {"reason": "x"},
    "POST /api/v1/trash/purge": {"ids": [999999]},
    "POST /api/v1/operators": {"name": "no name", "role": "admin"},
    "PATCH /api/v1/operators/{name}": {"disabled": True},
    "POST /api/v1/operators/{name}/tokens": {"name": "more"},
    "PUT /api/v1/operators/{name}/password": {"password": "correct horse battery"},
    "PUT /api/v1/operators/{name}/second-factor": {"secret": "A" * 32, "code": "123456"},
    "DELETE /api/v1/operators/{name}/second-factor": {"code": ""},
}
QUERY = {
    **dict.fromkeys(("GET /schema/diff", *(f"GET /api/v1/schema/{x}" for x in ("log", "show", "diff"))), "?database=not-there"),
    "GET /holds/together": "?ids={hold}",
    "GET /api/v1/review": "?ids={hold}",
    "GET /login/oidc/callback": "?state=x&code=x",
}
#: Whoever asks for these is asked for a token, never for a cookie.
API = tuple(r for r in ROUTES if "/api/" in r)


def all_routes(routes: list[BaseRoute]) -> Iterator[tuple[str, str]]:
    for route in routes:
        included = getattr(route, "original_router", None)
        if included is not None:
            yield from all_routes(included.routes)
            continue
        for method in getattr(route, "methods", None) or ():
            if method != "HEAD":
                yield method, str(getattr(route, "path", ""))


def test_the_table_has_every_route_and_no_other() -> None:
    nothing = dict.fromkeys(("store", "operators", "book", "approvals", "audit", "sessions", "judging", "activity", "metrics"))
    settings = Settings(
        upstream="postgresql://127.0.0.1:1/x", oidc_issuer="https://login.example.com", oidc_client_id="a", oidc_client_secret="b"
    )
    services: Any = SimpleNamespace(settings=settings, clock=SystemClock(), console_url=lambda: "http://x", **nothing)
    application: Any = make_console(services)
    assert {f"{method} {path}" for method, path in all_routes(application._app.routes)} == set(ROUTES)


class House:
    """A proxy with one person of each kind."""

    def __init__(self, server: PostgresServer) -> None:
        environment = {
            "PGHOLD_OIDC_ISSUER": "http://127.0.0.1:1",
            "PGHOLD_OIDC_CLIENT_ID": "a",
            "PGHOLD_OIDC_CLIENT_SECRET": "b",
        }
        self.proxy = Pghold(f"postgresql://127.0.0.1:{server.port}/postgres", environment=environment)
        admin = Browser(self.proxy)
        self.tokens = {"nobody": "pghold_made-up", "admin": self._add(admin, "admin")}
        for kind in ("viewer", "auditor", "approver"):
            self.tokens[kind] = self._add(admin, kind)
        for kind in ("over", "disabled"):
            self.tokens[kind] = self._add(admin, "admin", kind)
        self.cookies = {kind: self._sign_in(kind) for kind in ("over", "disabled")}
        admin.post("/people/change", name="the-disabled", action="disable")
        past = (datetime.now(UTC) - timedelta(seconds=1)).isoformat()
        self._write("UPDATE web_sessions SET expires_at = ? WHERE operator = 'the-over'", past)
        self._write("UPDATE tokens SET expires_at = ? WHERE operator = 'the-over'", past)
        server.sql("CREATE TABLE IF NOT EXISTS guarded (id int)")
        self.client = Client(self.proxy, "TRUNCATE guarded")
        wait_for(lambda: bool(self.proxy.holds()), 10)
        self.hold = self.proxy.holds()[0]["id"]

    def _add(self, admin: Browser, role: str, kind: str = "") -> str:
        answer = admin.post("/people/add", name=f"the-{kind or role}", role=role)
        found = re.search(r'id="secret">([^<]+)<', answer.text)
        assert found is not None, answer.text
        return found[1]

    def _write(self, statement: str, *values: str) -> None:
        with sqlite3.connect(next((self.proxy.folder / "data").glob("*.sqlite")), timeout=20) as connection:
            connection.execute(statement, values)
        connection.close()

    def _sign_in(self, kind: str) -> str:
        with self.browser() as http:
            assert http.post("/login", data={"password": self.tokens[kind]}).status_code == 303
            return http.cookies["pghold"]

    def browser(self, cookie: str = "") -> httpx.Client:
        http = httpx.Client(base_url=self.proxy.console, trust_env=False, timeout=20, headers={"X-Forwarded-For": next(ADDRESSES)})
        if cookie:
            http.cookies.set("pghold", cookie, domain="127.0.0.1")
        return http

    def as_somebody(self, kind: str) -> httpx.Client:
        """In a fresh session of his, or with what is left of one."""
        return self.browser("" if kind == "nobody" else self.cookies.get(kind) or self._sign_in(kind))

    def stop(self) -> None:
        self.proxy.deny(self.hold)
        self.client.join(10)
        Browser.close_all()
        assert self.proxy.stop() == 0


@pytest.fixture(scope="module")
def house(postgres18: PostgresServer) -> Iterator[House]:
    made = House(postgres18)
    yield made
    made.stop()


def place_of(house: House, route: str) -> str:
    path = route.partition(" ")[2] + QUERY.get(route, "")
    given = {"hold_id": house.hold, "session_id": 999999, "rule_id": "drop-table", "name": "console.js", "hold": house.hold}
    given |= {"grant_id": 999999, "letter_id": 999999, "backup_id": 999999, "token": "none"}
    return re.sub(r"\{(\w+)(?::int)?\}", lambda m: str(given[m[1]]), path)


def _filled(fields: Any, hold: int) -> Any:
    match fields:
        case dict():
            return {key: _filled(value, hold) for key, value in fields.items()}
        case list():
            return [_filled(value, hold) for value in fields]
        case str():
            return fields.format(hold=hold)
        case _:
            return fields


def ask(house: House, route: str, http: httpx.Client, kind: str) -> Expected:
    method, fields = route.partition(" ")[0], _filled(FIELDS.get(route, {}), house.hold)
    options: dict[str, Any] = {}
    if route in API:
        options["headers"] = {"Authorization": f"Bearer {house.tokens[kind]}"} if kind != "nobody" else {}
        options["json"] = fields if method != "GET" and fields else None
    elif method == "POST":
        csrf = http.get("/account").text.partition('data-csrf="')[2].partition('"')[0]
        options["data"] = {"csrf": csrf or "x" * 43, **fields}
    with http.stream(method, place_of(house, route), **options) as answer:
        if answer.status_code == 303 and answer.headers["location"].startswith("/login?next="):
            return LOGIN
        return answer.status_code


@pytest.mark.parametrize("route", ROUTES)
def test_everybody_may_what_the_table_says(house: House, route: str) -> None:
    found = {}
    for kind in PEOPLE:
        with house.as_somebody(kind) as http:
            found[kind] = ask(house, route, http, kind)
    assert found == ROUTES[route]
    assert house.proxy.hold(house.hold)["state"] == "pending"


@pytest.mark.parametrize("path", sorted({r.partition(" ")[2] for r in ROUTES}))
def test_other_methods_do_nothing(house: House, path: str) -> None:
    declared = {r.partition(" ")[0] for r in ROUTES if r.partition(" ")[2] == path} | ({"HEAD"} if "openapi" in path else set())
    headers = {"Authorization": f"Bearer {house.tokens['admin']}"}
    with house.as_somebody("admin") as http:
        for method in {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "X"} - declared:
            answer = http.request(method, place_of(house, f"GET {path}").partition("?")[0], headers=headers)
            # GET /api/v1/holds/together is the hold of that name, which is none.
            expected = 422 if (method, path) == ("GET", "/api/v1/holds/together") else 405
            assert answer.status_code == expected, (method, path)
            assert "access-control-allow-origin" not in answer.headers
    assert house.proxy.hold(house.hold)["state"] == "pending"


def test_a_token_counts_in_its_header_only(house: House) -> None:
    token = house.tokens["admin"]
    with house.browser() as http:
        for options in (
            {"params": {"access_token": token}},
            {"params": {"token": token}},
            {"params": {"authorization": f"Bearer {token}"}},
            {"headers": {"X-Api-Key": token}},
            {"headers": {"Authorization": token}},
            {"headers": {"Authorization": f"Basic {token}"}},
            {"headers": {"Authorization": f"Token {token}"}},
            {"headers": {"Cookie": f"pghold={token}"}},
            {"headers": {"Cookie": f"Authorization=Bearer {token}; token={token}"}},
            {"headers": {"X-Forwarded-User": "operator", "X-Forwarded-Groups": "admin"}},
            {"headers": {"X-Forwarded-Authorization": f"Bearer {token}"}},
        ):
            assert http.get("/api/v1/holds", **options).status_code == 401, options  # type: ignore[arg-type]
            assert http.get("/holds", **options).status_code == 303, options  # type: ignore[arg-type]
        assert http.get("/api/v1/holds", headers={"Authorization": f"bearer {token}"}).status_code == 200


def test_a_cookie_counts_nothing_at_the_api(house: House) -> None:
    """So that another site that could make a browser send one could do nothing with it."""
    with house.as_somebody("admin") as http:
        assert http.get("/api/v1/holds").status_code == 401
        assert http.post("/api/v1/reload").status_code == 401


@pytest.mark.parametrize("change", [lambda t: t[:-1], lambda t: t + "A", lambda t: t.upper(), lambda t: t.lower(), lambda t: t[7:], lambda t: t.replace("_", "-", 1), lambda t: f"{t},{t}", lambda t: "pghold_%", lambda t: "pghold_" + "A" * 43, lambda t: "' OR '1'='1"])  # fmt: skip
def test_forged_tokens_are_nobodys(house: House, change: Any) -> None:
    with house.browser() as http:
        answer = http.get("/api/v1/holds", headers={"Authorization": f"Bearer {change(house.tokens['admin'])}"})
        assert answer.status_code == 401


def test_nobody_gives_himself_more_than_he_has(house: House) -> None:
    """Fields that the forms do not have (mass assignment)."""
    more = {"role": "admin", "source": "local", "operator": "operator", "visitor": "operator", "databases": "", "may_skip_backup": "true"}
    with house.as_somebody("approver") as http:
        csrf = http.get("/account").text.partition('data-csrf="')[2].partition('"')[0]
        made = http.post("/account/token", data={"csrf": csrf, "name": f"t{time.monotonic_ns()}", "days": "1", **more})
        token = re.search(r'id="secret">([^<]+)<', made.text)
        assert token is not None
        assert http.get("/people").status_code == 403
        bearer = {"Authorization": f"Bearer {token[1]}"}
        assert http.post("/api/v1/reload", headers=bearer, json=more).status_code == 403
    found = re.search(r'id="secret">([^<]+)<', Browser(house.proxy).post("/people/add", name="mallory", role="approver").text)
    assert found is not None
    new = "a much longer secret 1"
    Browser(house.proxy, found[1]).post("/account/password", new=new, again=new, name="operator", username="operator", **more)
    assert Browser(house.proxy, token=None).sign_in("operator", new).status_code == 401
    mallory = Browser(house.proxy, token=None)
    assert mallory.sign_in("mallory", new).status_code == 303
    assert mallory.http.get("/people").status_code == 403
    answer = httpx.post(
        f"{house.proxy.console}/api/v1/holds/{house.hold}/approve",
        json={"phrase": PHRASE, "reason": "x", "role": "admin", "operator": "operator", "break_glass": True, "approvers": 9},
        headers={"Authorization": f"Bearer {house.tokens['viewer']}"},
        trust_env=False,
    )
    assert answer.status_code == 403
    assert house.proxy.hold(house.hold)["state"] == "pending"


def test_a_revoked_token_ends_the_sessions_that_began_with_it(house: House) -> None:
    with house.as_somebody("auditor") as http:
        csrf = http.get("/account").text.partition('data-csrf="')[2].partition('"')[0]
        made = http.post("/account/token", data={"csrf": csrf, "name": "borrowed", "days": "1"})
        found = re.search(r'id="secret">([^<]+)<', made.text)
        assert found is not None
        thief = Browser(house.proxy, found[1])
        assert thief.http.get("/holds").status_code == 200
        http.post("/account/token/revoke", data={"csrf": csrf, "name": "borrowed"})
        assert thief.http.get("/holds").status_code == 303


# --- the psql console -------------------------------------------------------------------------------------------------

ALL = dict.fromkeys(("viewer", "auditor", "approver", "admin"), "")
DECIDES = {"viewer": "42501", "auditor": "42501", "approver": "22023", "admin": "22023"}
COMMANDS: dict[str, tuple[str, dict[str, str]]] = {
    "SHOW HOLDS": ("SHOW HOLDS", ALL),
    "SHOW HOLDS ALL": ("SHOW HOLDS ALL", ALL),
    "SHOW HOLD id": ("SHOW HOLD {hold}", ALL),
    APPROVE_FORM: ("APPROVE {hold} 'no' 'x'", DECIDES),
    DENY_FORM: ("DENY {hold} ''", DECIDES),
    UNDO_FORM: ("UNDO {hold} 'x'", {**dict.fromkeys(("viewer", "auditor"), "42501"), **dict.fromkeys(("approver", "admin"), "55000")}),
    "SHOW TRASH": ("SHOW TRASH", ALL),
    PURGE_FORM: ("PURGE 999999 'x'", {**dict.fromkeys(("viewer", "auditor"), "42501"), **dict.fromkeys(("approver", "admin"), "55000")}),
    "SHOW SESSIONS": ("SHOW SESSIONS", ALL),
    "SHOW GRANTS": ("SHOW GRANTS", ALL),
    "SHOW BACKUPS": ("SHOW BACKUPS", ALL),
    "SHOW BACKUP id": ("SHOW BACKUP 999999", dict.fromkeys(ALL, "42704")),
    "REVOKE id": ("REVOKE 999999", {**dict.fromkeys(("viewer", "auditor"), "42501"), **dict.fromkeys(("approver", "admin"), "42704")}),
    "SHOW OPERATORS": ("SHOW OPERATORS", {**dict.fromkeys(("viewer", "approver"), "42501"), "auditor": "", "admin": ""}),
    "SHOW STATS": ("SHOW STATS", ALL),
    "SHOW HEALTH": ("SHOW HEALTH", ALL),
    "KILL id": ("KILL 999999", {**dict.fromkeys(("viewer", "auditor", "approver"), "42501"), "admin": "42704"}),
    "RELOAD": ("RELOAD", {**dict.fromkeys(("viewer", "auditor", "approver"), "42501"), "admin": ""}),
    "SHOW VERSION": ("SHOW VERSION", ALL),
}


def console(house: House, kind: str, password: str = "") -> psycopg.Connection[Any]:
    user = f"the-{kind}"
    return psycopg.connect(
        host="127.0.0.1", port=house.proxy.port, user=user, password=password or house.tokens[kind], dbname="pghold", autocommit=True
    )


@pytest.mark.parametrize("command", [c for c, _ in HELP])
def test_each_command_is_for_those_of_the_table(house: House, command: str) -> None:
    text, expected = COMMANDS[command]
    found = {}
    for kind in expected:
        with console(house, kind) as connection:
            try:
                connection.execute(text.format(hold=house.hold))  # type: ignore[call-overload]
                found[kind] = ""
            except psycopg.Error as error:
                found[kind] = error.sqlstate or ""
    assert found == expected


def test_who_is_nobody_is_nobody_at_the_psql_console(house: House) -> None:
    for kind in ("over", "disabled", "nobody"):
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            console(house, kind)


def test_guesses_at_the_psql_console_lock_the_guesser_out(house: House) -> None:
    for _ in range(5):
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            console(house, "locked", "wrong")
    with pytest.raises(psycopg.OperationalError, match="too many failed attempts"):
        console(house, "locked", "wrong")


@pytest.mark.parametrize("loss", ["disable", "remove", "role", "token", "password"])
def test_an_open_psql_console_loses_what_its_operator_loses(house: House, loss: str) -> None:
    admin = Browser(house.proxy)
    name = f"psql-{loss}"
    found = re.search(r'id="secret">([^<]+)<', admin.post("/people/add", name=name, role="approver").text)
    assert found is not None
    with psycopg.connect(
        host="127.0.0.1", port=house.proxy.port, user=name, password=found[1], dbname="pghold", autocommit=True
    ) as connection:
        connection.execute("SHOW HOLDS")
        if loss == "role":
            house._write("UPDATE operators SET role = 'viewer' WHERE name = ?", name)
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(f"DENY {house.hold} 'x'")  # type: ignore[call-overload]
            return
        if loss == "token":
            owner = Browser(house.proxy, found[1])
            owner.post("/account/token/revoke", name="first")
        elif loss == "password":
            owner = Browser(house.proxy, found[1])
            assert owner.post("/account/password", new="correct horse battery", again="correct horse battery").status_code == 200
        else:
            admin.post("/people/change", name=name, action=loss)
        with pytest.raises(psycopg.OperationalError, match="changed, ended or taken back"):
            connection.execute(f"DENY {house.hold} 'x'")  # type: ignore[call-overload]
    assert house.proxy.hold(house.hold)["state"] == "pending"
