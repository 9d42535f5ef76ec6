"""`pghold operator`, `approve`, `deny` and `holds` as they are typed: through a running proxy, and on its data directory when none runs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pyotp
import pytest

from proxy.audit import verify
from proxy.cli.operator import lifetime
from tests.browsing import PHRASE, Client
from tests.servers import Pghold, PostgresServer, wait_for


class Cli:
    """pghold, in a process of its own, by way of the data directory or of a token."""

    def __init__(self, proxy: Pghold, **environment: str) -> None:
        plain = {k: v for k, v in os.environ.items() if not k.startswith("PGHOLD_")}
        self._environment = {**plain, "PGHOLD_DATA_DIR": str(proxy.folder / "data"), "PGHOLD_CONSOLE": proxy.console, **environment}

    def __call__(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "proxy", *arguments]
        return subprocess.run(command, input=stdin, capture_output=True, text=True, env=self._environment, timeout=60, check=False)

    def out(self, *arguments: str, stdin: str = "") -> str:
        done = self(*arguments, stdin=stdin)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def without_console(self) -> Cli:
        self._environment.pop("PGHOLD_CONSOLE")
        return self


@pytest.fixture
def cli(pghold: Pghold) -> Cli:
    return Cli(pghold)


@pytest.fixture
def stopped(postgres18: PostgresServer) -> Iterator[Pghold]:
    """A proxy that ran once, and does not run now."""
    proxy = Pghold(f"postgresql://127.0.0.1:{postgres18.port}/postgres")
    assert proxy.stop() == 0
    yield proxy
    proxy.stop()


def status(proxy: Pghold, token: str) -> int:
    return httpx.get(f"{proxy.console}/api/v1/me", headers={"Authorization": f"Bearer {token}"}, trust_env=False).status_code


def changes(proxy: Pghold, about: str) -> list[tuple[str, str]]:
    return [(r["operator"], r["outcome"]) for r in proxy.audit() if r["event"] == "operator changed" and r["detail"].get("about") == about]


def held(proxy: Pghold, script: str, **options: str) -> tuple[Client, int]:
    before = {h["id"] for h in proxy.holds()}
    client = Client(proxy, script, **options)
    wait_for(lambda: {h["id"] for h in proxy.holds()} - before, 10)
    return client, max({h["id"] for h in proxy.holds()} - before)


def test_a_life_of_an_operator_through_the_running_proxy(pghold: Pghold, cli: Cli) -> None:
    token = cli.out("operator", "add", "ana", "--database", "shop*", "--max-severity", "high", "--database-role", "ana_db")
    assert status(pghold, token) == 200
    again = cli("operator", "add", "ana")
    assert (again.returncode, again.stderr) == (1, "pghold: there is an operator ana already\n")
    person = next(p for p in map(json.loads, cli.out("operator", "list", "--json").splitlines()) if p["name"] == "ana")
    assert (person["databases"], person["max_severity"], person["database_roles"]) == (["shop*"], "high", ["ana_db"])
    assert "for shop*; up to high; also ana_db" in cli.out("operator", "list")

    ci = json.loads(cli.out("operator", "token", "ana", "--name", "ci", "--expires", "30d", "--json"))
    assert status(pghold, ci["token"]) == 200
    assert "ci\texpires 20" in cli.out("operator", "tokens", "ana")
    assert cli("operator", "token", "ana", "--name", "ci").returncode == 1
    cli.out("operator", "token", "ana", "--name", "ci", "--revoke")
    assert status(pghold, ci["token"]) == 401
    assert cli("operator", "token", "ana", "--name", "ci", "--revoke").returncode == 1

    cli.out("operator", "change", "ana", "--role", "viewer", "--database", "", "--may-skip-backup")
    person = json.loads(next(x for x in cli.out("operator", "list", "--json").splitlines() if '"ana"' in x))
    assert (person["role"], person["databases"], person["max_severity"], person["may_skip_backup"]) == ("viewer", [], "high", True)
    assert status(pghold, token) == 200

    cli.out("operator", "disable", "ana")
    assert status(pghold, token) == 401
    cli.out("operator", "enable", "ana")
    assert status(pghold, token) == 200
    cli.out("operator", "remove", "ana")
    assert status(pghold, token) == 401
    assert cli("operator", "remove", "ana").returncode == 1
    assert changes(pghold, "ana") == [
        ("operator", "added as approver; databases: shop*; database roles: ana_db; severity up to high"),
        ("operator", "token ci made"),
        ("operator", "token ci revoked"),
        ("operator", "role viewer; databases: all; may approve without a backup"),
        ("operator", "disable"),
        ("operator", "enable"),
        ("operator", "remove"),
    ]
    secrets = (token, ci["token"])
    assert not any(secret in line for secret in secrets for line in (pghold.folder / "data" / "audit.jsonl").read_text().splitlines())


def test_of_many_who_add_the_same_name_at_once_one_does(pghold: Pghold) -> None:
    def add(role: str) -> httpx.Response:
        return pghold.http.post("/api/v1/operators", json={"name": "s-race", "role": role})

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(add, ["viewer", "approver", "admin", "auditor"] * 2))
    made = [a for a in answers if a.status_code == 201]
    assert len(made) == 1
    assert {a.status_code for a in answers} == {201, 400}
    assert len(changes(pghold, "s-race")) == 1
    me = httpx.get(f"{pghold.console}/api/v1/me", headers={"Authorization": f"Bearer {made[0].json()['token']}"}, trust_env=False).json()
    assert f"added as {me['role']}" == changes(pghold, "s-race")[0][1]


def test_the_api_describes_itself(pghold: Pghold) -> None:
    paths = pghold.http.get("/api/v1/openapi.json").json()["paths"]
    assert {"/api/v1/me", "/api/v1/review", "/api/v1/holds/{hold_id}/review", "/api/v1/holds/together", "/api/v1/operators"} <= set(paths)


def test_a_token_ends_when_it_was_said_to(pghold: Pghold, cli: Cli) -> None:
    cli.out("operator", "add", "t-eve")
    made = pghold.http.post("/api/v1/operators/t-eve/tokens", json={"name": "short", "expires_in_s": 1.5}).json()
    assert status(pghold, made["token"]) == 200
    wait_for(lambda: status(pghold, made["token"]) == 401, 10)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90m", 5400), ("12h", 43200), ("30d", 2592000), ("2w", 1209600), ("1y", 31536000), ("never", None)]
)
def test_lifetimes(text: str, seconds: float | None) -> None:
    assert lifetime(text) == seconds


@pytest.mark.parametrize("text", ["", "0d", "-1d", "30", "d", "1.5h", "99999y", "30d; rm"])
def test_what_is_no_lifetime_is_usage(cli: Cli, text: str) -> None:
    assert cli("operator", "token", "operator", "--name", "x", "--expires", text).returncode == 2


def test_a_password_comes_from_standard_input_and_never_from_the_arguments(pghold: Pghold, cli: Cli) -> None:
    token = cli.out("operator", "add", "p-carl")
    assert cli("operator", "passwd", "p-carl", stdin="short\n").returncode == 1
    cli.out("operator", "passwd", "p-carl", stdin="correct horse battery\n")
    psycopg.connect(host="127.0.0.1", port=pghold.port, user="p-carl", password="correct horse battery", dbname="pghold").close()
    own = Cli(pghold, PGHOLD_TOKEN=token)
    wrong = own("operator", "passwd", "p-carl", stdin="a guess\nanother battery staple\n")
    assert (wrong.returncode, "the current password is wrong" in wrong.stderr) == (4, True)
    own.out("operator", "passwd", "p-carl", stdin="correct horse battery\nanother battery staple\n")
    psycopg.connect(host="127.0.0.1", port=pghold.port, user="p-carl", password="another battery staple", dbname="pghold").close()
    assert "correct horse" not in (pghold.folder / "data" / "audit.jsonl").read_text()


def test_a_second_factor_is_ones_own(pghold: Pghold, cli: Cli) -> None:
    token = cli.out("operator", "add", "f-dora")
    assert cli("operator", "totp", "f-dora", stdin="123456\n").returncode == 4, "nobody sets up a device for others"
    headers = {"Authorization": f"Bearer {token}"}
    begun = httpx.post(f"{pghold.console}/api/v1/operators/f-dora/second-factor", headers=headers, trust_env=False).json()
    assert begun["uri"].startswith("otpauth://totp/pghold:f-dora?secret=")
    device = pyotp.TOTP(begun["secret"])

    def confirm(code: str) -> int:
        body = {"secret": begun["secret"], "code": code}
        return httpx.put(f"{pghold.console}/api/v1/operators/f-dora/second-factor", headers=headers, json=body, trust_env=False).status_code

    assert confirm("000000" if device.now() != "000000" else "111111") == 403
    assert confirm(device.at(int(time.time()) - 30)) == 204
    own = Cli(pghold, PGHOLD_TOKEN=token)
    assert own("operator", "totp", "f-dora", "--remove", stdin="1\n").returncode == 4
    own.out("operator", "totp", "f-dora", "--remove", stdin=device.at(int(time.time()) + 30) + "\n")
    assert cli("operator", "totp", "f-dora", "--remove").returncode == 1, "there is none any more"
    assert [what for _, what in changes(pghold, "f-dora")][-2:] == ["second factor set up", "second factor removed"]


def test_who_is_no_admin_changes_only_himself(pghold: Pghold, cli: Cli) -> None:
    token = cli.out("operator", "add", "n-max", "--role", "approver")
    cli.out("operator", "add", "n-other")
    own = Cli(pghold, PGHOLD_TOKEN=token)
    for arguments in (
        ("add", "mallory", "--role", "admin"),
        ("list",),
        ("tokens", "n-other"),
        ("token", "n-other", "--name", "x"),
        ("token", "n-other", "--name", "first", "--revoke"),
        ("change", "n-max", "--role", "admin"),
        ("change", "n-other", "--role", "viewer"),
        ("disable", "n-other"),
        ("remove", "n-other"),
        ("totp", "n-other", "--remove"),
    ):
        refused = own("operator", *arguments)
        assert refused.returncode == 4, (arguments, refused)
        assert refused.stderr.startswith("pghold: ")
    assert own("operator", "passwd", "n-other", stdin="correct horse battery\n").returncode == 4
    assert status(pghold, own.out("operator", "token", "n-max", "--name", "mine", "--expires", "1h")) == 200
    assert changes(pghold, "mallory") == []


def test_an_admin_does_not_shut_himself_out(cli: Cli) -> None:
    for arguments in (("disable", "operator"), ("remove", "operator"), ("change", "operator", "--role", "viewer")):
        refused = cli("operator", *arguments)
        assert (refused.returncode, "another admin must do that to you" in refused.stderr) == (4, True)


@pytest.mark.parametrize("name", ["", "a b", "../x", "x" * 121, "\u202eevil", "a/b", "name\n"])
def test_what_is_no_name_is_refused_in_one_line(pghold: Pghold, cli: Cli, name: str) -> None:
    refused = cli("operator", "add", name)
    assert refused.returncode in (1, 4)
    assert len(refused.stderr.splitlines()) == 1
    assert "\u202e" not in refused.stderr
    assert changes(pghold, name) == []


def test_the_way_back_in_while_no_proxy_runs(stopped: Pghold) -> None:
    cli = Cli(stopped).without_console()
    assert "working in it directly" in cli("operator", "list").stderr
    cli.out("operator", "add", "rescue", "--role", "admin")
    cli.out("operator", "passwd", "rescue", stdin="correct horse battery\n")
    token = cli.out("operator", "token", "rescue", "--name", "again", "--expires", "1h")
    cli.out("operator", "change", "rescue", "--max-severity", "medium")
    cli.out("operator", "disable", "operator")
    who, what = zip(*changes(stopped, "rescue"), strict=True)
    assert what == ("added as admin", "password set", "token again made", "severity up to medium")
    assert set(who) == {f"{__import__('getpass').getuser()} (data directory)"}
    assert verify(stopped.folder / "data" / "audit.jsonl").problem is None
    stopped.start()
    assert status(stopped, token) == 200
    # A restart does not let the disabled first operator in again.
    assert status(stopped, stopped.token) == 401
    # While it runs, the same command goes through it, wherever its console listens.
    running = Cli(stopped, PGHOLD_TOKEN=token).without_console()
    assert "directly" not in running("operator", "list").stderr
    running.out("operator", "enable", "operator")
    assert changes(stopped, "operator")[-1] == ("rescue", "enable")
    assert (stopped.folder / "data" / "console.url").read_text().strip() == stopped.console
    assert stopped.stop() == 0
    assert not (stopped.folder / "data" / "console.url").exists()


def test_what_a_killed_proxy_left_does_not_mislead(stopped: Pghold) -> None:
    stopped.start()
    stopped.stop(signal.SIGKILL)
    assert (stopped.folder / "data" / "console.url").exists()
    cli = Cli(stopped).without_console()
    cli.out("operator", "add", "after-all")
    assert cli("holds").stderr.startswith("pghold: cannot reach the console at http://127.0.0.1:")


def test_nothing_is_changed_that_cannot_be_recorded(stopped: Pghold) -> None:
    log = stopped.folder / "data" / "audit.jsonl"
    whole = log.read_text()
    log.write_text(whole.replace('"event": "started"', '"event": "stopped"', 1))
    cli = Cli(stopped).without_console()
    refused = cli("operator", "add", "mallory", "--role", "admin")
    assert refused.returncode == 1
    assert "was changed" in refused.stderr
    log.write_text(whole)
    assert "mallory" not in cli.out("operator", "list")


def test_several_are_approved_by_one_command(pghold: Pghold, cli: Cli, postgres18: PostgresServer, table: str) -> None:
    one, first = held(pghold, f"DELETE FROM {table} WHERE true", application_name="a")
    two, second = held(pghold, f"DROP TABLE IF EXISTS {table}_not_there", application_name="b")
    done = cli("approve", str(first), str(second), "--phrase", PHRASE, "--reason", "both")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"Hold {first} is approved.", f"Hold {second} is approved."]
    for client in (one, two):
        client.join(10)
        assert client.error is None
    assert postgres18.sql(f"SELECT count(*) FROM {table}") == [(0,)]
    late = cli("deny", str(first), str(second), "--reason", "too late")
    assert late.returncode == 3
    assert late.stderr.count("no longer pending: it is") == 2


def test_all_that_belong_to_one_are_denied_by_their_count(pghold: Pghold, cli: Cli, table: str) -> None:
    clients = [Client(pghold, f"DROP TABLE IF EXISTS {table}_{i}", application_name="sync") for i in range(5)]
    wait_for(lambda: len(pghold.holds()) == 5, 10)
    like = str(pghold.holds()[2]["id"])
    assert cli("deny", "--all-like", like, "--reason", "no").returncode == 2
    assert cli("deny", "--all-like", like, "--count", "4", "--reason", "no").returncode == 4
    assert len(pghold.holds()) == 5
    assert cli("deny", like, "--all-like", like, "--reason", "no").returncode == 2
    cli.out("deny", "--all-like", like, "--count", "5", "--reason", "no")
    for client in clients:
        client.join(10)
        assert client.error is not None
    assert cli("deny", "--all-like", like, "--count", "5", "--reason", "no").returncode == 3


def test_a_wrong_name_of_what_is_lost_decides_nothing(pghold: Pghold, cli: Cli, table: str) -> None:
    client, hold_id = held(pghold, f"DROP TABLE {table}")
    refused = cli("approve", str(hold_id), "--phrase", PHRASE, "--reason", "x", "--object", "another")
    assert (refused.returncode, "type the name of what is lost" in refused.stderr) == (4, True)
    cli.out("approve", str(hold_id), "--phrase", PHRASE, "--reason", "x", "--object", table)
    client.join(10)
    assert client.error is None


def test_holds_are_listed_by_state_database_and_role(pghold: Pghold, cli: Cli, table: str) -> None:
    one, denied = held(pghold, f"TRUNCATE {table}")
    pghold.deny(denied)
    one.join(10)
    two, waiting = held(pghold, f"TRUNCATE {table}")

    def ids(*arguments: str) -> list[int]:
        return [json.loads(x)["id"] for x in cli.out("holds", "--json", *arguments).splitlines()]

    assert ids() == [waiting]
    assert waiting not in ids("--state", "denied")
    assert denied in ids("--state", "denied")
    assert ids("--all", "--limit", "1") == [waiting]
    assert ids("--database", "post*", "--role", "postgres") == [waiting]
    assert ids("--database", "shop") == []
    assert cli.out("holds", "--role", "nobody") == "No hold fits."
    assert cli("holds", "--state", "nonsense").returncode == 2
    pghold.deny(waiting)
    two.join(10)


def test_review_says_what_a_decision_takes(pghold: Pghold, cli: Cli, table: str) -> None:
    client, hold_id = held(pghold, f"DROP TABLE {table}")
    review: dict[str, Any] = pghold.http.get(f"/api/v1/holds/{hold_id}/review").json()
    assert review["names_to_type"] == [table]
    assert (review["why_not"], review["approvers_needed"], review["second_factor"], review["phrase"]) == ("", 1, False, PHRASE)
    assert review["group"]["ids"] == [hold_id]
    assert review["rules"]["drop-table"]["why"]
    token = cli.out("operator", "add", "r-ora", "--role", "viewer")
    headers = {"Authorization": f"Bearer {token}"}
    mine = httpx.get(f"{pghold.console}/api/v1/holds/{hold_id}/review", headers=headers, trust_env=False).json()
    assert mine["why_not"] == "the role viewer may not decide"
    assert pghold.http.get("/api/v1/holds/999999/review").status_code == 404
    assert pghold.http.get("/api/v1/review", params={"ids": f"{hold_id},999999"}).status_code == 404
    assert pghold.http.get("/api/v1/review", params={"ids": "1,x"}).status_code == 422
    for path in (
        f"/api/v1/holds/{hold_id}/review",
        "/api/v1/review?ids=1",
        "/api/v1/me",
        "/api/v1/operators",
        "/api/v1/operators/operator",
    ):
        assert httpx.get(f"{pghold.console}{path}", trust_env=False).status_code == 401
    pghold.deny(hold_id)
    client.join(10)


def test_help_and_usage(cli: Cli, tmp_path: Path) -> None:
    assert "passwd" in cli.out("operator", "--help")
    assert cli("operator", "change", "operator").returncode == 2
    assert cli("operator", "add", "x", "--max-severity", "extreme").returncode == 2
    assert cli("approve", "--phrase", PHRASE, "--reason", "x").returncode == 2
    assert cli("approve", "0", "--phrase", PHRASE, "--reason", "x").returncode == 2


@pytest.mark.parametrize("console", ["http://[", "ftp://127.0.0.1", "http://", "127.0.0.1:99999", "not a host:1", "\x1b]0;x"])
def test_a_wrong_address_is_told_in_one_line(cli: Cli, pghold: Pghold, console: str) -> None:
    for command in (("holds",), ("operator", "list")):
        done = cli(*command, "--console", console)
        assert done.returncode in (1, 2)
        assert len(done.stderr.splitlines()) == 1, done.stderr
        assert done.stderr.startswith("pghold: ")
        assert "\x1b" not in done.stderr


def test_a_token_that_can_be_none_is_told_in_one_line(cli: Cli) -> None:
    for token in ("t\u00f6ken", "a\nb: c"):
        done = cli("holds", "--token", token)
        assert (done.returncode, len(done.stderr.splitlines())) == (4, 1)
