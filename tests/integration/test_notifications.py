"""Notifications of a real pghold, delivered to real HTTP and SMTP servers on this machine."""

from __future__ import annotations

import hashlib
import hmac
import html
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browsing import Browser, Client
from tests.servers import Pghold, PostgresServer, wait_for
from tests.sinks import HttpSink, SmtpSink

SECRET = "an integration secret"
Start = Callable[..., Pghold]


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    Browser.close_all()


@pytest.fixture
def start(postgres18: PostgresServer, tmp_path: Path) -> Iterator[Start]:
    running: list[Pghold] = []

    def begin(*routes: str, options: tuple[str, ...] = (), environment: dict[str, str] | None = None) -> Pghold:
        file = tmp_path / "pghold.toml"
        write(file, *routes)
        upstream = f"postgresql://127.0.0.1:{postgres18.port}/postgres"
        proxy = Pghold(
            upstream, "--policy", str(file), *options, folder=tmp_path, environment={"HOOK_SECRET": SECRET, **(environment or {})}
        )
        running.append(proxy)
        return proxy

    yield begin
    for proxy in running:
        proxy.stop(signal.SIGKILL)


#: Health is told of tables that other tests make and drop on the same server.
QUIET = 'events = ["hold.*", "break-glass", "operator.*", "backup.*", "health.problem", "health.solved"]'


def write(file: Path, *routes: str) -> None:
    told = [route if "events" in route else f"{route}\n{QUIET}" for route in routes]
    file.write_text("".join(f"[[notifications]]\n{route}\n" for route in told))


def hook(http: HttpSink, *more: str, name: str = "hook", path: str = "/T0KEN") -> str:
    quick = [] if any(line.startswith("digest_s") for line in more) else ["digest_s = 0"]
    lines = [f'name = "{name}"', f'webhook = "{http.url}{path}"', 'secret = "${HOOK_SECRET}"', "retry_from_s = 0.05", "retry_up_to_s = 0.1"]
    return "\n".join([*lines, *quick, *more])


def held(proxy: Pghold, script: str, **options: str) -> tuple[Client, int]:
    before = {h["id"] for h in proxy.holds()}
    client = Client(proxy, script, **options)
    wait_for(lambda: {h["id"] for h in proxy.holds()} - before, 10)
    return client, max({h["id"] for h in proxy.holds()} - before)


def visible_problem(answer: Any) -> str:
    return html.unescape(re.sub(r"<[^>]+>", " ", answer.text))


def test_a_hold_and_its_decision_reach_webhook_mail_and_chat_signed_linked_and_once(
    start: Start, http: HttpSink, smtp: SmtpSink, table: str
) -> None:
    proxy = start(
        hook(http),
        f'name = "mail"\nurls = "{smtp.url}"\ndigest_s = 0',
        f'name = "chat"\nurls = "mmost://127.0.0.1:{http.port}/mattermostTOKEN"\ndigest_s = 0',
    )
    client, hold_id = held(proxy, f"DROP TABLE {table}", application_name="sync")
    wait_for(lambda: len(http.arrived) == 2, 10)
    wait_for(lambda: smtp.mails, 10)
    proxy.deny(hold_id, "not on a Friday")
    client.join(10)

    def hooks() -> list[Any]:
        return [r for r in http.arrived if r.path == "/T0KEN"]

    wait_for(lambda: len(hooks()) == 2 and len(smtp.mails) == 2 and len(http.arrived) == 4, 10)
    for received in hooks():
        signed = received.headers["x-pghold-timestamp"].encode() + b"." + received.body
        assert received.headers["x-pghold-signature"] == "sha256=" + hmac.new(SECRET.encode(), signed, hashlib.sha256).hexdigest()
    opened, denied = (r.json for r in hooks())
    assert opened["link"] == denied["link"] == f"{proxy.console}/holds/{hold_id}"
    assert denied["supersedes"] == opened["delivery"]
    assert denied["event"] == "hold.denied"
    assert "Reason: not on a Friday" in denied["text"]
    assert smtp.mails[0]["References"] == smtp.mails[1]["References"]
    assert smtp.mails[1]["Subject"].startswith("Denied by operator")
    chat = [str(r.json) for r in http.arrived if r.path != "/T0KEN"]
    assert all(f"{proxy.console}/holds/{hold_id}" in told for told in chat)
    assert "waits for a decision" in chat[0]
    assert "Denied by operator" in chat[1]
    # And nothing more comes: the decision was told once.
    assert proxy.stop() == 0
    assert (len(hooks()), len(smtp.mails), len(http.arrived)) == (2, 2, 4)


