"""What must not get through at the console: forged forms, other hosts, smuggled requests, and whatever else a stranger may send."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.browsing import PHRASE, Browser
from tests.integration.test_console_access import API, FIELDS, ROUTES, House, place_of
from tests.servers import Pghold, PostgresServer, wait_for


@pytest.fixture(scope="module")
def house(postgres18: PostgresServer) -> Iterator[House]:
    made = House(postgres18)
    yield made
    made.stop()


def port_of(proxy: Pghold) -> int:
    return int(proxy.console.rpartition(":")[2])


def csrf_of(http: httpx.Client) -> str:
    return http.get("/account").text.partition('data-csrf="')[2].partition('"')[0]


FORMS = [r for r in ROUTES if r.startswith("POST") and r not in API and r != "POST /login"]


def fields_of(house: House, route: str) -> dict[str, str]:
    return {k: v.format(hold=house.hold) for k, v in FIELDS.get(route, {}).items()}


# --- forged forms -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("route", FORMS)
def test_a_form_needs_its_sessions_token(house: House, route: str) -> None:
    with house.as_somebody("admin") as http, house.as_somebody("admin") as other, house.as_somebody("admin") as before:
        old = csrf_of(before)
        before.post("/logout", data={"csrf": old})
        own = csrf_of(http)
        wrong = [
            {},
            {"csrf": ""},
            {"csrf": csrf_of(other)},
            {"csrf": old},
            {"csrf": own[:-1]},
            {"csrf": own.swapcase()},
            {"csrf": "\u00e9"},
        ]
        for csrf in wrong:
            answer = http.post(place_of(house, route), data={**fields_of(house, route), **csrf})
            assert answer.status_code == 403, csrf
            assert "not of your session" in answer.text
        assert http.post(place_of(house, route), params={"csrf": own}, data=fields_of(house, route)).status_code == 403, "in the address"


@pytest.mark.parametrize("route", [*FORMS, "POST /login", "POST /api/v1/holds/{hold_id}/deny"])
@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Origin": "http://127.0.0.1"},
        {"Origin": "http://127.0.0.1.evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "unheard-of"},
    ],
    ids=str,
)
def test_another_site_sends_no_form_even_with_the_token(house: House, route: str, headers: dict[str, str]) -> None:
    with house.as_somebody("admin") as http:
        answer = http.post(place_of(house, route), data={"csrf": csrf_of(http), **fields_of(house, route)}, headers=headers)
        assert (answer.status_code, "another site" in answer.text) == (403, True)


@pytest.mark.parametrize("kind", ["text/plain", "application/json", "application/xml", "multipart/form-data; boundary=x", ""])
def test_a_body_of_another_kind_is_no_form(house: House, kind: str) -> None:
    """A page elsewhere could send text/plain without asking the browser's leave."""
    with house.as_somebody("admin") as http:
        body = f"csrf={csrf_of(http)}&action=deny&reason=x"
        answer = http.post(f"/holds/{house.hold}/decide", content=body, headers={"Content-Type": kind} if kind else {})
        assert answer.status_code in (400, 403, 422)
    assert house.proxy.hold(house.hold)["state"] == "pending"


# --- hosts, targets, headers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8432", "127.0.0.1.evil.example", "localhost.evil.example", "a@127.0.0.1", "x:y:z"]
)
def test_a_name_that_is_not_ours_is_not_served(house: House, host: str) -> None:
    """DNS rebinding: a page of evil.example whose name now leads to us would be of one origin with us."""
    for path in ("/login", "/holds", "/api/v1/holds", "/static/console.js"):
        answer = httpx.get(f"{house.proxy.console}{path}", headers={"Host": host}, trust_env=False)
        assert answer.status_code == 421
        assert host not in answer.text
    assert httpx.get(f"{house.proxy.console}/healthz", headers={"Host": host}, trust_env=False).status_code == 200


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1", "[::1]:8432", "192.0.2.7:80"])
def test_addresses_and_our_own_names_are_served(house: House, host: str) -> None:
    assert httpx.get(f"{house.proxy.console}/login", headers={"Host": host}, trust_env=False).status_code == 200


