"""Header mode: behind a real reverse proxy, and whoever tries without it."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.browsing import PHRASE
from tests.conftest import make_certificate
from tests.servers import Pghold, PostgresServer, free_port, wait_for

#: As docs/people.md shows it, but for the login: here the basic one, and who is in which group from a map.
NGINX = """
daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log; worker_processes 1;
events {{ worker_connections 100; }}
http {{
  access_log off;
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  map $remote_user $groups {{ ana dba,everybody; Bob staff; chief "staff, chiefs"; default everybody; }}
  server {{
    listen 127.0.0.1:{port} ssl;
    server_name pghold.example.com;
    ssl_certificate {folder}/server.crt;
    ssl_certificate_key {folder}/server.key;
    auth_basic "pghold";
    auth_basic_user_file {folder}/people;
    location / {{
      proxy_pass http://127.0.0.1:{console};
      proxy_http_version 1.1;
      proxy_buffering off;
      proxy_set_header Host $host;
      proxy_set_header X-Forwarded-User $remote_user;
      proxy_set_header X-Forwarded-Groups $groups;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header Authorization "";
    }}
  }}
}}
"""
ROLES = '{"dba": "approver", "staff": "viewer", "chiefs": "admin"}'


class Behind:
    """nginx with TLS and a login in front of pghold."""

    def __init__(self, server: PostgresServer, folder: Path, **settings: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o755)
        make_certificate(folder)
        self.console_port, self.port = free_port(), free_port()
        people = "".join(f"{name}:{{PLAIN}}secret\n" for name in ("ana", "Bob", "chief", "nobody", "a b", "<i>x</i>"))
        (folder / "people").write_text(people)
        (folder / "nginx.conf").write_text(NGINX.format(folder=folder, port=self.port, console=self.console_port))
        environment = {
            "PGHOLD_CONSOLE_AUTH": "header",
            "PGHOLD_CONSOLE_URL": f"https://pghold.example.com:{self.port}",
            "PGHOLD_CONSOLE_ROLES": ROLES,
            **settings,
        }
        self.proxy = Pghold(
            f"postgresql://127.0.0.1:{server.port}/postgres", "--console", f"127.0.0.1:{self.console_port}", environment=environment
        )
        with (folder / "nginx.log").open("wb") as log:
            self._nginx = subprocess.Popen(["nginx", "-c", str(folder / "nginx.conf"), "-p", str(folder)], stdout=log, stderr=log)
        wait_for(self._listens, 10)

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def browser(self, name: str, **headers: str) -> httpx.Client:
        return httpx.Client(
            base_url=f"https://127.0.0.1:{self.port}",
            auth=(name, "secret"),
            headers={"Host": f"pghold.example.com:{self.port}", **headers},
            verify=False,  # the certificate is for another name; TLS has tests of its own
            trust_env=False,
            timeout=20,
        )

    def stop(self) -> None:
        self._nginx.terminate()
        self._nginx.wait(20)
        assert self.proxy.stop() == 0


@pytest.fixture(scope="module")
def behind(postgres18: PostgresServer, folder: Path) -> Iterator[Behind]:
    assert shutil.which("nginx"), "needs nginx: apt-get install nginx"
    made = Behind(postgres18, folder / "nginx")
    yield made
    made.stop()


def who(answer: httpx.Response) -> str:
    found = re.search(r'<h1>(\S+) <span class="quiet">(\w+)</span>', answer.text)
    return f"{found[1]} {found[2]}" if found else answer.text[:200]


def csrf(browser: httpx.Client) -> str:
    return browser.get("/account").text.partition('data-csrf="')[2].partition('"')[0]


def direct(behind: Behind, *headers: tuple[str, str], path: str = "/account") -> httpx.Response:
    """Past nginx, from loopback, which is trusted: as a proxy would send it."""
    return httpx.get(f"http://127.0.0.1:{behind.console_port}{path}", headers=list(headers), trust_env=False)


def problem(answer: httpx.Response) -> str:
    found = re.search(r'class="problem"[^>]*>(.*?)</', answer.text, re.DOTALL)
    return found[1] if found else ""


def test_the_proxys_word_is_who_it_is_and_what_he_may(behind: Behind) -> None:
    for name, expected in (("ana", "ana approver"), ("Bob", "bob viewer"), ("chief", "chief admin")):
        with behind.browser(name) as browser:
            answer = browser.get("/account")
            assert who(answer) == expected
            cookie = answer.headers["set-cookie"]
            assert cookie.startswith("__Host-pghold=")
            assert "secure" in cookie.lower()


def test_an_approver_decides_through_the_proxy(behind: Behind, table: str) -> None:
    from tests.browsing import Client

    client = Client(behind.proxy, f"TRUNCATE {table}")
    wait_for(lambda: bool(pending(behind)), 10)
    hold_id = pending(behind)[0]
    with behind.browser("Bob") as viewer, behind.browser("ana") as approver:
        fields = {"action": "approve", "phrase": PHRASE, "reason": "x", "object_name": table}
        assert viewer.post(f"/holds/{hold_id}/decide", data={"csrf": csrf(viewer), **fields}).status_code == 403
        assert approver.post(f"/holds/{hold_id}/decide", data=fields).status_code == 403, "without the form's token"
        assert approver.post(f"/holds/{hold_id}/decide", data={"csrf": csrf(approver), **fields}).status_code == 303
    client.join(10)
    assert client.error is None


def pending(behind: Behind) -> list[int]:
    return [h["id"] for h in behind.proxy.holds()]


def test_what_a_visitor_says_about_himself_is_not_believed(behind: Behind) -> None:
    lies = {"X-Forwarded-User": "chief", "X-Forwarded-Groups": "chiefs", "x_forwarded_user": "chief", "Remote-User": "chief"}
    with behind.browser("Bob", **lies) as browser:
        assert who(browser.get("/account")) == "bob viewer"


def test_who_is_in_no_group_is_not_let_in(behind: Behind) -> None:
    with behind.browser("nobody") as browser:
        answer = browser.get("/holds")
        assert (answer.status_code, "no group that has a role" in problem(answer)) == (403, True)


@pytest.mark.parametrize("name", ["a b", "<i>x</i>"])
def test_names_with_odd_characters_are_refused_and_are_no_markup(behind: Behind, name: str) -> None:
    with behind.browser(name) as browser:
        answer = browser.get("/holds", headers={"X": "y"})
        assert answer.status_code == 403
        assert "<i>" not in answer.text


USER, GROUPS = "X-Forwarded-User", "X-Forwarded-Groups"


@pytest.mark.parametrize(
    "headers",
    [
        (),
        ((USER, ""),),
        ((USER, "ana"), (USER, "chief"), (GROUPS, "chiefs")),
        ((USER, "ana, chief"), (GROUPS, "chiefs")),
        ((USER, "ana"), (GROUPS, "staff"), (GROUPS, "chiefs")),
        ((USER, "ana"),),
        ((USER, "ana"), (GROUPS, "")),
        ((USER, "ana"), (GROUPS, "Chiefs")),
        ((USER, "chi\u00e9f".encode().decode("latin-1")), (GROUPS, "chiefs")),
        ((USER, "a" * 121), (GROUPS, "chiefs")),
        ((USER, "operator"), (GROUPS, "chiefs")),
        ((USER, "OPERATOR"), (GROUPS, "chiefs")),
    ],
    ids=str,
)
def test_a_word_that_is_not_clear_lets_nobody_in(behind: Behind, headers: Any) -> None:
    answer = direct(behind, *((k, v.encode("latin-1")) for k, v in headers))  # type: ignore[arg-type]  # httpx takes bytes
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers


def test_a_role_that_the_proxy_takes_away_is_gone_with_the_next_request(behind: Behind) -> None:
    with httpx.Client(base_url=f"http://127.0.0.1:{behind.console_port}", trust_env=False) as browser:
        first = browser.get("/account", headers={USER: "dora", GROUPS: "chiefs"})
        assert who(first) == "dora admin"
        cookie = {"Cookie": first.headers["set-cookie"].partition(";")[0]}
        assert browser.get("/people", headers={USER: "dora", GROUPS: "chiefs", **cookie}).status_code == 200
        assert browser.get("/people", headers={USER: "dora", GROUPS: "staff", **cookie}).status_code == 403
        assert browser.get("/holds", headers={USER: "dora", GROUPS: "none", **cookie}).status_code == 403
        assert browser.get("/holds", headers=cookie).status_code == 403, "the cookie alone is nobody"
        other = browser.get("/account", headers={USER: "erik", GROUPS: "staff", **cookie})
        assert who(other) == "erik viewer", "and is not carried over to another person"


def test_the_login_form_lets_nobody_in_beside_the_proxy(behind: Behind) -> None:
    answer = httpx.post(f"http://127.0.0.1:{behind.console_port}/login", data={"password": behind.proxy.token}, trust_env=False)
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers


def test_an_untrusted_network_reaches_nothing_but_health(postgres18: PostgresServer, folder: Path) -> None:
    """The proxy is said to be elsewhere, so that loopback is not it."""
    settings = {"PGHOLD_CONSOLE_PROXIES": '["100.64.77.0/24"]', "PGHOLD_CONSOLE_AUTH": "header", "PGHOLD_CONSOLE_ROLES": ROLES}
    settings["PGHOLD_CONSOLE_URL"] = "https://pghold.example.com"
    proxy = Pghold(f"postgresql://127.0.0.1:{postgres18.port}/postgres", "--console", "0.0.0.0:0", environment=settings)
    port = proxy.console.rpartition(":")[2]
    own = _own_address()
    lies = {USER: "chief", GROUPS: "chiefs", "X-Forwarded-For": "100.64.77.1", "X-Real-IP": "100.64.77.1", "Forwarded": "for=100.64.77.1"}
    for address in ("127.0.0.1", own):
        for path in ("/", "/holds", "/login", "/static/console.js", "/nowhere"):
            answer = httpx.get(f"http://{address}:{port}{path}", headers=lies, trust_env=False)
            assert (answer.status_code, "through its proxy only" in answer.text) == (403, True)
        assert httpx.get(f"http://{address}:{port}/healthz", trust_env=False).status_code == 200
    bearer = {"Authorization": f"Bearer {proxy.token}"}
    assert httpx.get(f"http://127.0.0.1:{port}/api/v1/holds", headers=bearer, trust_env=False).status_code == 200
    if own != "127.0.0.1":
        assert httpx.get(f"http://{own}:{port}/api/v1/holds", headers=bearer, trust_env=False).status_code == 403
    assert proxy.stop() == 0


def _own_address() -> str:
    """Of this machine, that is not loopback; loopback where it has no other."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])