def test_errors_are_tried_again_with_the_same_delivery(start: Start, http: HttpSink, table: str) -> None:
    proxy = start(hook(http))
    http.answers = [500, 503]
    client, hold_id = held(proxy, f"DROP TABLE {table}")
    wait_for(lambda: http.arrived, 10)
    assert [r.status for r in http.received] == [500, 503, 200]
    assert len({r.headers["x-pghold-delivery"] for r in http.received}) == 1
    proxy.deny(hold_id)
    client.join(10)


def test_a_hanging_service_delays_nothing_and_not_the_end(start: Start, http: HttpSink, table: str) -> None:
    json_route = f'name = "json"\nurls = "json://127.0.0.1:{http.port}/"\ndigest_s = 0'
    proxy = start(hook(http), json_route)
    http.hanging.set()
    for _ in range(3):
        client, hold_id = held(proxy, f"DROP TABLE {table}")
        assert proxy.deny(hold_id).status_code == 200
        client.join(10)
        assert client.error is not None
    with proxy.connect() as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    assert proxy.stop() == 0


def test_what_could_not_be_delivered_is_on_the_health_page_and_is_sent_again(start: Start, http: HttpSink, table: str) -> None:
    proxy = start(hook(http, "tries = 2"))
    http.stop()
    client, hold_id = held(proxy, f"DROP TABLE {table}")
    wait_for(lambda: proxy.metric("pghold_notifications_dead") == 1, 10)
    browser = Browser(proxy)
    page = browser.get("/health").text
    assert "could not be delivered" in page
    assert f'href="/holds/{hold_id}"' in page
    found = re.search(r'action="/health/notifications/(\d+)/again"', page)
    assert found is not None
    lost = [r for r in proxy.audit() if r["event"] == "notification lost"]
    assert [(r["hold_id"], r["detail"]["route"], r["detail"]["tries"]) for r in lost] == [(hold_id, "hook", 2)]
    http.start()
    # Without the token of its form nothing happens.
    assert browser.http.post(f"/health/notifications/{found[1]}/again").status_code == 403
    assert browser.post(f"/health/notifications/{found[1]}/again").status_code == 303
    wait_for(lambda: http.events("hold.opened"), 10)
    wait_for(lambda: proxy.metric("pghold_notifications_dead") == 0, 10)
    assert "could not be delivered" not in browser.get("/health").text
    proxy.deny(hold_id)
    client.join(10)
    wait_for(lambda: http.events("hold.denied"), 10)


def test_a_dead_letter_is_dismissed_by_an_admin_only_and_on_record(start: Start, http: HttpSink, table: str) -> None:
    proxy = start(hook(http, "tries = 1"))
    http.answers = [500]
    client, hold_id = held(proxy, f"DROP TABLE {table}")
    wait_for(lambda: proxy.metric("pghold_notifications_dead") == 1, 10)
    admin = Browser(proxy)
    answer = admin.post("/people/add", name="vera", role="viewer")
    token = re.search(r'id="secret">([^<]+)<', answer.text)
    assert token is not None
    viewer = Browser(proxy, token=token[1])
    page = viewer.get("/health").text
    assert "could not be delivered" in page
    assert "/again" not in page
    number = re.search(r"/health/notifications/(\d+)/dismiss", admin.get("/health").text)
    assert number is not None
    for path in (f"/health/notifications/{number[1]}/dismiss", f"/health/notifications/{number[1]}/again", "/health/notifications/test"):
        assert viewer.post(path).status_code == 403
    assert proxy.metric("pghold_notifications_dead") == 1
    assert admin.post(f"/health/notifications/{number[1]}/dismiss").status_code == 303
    assert proxy.metric("pghold_notifications_dead") == 0
    assert proxy.audit()[-1]["outcome"] == "dismissed"
    assert proxy.audit()[-1]["operator"] == "operator"
    answer = admin.post(f"/health/notifications/{number[1]}/again")
    assert answer.status_code == 409
    assert "not there any more" in visible_problem(answer)
    proxy.deny(hold_id)
    client.join(10)