def test_nothing_on_a_page_comes_from_the_hosts_name(house: House) -> None:
    with house.as_somebody("admin") as http:
        lies = {"Host": "192.0.2.77:99", "X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "https", "Forwarded": "host=evil.example"}
        for path in ("/holds", f"/holds/{house.hold}", "/account", "/nowhere", "/"):
            answer = http.get(path, headers=lies)
            assert "192.0.2.77" not in answer.text + str(answer.headers)
            assert "evil.example" not in answer.text + str(answer.headers)


INJECTED = '"><script>alert(1)</script>\r\nSet-Cookie: evil=1'


@pytest.mark.parametrize(
    "path",
    [
        "/login?next={}",
        "/holds?q={}",
        "/holds?severity={}&database={}&state={}",
        "/holds?page={}",
        "/holds/together?ids={}",
        "/audit?text={}&event={}&role={}",
        "/audit?since={}",
        "/audit?hold={}",
        "/audit/export?since={}",
        "/audit/export?format={}",
        "/policy?role={}&address={}",
        "/activity?period={}",
        "/sessions?q={}",
        "/rules/{}",
        "/static/{}",
        "/{}",
        "/holds/{}",
        "/login/oidc?next={}",
        "/login/oidc/callback?state={}&error={}&error_description={}",
    ],
)
@pytest.mark.parametrize("kind", ["admin", "nobody"])
def test_what_an_address_says_is_neither_markup_nor_a_header(house: House, path: str, kind: str) -> None:
    with house.as_somebody(kind) as http:
        answer = http.get(path.replace("{}", quote(INJECTED, safe="")))
        assert answer.status_code < 500 or (path.startswith("/login/oidc?") and answer.status_code == 502)
        assert "<script>alert" not in answer.text
        assert "evil" not in str(answer.headers.get("set-cookie", ""))
        location = answer.headers.get("location", "/")
        assert location.startswith("/")
        assert not location.startswith(("//", "/\\"))


@pytest.mark.parametrize(
    "path",
    [
        "/static/..%2f..%2fviews.py",
        "/static/%2e%2e%2fviews.py",
        "/static/..%5c..%5cviews.py",
        "/static/%252e%252e%252fviews.py",
        "/static/console.js%00.css",
        "/static/console.js/..",
        "/static/./console.js",
        "/static/%c0%ae%c0%ae/views.py",
        "/static//console.js",
        "/static/",
        "//etc/passwd",
        "/..%2f..%2fetc%2fpasswd",
        "/holds/%2e%2e/people",
        "/holds/1/../../people",
        "/api/v1/holds/..%2fsessions",
        "/rules/../people",
        "/HOLDS",
        "/holds/",
        "/holds;x=1",
        "/holds/99999999999999999999999999",
        "/holds/-1",
        "/holds/1e3",
        "/holds/\u0661",
    ],
)
def test_odd_paths_lead_nowhere(house: House, path: str) -> None:
    answer = raw(house.proxy, f"GET {quote(path, safe='/%;.')} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
    status = int(answer.split()[1])
    assert status in (303, 307, 400, 404, 422)
    if status in (303, 307):
        location = re.search(rb"(?i)\r\nlocation: ([^\r]*)", answer)
        assert location is not None
        assert re.match(rb"/(?![/\\])|http://127\.0\.0\.1/", location[1])
    assert b"root:" not in answer
    assert b"import " not in answer


# --- requests that two could understand differently -------------------------------------------------------------------


def raw(proxy: Pghold, data: bytes) -> bytes:
    """All that comes until the console closes."""
    with socket.create_connection(("127.0.0.1", port_of(proxy)), timeout=20) as sock:
        sock.sendall(data)
        found = b""
        try:
            while part := sock.recv(65536):
                found += part
        except ConnectionResetError:
            pass
        return found


HIDDEN = b"GET /api/v1/openapi.json HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: identity\r\n",
        b"Transfer-Encoding: gzip, chunked\r\n",
        b"Transfer-Encoding : chunked\r\n",
        b"Transfer-Encoding:\x0bchunked\r\n",
        b"Content-Length: 0\r\nContent-Length: 80\r\n",
        b"Content-Length: 0, 80\r\n",
        b"Content-Length: +0\r\n",
        b"Content-Length: -1\r\n",
        b"Content-Length: 0x10\r\n",
        b"Content-Length: 1_0\r\n",
        b"Content-Length : 5\r\n",
        b"X: a\r\n b: c\r\nContent-Length: 0x0\r\n",
        b"X\x00: a\r\n",
        b"Host: evil.example\r\n",
    ],
    ids=repr,
)
def test_a_request_whose_end_is_in_doubt_is_refused_and_nothing_behind_it_is_read(house: House, head: bytes) -> None:
    body = b"0\r\n\r\n" + HIDDEN
    answer = raw(house.proxy, b"POST /login HTTP/1.1\r\nHost: 127.0.0.1\r\n" + head + b"\r\n" + body)
    assert int(answer.split()[1]) in (400, 413, 501)
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"openapi" not in answer