def test_a_limit_cannot_be_escaped_by_a_made_up_address(postgres18: PostgresServer) -> None:
    """Without a trusted proxy the header says nothing; behind one, what comes before the last untrusted address says nothing."""
    environment = {"PGHOLD_CONSOLE_PROXIES": '["100.64.77.0/24"]'}
    proxy = Pghold(f"postgresql://127.0.0.1:{postgres18.port}/postgres", environment=environment)
    statuses = [
        httpx.post(
            f"{proxy.console}/login",
            data={"password": "wrong", "name": f"n{i}"},
            headers={"X-Forwarded-For": f"203.0.113.{i}"},
            trust_env=False,
        ).status_code
        for i in range(21)
    ]
    assert statuses == [401] * 20 + [429]
    assert proxy.stop() == 0
    trusting = Pghold(f"postgresql://127.0.0.1:{postgres18.port}/postgres")
    statuses = [
        httpx.post(
            f"{trusting.console}/login",
            data={"password": "wrong", "name": f"n{i}"},
            headers={"X-Forwarded-For": f"203.0.113.{i}, 198.51.100.7, 127.0.0.1"},
            trust_env=False,
        ).status_code
        for i in range(21)
    ]
    assert statuses == [401] * 20 + [429]
    # And one guesser does not keep the others behind the proxy out.
    other = httpx.post(
        f"{trusting.console}/login", data={"password": trusting.token}, headers={"X-Forwarded-For": "198.51.100.8"}, trust_env=False
    )
    assert other.status_code == 303
    assert trusting.stop() == 0