def test_a_killed_proxy_sends_what_was_pending_when_it_is_back(start: Start, http: HttpSink, table: str) -> None:
    proxy = start(hook(http, "retry_from_s = 600", "retry_up_to_s = 600").replace("retry_from_s = 0.05\nretry_up_to_s = 0.1\n", ""))
    client, hold_id = held(proxy, f"DROP TABLE {table}")
    wait_for(lambda: http.events("hold.opened"), 10)
    http.answers = [500]
    proxy.deny(hold_id, "no")
    client.join(10)
    wait_for(lambda: [r for r in http.received if r.status == 500], 10)
    store = proxy.folder / "data" / "pghold.sqlite"

    def waiting() -> list[Any]:
        with sqlite3.connect(store) as connection:
            return connection.execute("SELECT topic, tries FROM notifications WHERE state = 'waiting'").fetchall()

    wait_for(lambda: waiting() == [("hold.denied", 1)], 10)
    proxy.stop(signal.SIGKILL)
    proxy.start()
    wait_for(lambda: http.events("hold.denied"), 10)
    assert proxy.stop() == 0
    assert [b["event"] for b in http.events()] == ["hold.opened", "hold.denied"]
    tried = [r for r in http.received if r.json["event"] == "hold.denied"]
    assert len({r.headers["x-pghold-delivery"] for r in tried}) == 1
    assert waiting() == []


def test_a_hold_that_a_killed_proxy_left_is_followed_up_once(start: Start, http: HttpSink, table: str) -> None:
    proxy = start(hook(http))
    held(proxy, f"DROP TABLE {table}")
    wait_for(lambda: http.events("hold.opened"), 10)
    store = proxy.folder / "data" / "pghold.sqlite"

    def known() -> int:
        with sqlite3.connect(store) as connection:
            return int(connection.execute("SELECT count(*) FROM notifications WHERE state = 'known'").fetchone()[0])

    wait_for(lambda: known() == 1, 10)
    proxy.stop(signal.SIGKILL)
    proxy.start()
    wait_for(lambda: http.events("hold.abandoned") and known() == 0, 10)
    proxy.stop(signal.SIGKILL)
    proxy.start()
    assert proxy.stop() == 0
    assert [b["event"] for b in http.events(thread="hold-1")] == ["hold.opened", "hold.abandoned"]
    assert http.events()[1]["supersedes"] == http.events()[0]["delivery"]
    assert known() == 0


def test_what_is_told_again_after_a_crash_is_the_same_delivery(start: Start, http: HttpSink, table: str) -> None:
    """The proxy dies between the arrival of a message and the store's knowing of it; a receiver can tell."""
    proxy = start(hook(http))
    held(proxy, f"DROP TABLE {table}")
    wait_for(lambda: http.events("hold.opened"), 10)
    for _ in range(3):
        proxy.stop(signal.SIGKILL)
        proxy.start()
    assert proxy.stop() == 0
    assert len({b["delivery"] for b in http.events("hold.opened")}) == 1
    assert len({b["delivery"] for b in http.events("hold.abandoned")}) <= 1


def test_what_ends_with_the_proxy_is_told_before_it_is_gone(start: Start, http: HttpSink, table: str) -> None:
    proxy = start(hook(http, "digest_s = 600"), hook(http, name="quick", path="/quick"))
    client, hold_id = held(proxy, f"DROP TABLE {table}")
    wait_for(lambda: http.events("hold.opened"), 10)
    assert proxy.stop() == 0
    client.join(10)
    assert [(r.path, r.json["event"]) for r in http.arrived] == [("/quick", "hold.opened"), ("/quick", "hold.withdrawn")]
    assert http.events()[1]["thread"] == f"hold-{hold_id}"


