"""Retries and session grants as they are decided, seen and taken back on the command line and in psql."""

from __future__ import annotations

import json
from collections.abc import Iterator

import psycopg
import pytest

from tests.browsing import PHRASE
from tests.integration.test_admin_console import held, login, psql
from tests.integration.test_operator_commands import Cli
from tests.servers import Pghold, PostgresServer

REFUSING = {"options": "-c pghold.on_hold=reject"}


@pytest.fixture
def cli(pghold: Pghold) -> Iterator[Cli]:
    yield Cli(pghold)
    for grant in pghold.http.get("/api/v1/grants").json():
        pghold.http.delete(f"/api/v1/grants/{grant['id']}")


def refused(proxy: Pghold, script: str) -> int:
    with proxy.connect(**REFUSING) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(script)  # type: ignore[call-overload]
    return int(proxy.holds()[0]["id"])


def test_a_retry_is_approved_seen_and_used_from_the_command_line(pghold: Pghold, cli: Cli, postgres18: PostgresServer, table: str) -> None:
    script = f"DELETE FROM {table}"
    hold_id = str(refused(pghold, script))
    shown = cli.out("show", hold_id)
    assert "does not wait" in shown
    assert f"{table}: table of postgres" in shown
    told = cli.out("approve", hold_id, "--phrase", PHRASE, "--reason", "the nightly job")
    assert "one retry" in told
    assert cli("approve", hold_id, "--phrase", PHRASE, "--reason", "again").returncode == 3
    [grant] = [json.loads(line) for line in cli.out("grants", "--json").splitlines()]
    assert (grant["hold_id"], grant["kind"], grant["reason"]) == (int(hold_id), "retry", "the nightly job")
    assert "the nightly job" in cli.out("grants")
    with pghold.connect(**REFUSING) as connection:
        connection.execute(script)  # type: ignore[call-overload]
    assert postgres18.sql(f"SELECT count(*) FROM {table}")[0][0] == 0
    assert cli.out("grants") == "There are no grants."


def test_a_grant_is_taken_back_from_the_command_line(pghold: Pghold, cli: Cli, postgres18: PostgresServer, table: str) -> None:
    script = f"DELETE FROM {table}"
    hold_id = refused(pghold, script)
    cli.out("approve", str(hold_id), "--phrase", PHRASE, "--reason", "x")
    [grant] = pghold.http.get("/api/v1/grants").json()
    assert cli.out("revoke", str(grant["id"])) == f"Grant {grant['id']} is revoked."
    assert cli("revoke", str(grant["id"])).returncode == 1
    again = refused(pghold, script)
    assert again != hold_id
    assert postgres18.sql(f"SELECT count(*) FROM {table}")[0][0] == 10
    pghold.deny(again)


def test_a_session_grant_from_the_command_line_and_what_cannot_be_together(pghold: Pghold, cli: Cli, table: str) -> None:
    client, hold_id = held(pghold, f"DELETE FROM {table}; DELETE FROM {table}")
    other, other_id = held(pghold, f"TRUNCATE {table}")
    both = ("approve", str(hold_id), str(other_id), "--phrase", PHRASE, "--reason", "x", "--session-minutes", "5")
    assert cli(*both).returncode == 2
    assert pghold.hold(hold_id)["state"] == "pending"
    assert cli("approve", str(hold_id), "--phrase", PHRASE, "--reason", "x", "--session-minutes", "100000").returncode == 4
    cli.out("approve", str(hold_id), "--phrase", PHRASE, "--reason", "x", "--session-minutes", "5")
    assert pghold.hold(hold_id)["decision"]["session_grant_s"] == 300
    cli.out("deny", str(other_id), "--reason", "no")
    for one in (client, other):
        one.join(10)


def test_the_same_in_psql(pghold: Pghold, cli: Cli, postgres18: PostgresServer, table: str) -> None:
    script = f"DELETE FROM {table}"
    hold_id = refused(pghold, script)
    with login(pghold) as console:
        fields = dict(console.execute(f"SHOW HOLD {hold_id}").fetchall())  # type: ignore[call-overload]
        assert fields["client waits"] == "no"
        assert fields["object"].startswith(f"{table}: table of postgres")
    approved = psql(pghold, f"APPROVE {hold_id} '{PHRASE}' 'the nightly job';")
    assert "sent again" in approved.stderr
    [line] = psql(pghold, "SHOW GRANTS;").stdout.strip().splitlines()
    grant_id, kind, hold, *_ = line.split("|")
    assert (kind, hold) == ("retry", str(hold_id))
    assert psql(pghold, f"REVOKE {grant_id};").stdout.strip() == "REVOKE"
    assert "no open grant" in psql(pghold, f"REVOKE {grant_id};").stderr
    client, waiting = held(pghold, script)
    assert "not a number of minutes" in psql(pghold, f"APPROVE {waiting} '{PHRASE}' 'x' SESSION soon;").stderr
    assert psql(pghold, f"APPROVE {waiting} '{PHRASE}' 'x' SESSION 5;").returncode == 0
    client.join(10)
    assert client.error is None
    assert postgres18.sql(f"SELECT count(*) FROM {table}")[0][0] == 0
    assert [r["event"] for r in pghold.audit() if r["hold_id"] == waiting] == ["held", "granted", "approved", "outcome"]


def test_an_expired_hold_is_shown_and_asked_about_like_any_other(pghold: Pghold, cli: Cli, table: str) -> None:
    """Without --phrase and --reason there must be a terminal; the review says that it can still be approved."""
    hold_id = refused(pghold, f"DELETE FROM {table}")
    review = pghold.http.get(f"/api/v1/holds/{hold_id}/review").json()
    assert (review["retry"], review["why_not"], review["session_grant_max_s"]) == (True, "", 3600)
    pghold.deny(hold_id)
    assert pghold.http.get(f"/api/v1/holds/{hold_id}/review").json()["retry"] is False