def test_a_body_is_never_taken_for_the_next_request(house: House) -> None:
    request = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(HIDDEN)
    answer = raw(house.proxy, request + HIDDEN)
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"openapi" not in answer


def test_sizes_have_bounds(house: House) -> None:
    with house.as_somebody("admin") as http:
        assert http.post("/policy/try", data={"csrf": csrf_of(http), "script": "x" * (300 << 10)}).status_code == 413
        assert http.post("/api/v1/holds/1/deny", json={"reason": "x" * 5000}, headers={"Authorization": f"Bearer {house.tokens['admin']}"}).status_code == 422  # fmt: skip
    answer = raw(house.proxy, b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 431"))
    answer = raw(house.proxy, b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n" + b"A: b\r\n" * 10_000 + b"\r\n")
    assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 431"))


def test_connections_that_say_nothing_keep_nobody_out(house: House) -> None:
    idle = [socket.create_connection(("127.0.0.1", port_of(house.proxy)), timeout=30) for _ in range(150)]
    for sock in idle[:75]:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: ")
    assert httpx.get(f"{house.proxy.console}/healthz", trust_env=False).status_code == 200
    for sock in idle:
        try:
            assert sock.recv(100) == b""
        except ConnectionResetError:
            pass
        sock.close()


def test_private_pages_are_not_kept_by_browsers_and_no_other_site_reads_them(house: House) -> None:
    with house.as_somebody("admin") as http:
        for route in ROUTES:
            if not route.startswith("GET") or "events" in route:
                continue
            answer = http.get(place_of(house, route), headers={"Origin": "https://evil.example"})
            assert answer.headers["cache-control"] == ("no-store" if "/static/" not in route else "public, max-age=31536000, immutable")
            assert "default-src 'none'" in answer.headers["content-security-policy"]
            assert not [h for h in answer.headers if h.startswith("access-control-")]
            assert answer.headers["cross-origin-resource-policy"] == "same-origin"


HUGE = "99999999999999999999"


@pytest.mark.parametrize(
    "path",
    [
        f"/holds/{HUGE}",
        f"/holds/{HUGE}/state",
        f"/holds/{HUGE}/script.sql",
        f"/holds/together?ids={HUGE},0",
        f"/holds?page={HUGE}",
        f"/audit?hold={HUGE}",
        f"/audit?before={HUGE}",
        f"/audit/export?hold={HUGE}",
        f"/api/v1/holds/{HUGE}",
        f"/api/v1/holds?before={HUGE}",
        "/api/v1/holds?before=9223372036854775808",
        "/api/v1/holds?before=9223372036854775807",
    ],
)
def test_a_number_that_no_store_has_is_no_error_of_ours(house: House, path: str) -> None:
    with house.as_somebody("admin") as http:
        assert http.get(path, headers={"Authorization": f"Bearer {house.tokens['admin']}"}).status_code in (200, 404, 422)
        for form, fields in ((f"/holds/{HUGE}/decide", {"action": "deny", "reason": "x"}), (f"/sessions/{HUGE}/kill", {})):
            assert http.post(form, data={"csrf": csrf_of(http), **fields}).status_code == 404


# --- listeners --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["page", "api"])
@pytest.mark.parametrize("loss", ["disable", "remove", "token"])
def test_a_listener_who_is_let_go_hears_nothing_more(house: House, way: str, loss: str) -> None:
    admin = Browser(house.proxy)
    name = f"listens-{way}-{loss}"
    found = re.search(r'id="secret">([^<]+)<', admin.post("/people/add", name=name, role="approver").text)
    assert found is not None
    listener = Browser(house.proxy, found[1])
    headers = {"Authorization": f"Bearer {found[1]}"} if way == "api" else {}
    heard: list[str] = []
    begun = threading.Event()

    def listen() -> None:
        with listener.http.stream("GET", "/api/v1/events" if way == "api" else "/events", headers=headers) as answer:
            for line in answer.iter_lines():
                heard.append(line)
                begun.set()

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    assert begun.wait(10)
    other = Browser(house.proxy, found[1])
    made = admin.post("/holds/practice").headers["location"].rpartition("/")[2]
    wait_for(lambda: any(re.search(rf'"id": {made}\b', line) for line in heard), 10)
    if loss == "token":
        other.post("/account/token/revoke", name="first")
    else:
        admin.post("/people/change", name=name, action=loss)
    secret = admin.post("/holds/practice").headers["location"].rpartition("/")[2]
    thread.join(20)
    assert not thread.is_alive()
    assert not any(re.search(rf'"id": {secret}\b', line) for line in heard)


# --- whatever ---------------------------------------------------------------------------------------------------------

TEXT = st.one_of(
    st.text(max_size=40),
    st.sampled_from(
        ["", "0", "-1", "1", "99999999999999999999", "1e9", "\x00", "%s", "{{7*7}}", "' OR 1=1--", "../..", "2026-13-45", "nan"]
    ),
)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), TEXT),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXT, inner, max_size=3)),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def operations(house: House) -> list[tuple[str, str, dict[str, Any], dict[str, Any]]]:
    """Method, path, its parameters and the body's fields, from the description that we give out ourselves."""
    described = house.proxy.http.get("/api/v1/openapi.json").json()
    found = []
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            if path.endswith("/events"):
                continue
            body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
            schema = described["components"]["schemas"].get(body.get("$ref", "").rpartition("/")[2], {})
            found.append((method.upper(), path, {p["name"]: p for p in operation.get("parameters", [])}, schema.get("properties", {})))
    assert len(found) > 8
    return found


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_the_api_answers_whatever_it_is_sent(house: House, operations: list[Any], data: st.DataObject) -> None:
    method, path, parameters, fields = data.draw(st.sampled_from(operations))
    for name, parameter in parameters.items():
        if parameter["in"] == "path":
            path = path.replace(f"{{{name}}}", quote(data.draw(TEXT), safe="") or "x")
    query = {name: data.draw(TEXT) for name, p in parameters.items() if p["in"] == "query" and data.draw(st.booleans())}
    body: Any = None
    if fields:
        body = data.draw(st.one_of(st.fixed_dictionaries({}, optional=dict.fromkeys(fields, st.one_of(TEXT, JSON))), JSON))
        if isinstance(body, dict) and body.get("phrase") == PHRASE:
            body["phrase"] = ""
    try:
        content = json.dumps(body).encode() if body is not None else None
    except ValueError:
        content = b"{"
    answer = house.proxy.http.request(method, path, params=query, content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code < 500 or (answer.status_code == 503 and path == "/readyz"), (method, path, query, body, answer.text)
    if answer.status_code >= 400 and path.startswith("/api/") and answer.status_code != 404:
        assert answer.headers["content-type"] == "application/problem+json"


NAMES = ("q", "severity", "database", "state", "page", "ids", "text", "event", "role", "operator", "hold", "since", "until", "before",
         "format", "application", "address", "period", "next", "name", "action", "reason", "phrase", "object_name", "code", "suggestion",
         "break_glass", "count", "script", "new", "again", "current", "secret", "days", "password", "max_severity", "database_roles",
         "may_skip_backup", "state", "iss", "error")  # fmt: skip
FUZZED = [r for r in ROUTES if r not in API and "events" not in r and r not in ("POST /logout", "POST /policy/reload", "GET /audit/chain", "GET /login/oidc")]  # fmt: skip


@pytest.fixture(scope="module")
def fuzzer(house: House) -> Iterator[tuple[httpx.Client, str]]:
    with house.as_somebody("auditor") as http:
        yield http, csrf_of(http)


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_the_pages_answer_whatever_they_are_sent(house: House, fuzzer: tuple[httpx.Client, str], data: st.DataObject) -> None:
    http, csrf = fuzzer
    route = data.draw(st.sampled_from(FUZZED))
    given_ = data.draw(st.dictionaries(st.sampled_from(NAMES), TEXT, max_size=6))
    path = route.partition(" ")[2]
    for part in re.findall(r"\{\w+(?::int)?\}", path):
        path = path.replace(part, quote(data.draw(st.one_of(TEXT, st.just(str(house.hold)))), safe="") or "x")
    if route.startswith("GET"):
        answer = http.get(path, params=given_)
    else:
        answer = http.post(path, data={**fields_of(house, route), **given_, "csrf": csrf}, headers={"X-Forwarded-For": f"203.0.113.{data.draw(st.integers(1, 250))}"})  # fmt: skip
    assert answer.status_code < 500, (route, path, given_, answer.text[:500])
    assert answer.headers["content-security-policy"]


def test_no_answer_of_it_all_was_an_unhandled_error(house: House) -> None:
    """Last in the file: what the process said meanwhile."""
    assert "Traceback" not in house.proxy.log.read_text()