def test_fifty_holds_are_one_message(start: Start, http: HttpSink, table: str) -> None:
    proxy = start(hook(http, "digest_s = 3", "digest_over = 5"))
    clients = [Client(proxy, f"DROP TABLE IF EXISTS {table}_{i}") for i in range(50)]
    wait_for(lambda: len(proxy.holds()) == 50, 20)
    wait_for(lambda: http.received, 10)
    assert [b["event"] for b in http.events()] == ["digest"]
    assert (http.events()[0]["count"], http.events()[0]["link"]) == (50, f"{proxy.console}/holds")
    for hold in proxy.holds():
        proxy.deny(hold["id"])
    for client in clients:
        client.join(10)
    wait_for(lambda: sum(b["count"] for b in http.events("digest")) >= 95, 15)
    assert proxy.stop() == 0
    told = [m for b in http.events("digest") for m in b["messages"]] + [b for b in http.events() if b["event"] != "digest"]
    assert sorted(m["event"] for m in told) == ["hold.denied"] * 50 + ["hold.opened"] * 50


def test_break_glass_reaches_every_route(start: Start, http: HttpSink, smtp: SmtpSink, table: str, tmp_path: Path) -> None:
    proxy = start(
        hook(http, 'databases = "another"', 'events = "health.*"', 'min_severity = "critical"', "digest_s = 600"),
        f'name = "mail"\nurls = "{smtp.url}"\nenvironments = "test"',
    )
    file = tmp_path / "pghold.toml"
    file.write_text(file.read_text() + "[[policy.approvals]]\napprovers = 2\n")
    proxy.process.send_signal(signal.SIGHUP)
    wait_for(lambda: '"reloaded"' in proxy.log.read_text(), 10)
    client, hold_id = held(proxy, f"DROP TABLE {table}")
    body = {"phrase": "YES I UNDERSTAND THE RISKS", "reason": "the site is down", "break_glass": True}
    assert proxy.http.post(f"/api/v1/holds/{hold_id}/approve", json=body).status_code == 200
    client.join(10)
    wait_for(lambda: http.events("break-glass") and smtp.mails, 10)
    assert smtp.mails[0]["Subject"].startswith("BREAK-GLASS by operator")
    assert http.events("break-glass")[0]["severity"] == "critical"


def test_practice_is_told_only_to_those_who_name_it(start: Start, http: HttpSink) -> None:
    proxy = start(hook(http, name="all", path="/all"), hook(http, 'environments = "practice"', name="practice", path="/practice"))
    answer = Browser(proxy).post("/holds/practice")
    assert answer.status_code == 303
    wait_for(lambda: http.events("hold.opened"), 10)
    proxy.deny(int(answer.headers["location"].rpartition("/")[2]))
    wait_for(lambda: http.events("hold.denied"), 10)
    assert proxy.stop() == 0
    assert {r.path for r in http.received} == {"/practice"}


def test_a_hostile_application_makes_no_header_and_no_mention(start: Start, http: HttpSink, smtp: SmtpSink, table: str) -> None:
    proxy = start(hook(http), f'name = "mail"\nurls = "{smtp.url}"\ndigest_s = 0')
    name = "x\r\nBcc: victim@example.com\r\n\r\n<!channel> @here"
    client, hold_id = held(proxy, f"DROP TABLE {table} -- @channel \u202e [x](https://evil.example)", application_name=name)
    wait_for(lambda: smtp.mails, 10)
    mail = smtp.mails[0]
    assert mail["Bcc"] is None
    assert "@channel" not in mail.get_content()
    assert "<!channel>" not in mail.get_content()
    assert "https://evil.example" not in mail.get_content()
    assert "<U+202E>".replace("<", "‹").replace(">", "›") in mail.get_content()
    proxy.deny(hold_id)
    client.join(10)


SECRETS = ("hunter2pass", "T0KEN", SECRET)


