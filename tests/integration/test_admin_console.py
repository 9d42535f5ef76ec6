"""The psql console with real psql and psycopg: the same decisions with the same rights as everywhere."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pyotp
import pytest
from psycopg import sql

from proxy.admin.syntax import SyntaxProblemError, Token, commands
from tests.browsing import PHRASE, Client
from tests.servers import Pghold, PostgresServer, embedded_bindir, wait_for


def held(proxy: Pghold, script: str, **options: str) -> tuple[Client, int]:
    before = {h["id"] for h in proxy.holds()}
    client = Client(proxy, script, **options)
    wait_for(lambda: {h["id"] for h in proxy.holds()} - before, 10)
    return client, max({h["id"] for h in proxy.holds()} - before)


def login(proxy: Pghold, user: str = "operator", password: str = "") -> psycopg.Connection:
    return psycopg.connect(host="127.0.0.1", port=proxy.port, user=user, password=password or proxy.token, dbname="pghold", autocommit=True)


@pytest.fixture
def console(pghold: Pghold) -> Iterator[psycopg.Connection]:
    connection = login(pghold)
    yield connection
    connection.close()


def psql(proxy: Pghold, script: str, *options: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PGPASSWORD": proxy.token, "PGHOST": "127.0.0.1", "PGPORT": str(proxy.port), "PGUSER": "operator"}
    command = [str(embedded_bindir() / "psql"), "-X", "-d", "pghold", "-At", *options]
    return subprocess.run(command, input=script, capture_output=True, text=True, env=environment, timeout=60, check=False)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("APPROVE 7 'a' 'it''s'", [["APPROVE", "7", "a", "it's"]]),
        ("deny 7 E'it\\'s\\n' ;; show holds;", [["deny", "7", "it's\n"], ["show", "holds"]]),
        ("-- don't\nSHOW /* nested /* ' */ ; */ HOLDS", [["SHOW", "HOLDS"]]),
        ("DENY 7 'no' SUGGEST $$DELETE FROM t WHERE x = ';'$$", [["DENY", "7", "no", "SUGGEST", "DELETE FROM t WHERE x = ';'"]]),
        ("DENY 7 $a$x $$ y$a$", [["DENY", "7", "x $$ y"]]),
        ("  ; -- nothing", []),
    ],
)
def test_commands_are_read_as_postgresql_reads_strings(text: str, expected: list[list[str]]) -> None:
    assert [[token.text for token in command] for command in commands(text)] == expected


@pytest.mark.parametrize("text", ["DENY 7 'no", "SHOW /* HOLDS", 'SHOW "HOLDS', "DENY 7 $$no", "DENY 7 $a$no$b$"])
def test_what_does_not_end_is_an_error(text: str) -> None:
    with pytest.raises(SyntaxProblemError):
        list(commands(text))


def test_a_string_is_never_a_keyword() -> None:
    assert [t.keyword for t in next(iter(commands("'approve' \"deny\" $1 approve")))] == ["", "", "", "APPROVE"]
    assert Token("approve").keyword == "APPROVE"


def test_psql_approves_with_the_name_of_what_is_lost(pghold: Pghold, postgres18: PostgresServer, table: str) -> None:
    client, hold_id = held(pghold, f"DROP TABLE {table}")
    shown = psql(pghold, f"SHOW HOLD {hold_id};")
    assert f"cannot be taken back|{table}" in shown.stdout
    wrong = psql(pghold, f"APPROVE {hold_id} '{PHRASE}' 'x' OBJECT 'another';")
    assert f"ERROR:  to approve, type the name of what is lost: {table}" in wrong.stderr
    assert pghold.hold(hold_id)["state"] == "pending"
    done = psql(pghold, f"approve '{hold_id}' '{PHRASE}' 'by psql' object '{table}';")
    assert done.stdout.splitlines()[0] == f"{hold_id}|approved|operator", done.stderr
    client.join(10)
    assert client.error is None
    assert postgres18.sql(f"SELECT to_regclass('{table}')") == [(None,)]
    late = psql(pghold, f"DENY {hold_id} 'late';")
    assert "is no longer pending" in late.stderr
    assert "by operator: by psql" in late.stderr


def test_psql_denies_with_a_statement_to_send_instead(pghold: Pghold, table: str) -> None:
    client, hold_id = held(pghold, f"DELETE FROM {table}")
    done = psql(pghold, f"DENY {hold_id} 'it''s too much' SUGGEST $$DELETE FROM {table} WHERE note = 'x;y'$$;")
    assert done.stdout.splitlines()[0] == f"{hold_id}|denied|operator", done.stderr
    client.join(10)
    assert client.error is not None
    assert "it's too much" in str(client.error)
    assert f"DELETE FROM {table} WHERE note = 'x;y'" in str(client.error.diag.message_hint)


def test_psycopg_binds_what_an_operator_typed(pghold: Pghold, console: psycopg.Connection, table: str) -> None:
    client, hold_id = held(pghold, f"DELETE FROM {table}")
    reason = "it's 'fine' \\ ok $1"
    row = console.execute("APPROVE %s %s %s", (str(hold_id), PHRASE, reason)).fetchone()
    assert row == (str(hold_id), "approved", "operator")
    assert pghold.hold(hold_id)["decision"]["reason"] == reason
    client.join(10)
    client, hold_id = held(pghold, f"TRUNCATE {table}")
    query = sql.SQL("DENY {} {} SUGGEST {}").format(sql.Literal(hold_id), sql.Literal("no\\way"), sql.Literal("it's \\x"))
    assert console.execute(query).fetchone() == (str(hold_id), "denied", "operator")
    assert pghold.hold(hold_id)["decision"]["suggestion"] == "it's \\x"
    client.join(10)


@pytest.mark.parametrize("placeholder", ["%s", "%t", "%b"])
def test_numbers_and_strings_are_bound_in_text_and_binary(
    pghold: Pghold, console: psycopg.Connection, table: str, placeholder: str
) -> None:
    client, hold_id = held(pghold, f"DELETE FROM {table}")
    row = console.execute(f"DENY {placeholder} {placeholder}".encode(), (hold_id, "no")).fetchone()
    assert row == (str(hold_id), "denied", "operator")
    client.join(10)
    with pytest.raises(psycopg.errors.FeatureNotSupported, match="binary"):
        console.execute(b"DENY %b 'no'", (1.5,))


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("APPROVE", "APPROVE takes an id"),
        ("APPROVE 1 'p' 'r' NONSENSE 'x'", "syntax error at NONSENSE"),
        ("APPROVE 1 'p' 'r' CODE", "syntax error at CODE"),
        ("APPROVE 1 'p' 'r' BREAK 'x'", "syntax error at BREAK"),
        ("APPROVE 1 'p' 'r' CODE '1' CODE '2'", "CODE is given twice"),
        ("DENY 1", "DENY takes an id"),
        ("DENY 1 'r' SUGGEST", "syntax error at SUGGEST"),
        ("DENY x 'r'", "not an id: x"),
        ("DENY 99999999 'r'", "hold 99999999 does not exist"),
        ("SHOW HOLD 99999999", "hold 99999999 does not exist"),
        ("SHOW HOLD", "an id is missing"),
        ("SHOW NONSENSE", "unrecognized parameter: nonsense"),
        ("DROP TABLE x", "unknown command: DROP"),
        ("SELECT * FROM pg_class", "pghold's own console"),
        ("DENY 1 'r", "unterminated quoted string"),
        ("'APPROVE' 1 'p' 'r'", "unknown command: APPROVE"),
    ],
)
def test_errors_are_clear_and_the_session_goes_on(console: psycopg.Connection, command: str, message: str) -> None:
    with pytest.raises(psycopg.Error, match=message):
        console.execute(command.encode())
    assert console.execute("SELECT 1").fetchone() == ("1",)


def test_help_is_true(pghold: Pghold, console: psycopg.Connection) -> None:
    """Every command that it lists is known, with all that it takes."""
    listed = [str(row[0]) for row in console.execute("SHOW HELP").fetchall()]
    assert {command.split()[0] for command in listed} == {"SHOW", "APPROVE", "DENY", "UNDO", "PURGE", "REVOKE", "KILL", "RELOAD"}
    for command in listed:
        words = command.replace("[", "").replace("]", "").replace(" id", " 99999999").replace("minutes", "5")
        words = words.replace("abort, skip or overwrite", "skip").encode()
        answer = console.pgconn.exec_(words)
        state = (answer.error_field(psycopg.pq.DiagnosticField.SQLSTATE) or b"00000").decode()
        assert state in ("00000", "42704", "55000"), (command, answer.error_message)  # at most that there is no such hold or session


def test_operators_are_shown_to_those_who_may_see_them(pghold: Pghold, console: psycopg.Connection) -> None:
    token = pghold.http.post("/api/v1/operators", json={"name": "c-vera", "role": "viewer", "databases": ["shop*"]}).json()["token"]
    rows = {row[0]: row for row in console.execute("SHOW OPERATORS").fetchall()}
    assert rows["c-vera"][:3] == ("c-vera", "viewer", "shop*")
    assert token not in str(rows)
    with login(pghold, "c-vera", token) as other:
        for command in ("SHOW OPERATORS", "RELOAD", "KILL 1"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                other.execute(command.encode())
        assert other.execute("SHOW HOLDS").fetchall() == []


def test_an_open_session_has_no_more_than_its_operator_has_now(pghold: Pghold, table: str) -> None:
    token = pghold.http.post("/api/v1/operators", json={"name": "c-otto"}).json()["token"]
    client, hold_id = held(pghold, f"DELETE FROM {table}")
    approve = f"APPROVE {hold_id} '{PHRASE}' 'x'".encode()
    other = login(pghold, "c-otto", token)
    pghold.http.patch("/api/v1/operators/c-otto", json={"databases": ["elsewhere"]})
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="you decide for elsewhere"):
        other.execute(approve)
    pghold.http.patch("/api/v1/operators/c-otto", json={"databases": [], "disabled": True})
    with pytest.raises(psycopg.OperationalError, match="taken back"):
        other.execute(approve)
    other.close()
    pghold.http.patch("/api/v1/operators/c-otto", json={"disabled": False})
    other = login(pghold, "c-otto", token)
    pghold.http.delete("/api/v1/operators/c-otto/tokens/first")
    with pytest.raises(psycopg.OperationalError, match="taken back"):
        other.execute(approve)
    other.close()
    assert pghold.hold(hold_id)["state"] == "pending"
    pghold.deny(hold_id)
    client.join(10)


def test_a_viewer_decides_nothing(pghold: Pghold, table: str) -> None:
    token = pghold.http.post("/api/v1/operators", json={"name": "c-vic", "role": "viewer"}).json()["token"]
    client, hold_id = held(pghold, f"DELETE FROM {table}")
    with login(pghold, "c-vic", token) as other:
        assert ("not yours to decide", "the role viewer may not decide") in other.execute(f"SHOW HOLD {hold_id}".encode()).fetchall()
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            other.execute(f"APPROVE {hold_id} '{PHRASE}' 'x'".encode())
    assert pghold.hold(hold_id)["state"] == "pending"
    pghold.deny(hold_id)
    client.join(10)


def test_two_people_a_code_and_breaking_the_glass(postgres18: PostgresServer, tmp_path: Path, table: str) -> None:
    policy = tmp_path / "pghold.toml"
    policy.write_text("[[policy.approvals]]\napprovers = 2\nsecond_factor = true\n")
    proxy = Pghold(f"postgresql://127.0.0.1:{postgres18.port}/postgres", "--policy", str(policy))
    console = login(proxy)
    try:
        secret = proxy.http.post("/api/v1/operators/operator/second-factor").json()["secret"]
        device, now = pyotp.TOTP(secret), int(time.time())
        proxy.http.put("/api/v1/operators/operator/second-factor", json={"secret": secret, "code": device.at(now - 30)})
        client, hold_id = held(proxy, f"DELETE FROM {table}")
        shown = dict(console.execute(f"SHOW HOLD {hold_id}".encode()).fetchall())
        assert shown["approvals"] == "2 are needed; so far: none"
        assert shown["second factor"] == "a code is needed"
        with pytest.raises(psycopg.Error, match="a code of your second factor is needed"):
            console.execute(f"APPROVE {hold_id} '{PHRASE}' 'x'".encode())
        notices: list[str] = []
        console.add_notice_handler(lambda notice: notices.append(str(notice.message_primary)))
        row = console.execute(f"APPROVE {hold_id} '{PHRASE}' 'first' CODE '{device.at(now)}'".encode()).fetchone()
        assert row == (str(hold_id), "pending", "operator")
        assert notices == ["1 of 2 approvals"]
        row = console.execute(f"APPROVE {hold_id} '{PHRASE}' 'urgent' CODE '{device.at(now + 30)}' BREAK GLASS".encode()).fetchone()
        assert row == (str(hold_id), "approved", "operator")
        client.join(10)
        assert client.error is None
        assert "break-glass" in [r["event"] for r in proxy.audit()]
    finally:
        console.close()
        assert proxy.stop() == 0


def test_psqls_own_questions_are_answered_or_refused_in_words(pghold: Pghold) -> None:
    done = psql(pghold, "\\conninfo\n\\d\n\\dt\n\\l\n\\encoding\nSHOW VERSION;\n\\watch c=1 i=0.1\nSET search_path = x;\nBEGIN;\nCOMMIT;\n")
    assert "pghold " in done.stdout
    assert "there are no tables" in done.stderr
    assert "server closed" not in done.stderr


def test_hostile_text_is_harmless_on_a_terminal(pghold: Pghold, console: psycopg.Connection, table: str) -> None:
    client, hold_id = held(pghold, f"DELETE FROM {table} /* \x1b[2J\u202e\u200b */", application_name="\u202eevil")
    for command in ("SHOW HOLDS", f"SHOW HOLD {hold_id}", "SHOW SESSIONS"):
        text = str(console.execute(command.encode()).fetchall())
        for character in ("\x1b", "\u202e", "\u200b"):
            assert character not in text, command
    pghold.deny(hold_id, "\u202eno")
    client.join(10)
    assert "\u202e" not in str(console.execute(f"SHOW HOLD {hold_id}".encode()).fetchall())


def test_frameworks_connect(pghold: Pghold) -> None:
    """What SQLAlchemy's psycopg dialect asks first, and a transaction as psycopg opens one by itself."""
    from sqlalchemy import create_engine, text

    engine = create_engine(f"postgresql+psycopg://operator:{pghold.token}@127.0.0.1:{pghold.port}/pghold")
    with engine.connect() as connection:
        assert connection.execute(text("SHOW VERSION")).scalar_one().startswith("pghold ")
    engine.dispose()