def test_no_secret_of_a_route_is_in_log_console_metrics_audit_or_store(
    start: Start, http: HttpSink, smtp: SmtpSink, table: str, tmp_path: Path
) -> None:
    smtp.refuse = True
    quick = "retry_from_s = 0.05\nretry_up_to_s = 0.1\ntries = 2\ndigest_s = 0"
    proxy = start(
        hook(http, "tries = 2").replace("${HOOK_SECRET}", SECRET),
        f'name = "mail"\nurls = "{smtp.url}"\n{quick}',
        options=("--log-level", "debug"),
    )
    http.answers = [500] * 4
    client, hold_id = held(proxy, f"DROP TABLE {table}")
    wait_for(lambda: proxy.metric("pghold_notifications_dead") == 2, 10)
    browser = Browser(proxy)
    tested = browser.post("/health/notifications/test")
    file = tmp_path / "pghold.toml"
    file.write_text(file.read_text().replace("tries = 2", "tries = 3"))
    assert proxy.http.post("/api/v1/reload").status_code == 200
    file.write_text(file.read_text() + '[[notifications]]\nname = "bad one"\nurls = ["mailto://hunter2pass"]\n')
    refused = proxy.http.post("/api/v1/reload")
    assert refused.status_code == 422
    assert "notifications[2].name" in refused.text
    policy_page = browser.get("/policy").text
    assert "tries = 3" in policy_page
    seen = {
        "log": proxy.log.read_text(),
        "health": browser.get("/health").text,
        "test": tested.text,
        "policy": policy_page,
        "refused": refused.text,
        "api": proxy.http.get("/api/v1/notifications").text,
        "metrics": proxy.http.get("/metrics").text,
        "audit": (proxy.folder / "data" / "audit.jsonl").read_text(),
        "store": "".join(p.read_bytes().decode("latin-1") for p in (proxy.folder / "data").glob("pghold.sqlite*")),
    }
    assert "mailto://127.0.0.1" in seen["health"]
    assert {where: s for where, text in seen.items() for s in SECRETS if s in text} == {}
    proxy.deny(hold_id)
    client.join(10)


def test_a_reload_is_all_or_nothing(start: Start, http: HttpSink, table: str, tmp_path: Path) -> None:
    proxy = start(hook(http, name="before"))
    file = tmp_path / "pghold.toml"
    write(file, hook(http, name="after"), 'name = "broken"')
    refused = proxy.http.post("/api/v1/reload")
    assert (refused.status_code, "notifications[1]" in refused.text) == (422, True)
    assert [r["name"] for r in proxy.http.get("/api/v1/notifications").json()["routes"]] == ["before"]
    write(file, hook(http, name="after"))
    assert proxy.http.post("/api/v1/reload").status_code == 200
    assert [r["name"] for r in proxy.http.get("/api/v1/notifications").json()["routes"]] == ["after"]
    client, hold_id = held(proxy, f"DROP TABLE {table}")
    wait_for(lambda: http.events("hold.opened"), 10)
    proxy.deny(hold_id)
    client.join(10)


def test_a_mistake_stops_the_start_with_file_and_key(postgres18: PostgresServer, tmp_path: Path) -> None:
    file = tmp_path / "pghold.toml"
    write(file, 'name = "x"\nwebhook = "https://h/"\nsecret = "${NOT_THERE}"')
    with pytest.raises(RuntimeError) as caught:
        Pghold(f"postgresql://127.0.0.1:{postgres18.port}/postgres", "--policy", str(file), folder=tmp_path)
    assert "exit code 2" in str(caught.value)
    assert "notifications[0].secret" in str(caught.value)
    assert "NOT_THERE" in str(caught.value)


# --- changes, health, people ------------------------------------------------------------------------------------------


def test_changes_that_passed_are_told_once_they_have_succeeded(start: Start, http: HttpSink, postgres18: PostgresServer) -> None:
    postgres18.sql("DROP TABLE IF EXISTS told, told2, told3")
    proxy = start(hook(http, 'events = "change.*"'))
    with proxy.connect(application_name="migrate") as connection:
        connection.execute("CREATE TABLE told (id int)")
        connection.execute("SELECT 1")
        connection.execute("CREATE TEMP TABLE mine (id int)")
        with pytest.raises(Exception, match="already exists"):
            connection.execute("CREATE TABLE told (id int)")
        connection.execute("CREATE TABLE told2 (id int)", prepare=True)
        connection.execute("CREATE TABLE told3 (id int); COMMENT ON TABLE told3 IS 'x'")
        wait_for(lambda: len(http.events("change.passed")) == 3, 10)
    assert proxy.stop() == 0
    told = http.events()
    assert [b["relations"][0] for b in told] == ["told", "told2", "told3"]
    assert told[0]["application_name"] == "migrate"
    assert told[2]["kinds"] == ["CREATE TABLE", "COMMENT"]
    assert len(told) == 3


def test_nobody_is_told_of_changes_unless_a_route_asks(start: Start, http: HttpSink, table: str) -> None:
    proxy = start(hook(http))
    with proxy.connect() as connection:
        connection.execute(f"ALTER TABLE {table} ADD COLUMN note text")
    client, hold_id = held(proxy, f"DROP TABLE {table}")
    wait_for(lambda: http.events(), 10)
    proxy.deny(hold_id)
    client.join(10)
    assert http.events()[0]["event"] == "hold.opened"


def test_a_server_that_is_gone_is_told_and_its_return(http: HttpSink, folder: Path, tmp_path: Path) -> None:
    from tests.servers import embedded_bindir

    server = PostgresServer(folder / "pg-gone", embedded_bindir())
    file = tmp_path / "pghold.toml"
    write(file, hook(http))
    proxy = Pghold(
        f"postgresql://127.0.0.1:{server.port}/postgres", "--policy", str(file), folder=tmp_path, environment={"HOOK_SECRET": SECRET}
    )
    try:
        server.stop()
        wait_for(lambda: http.events("health.problem"), 60)
        server.start()
        wait_for(lambda: http.events("health.solved"), 60)
        problem, solved = http.events()
        assert "could not connect to the server" in problem["subject"]
        assert solved["supersedes"] == problem["delivery"]
        assert problem["link"] == f"{proxy.console}/health"
    finally:
        proxy.stop()
        server.stop()


def test_a_broken_audit_chain_is_told(start: Start, http: HttpSink, table: str) -> None:
    proxy = start(hook(http), environment={"PGHOLD_AUDIT_CHECK_S": "1"})
    log = proxy.folder / "data" / "audit.jsonl"
    client, hold_id = held(proxy, f"DROP TABLE {table}")
    proxy.deny(hold_id, "no")
    client.join(10)
    wait_for(lambda: http.events("hold.denied"), 10)
    lines = log.read_text().splitlines(keepends=True)
    changed = [line.replace(f"DROP TABLE {table}", f"SELECT * FROM {table}") for line in lines]
    assert changed != lines
    with log.open("r+") as file:  # in place: the proxy has it open
        file.write("".join(changed))
        file.truncate()
    wait_for(lambda: http.events("health.problem"), 30)
    assert "chain is broken" in http.events("health.problem")[0]["subject"]
    assert "chain is broken" in Browser(proxy).get("/health").text


def test_an_operator_who_is_locked_out_is_told(start: Start, http: HttpSink) -> None:
    proxy = start(hook(http))
    browser = Browser(proxy)
    browser.post("/people/add", name="ana", role="approver")
    stranger = Browser(proxy, token=None)
    for _ in range(12):
        stranger.sign_in("ana", "wrong password")
        if http.events("operator.locked-out"):
            break
    wait_for(lambda: http.events("operator.locked-out"), 10)
    assert "ana" in http.events()[0]["subject"]


# --- the command line -------------------------------------------------------------------------------------------------


def pghold(proxy: Pghold, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PGHOLD_CONSOLE": proxy.console, "PGHOLD_TOKEN": proxy.token}
    return subprocess.run([sys.executable, "-m", "proxy", *arguments], capture_output=True, text=True, env=environment, check=False)


def test_notify_test_says_which_route_works(start: Start, http: HttpSink, smtp: SmtpSink) -> None:
    proxy = start(hook(http), f'name = "mail"\nurls = "{smtp.url}"')
    good = pghold(proxy, "notify", "test")
    assert good.returncode == 0, good.stderr
    assert good.stdout.count("arrived") == 2
    assert http.events("test")
    assert smtp.mails
    smtp.refuse = True
    bad = pghold(proxy, "notify", "test", "--json")
    assert bad.returncode == 1
    results = {r["route"]: r for r in map(json.loads, bad.stdout.splitlines())}
    assert (results["hook"]["arrived"], results["mail"]["arrived"]) == (True, False)
    assert results["mail"]["problem"]
    assert pghold(proxy, "notify", "test", "--route", "hook").returncode == 0
    unknown = pghold(proxy, "notify", "test", "--route", "nobody")
    assert unknown.returncode == 1
    assert "there is no route nobody" in unknown.stderr
    assert "hook" in pghold(proxy, "notify", "routes").stdout
    assert "--route" in pghold(proxy, "notify", "test", "--help").stdout


def test_notify_test_without_routes_says_what_to_do(start: Start) -> None:
    proxy = start()
    answer = pghold(proxy, "notify", "test")
    assert answer.returncode == 1
    assert "[[notifications]]" in answer.stderr
