"""Sinks of the audit log against real receivers: what they get, what happens when they fail, and that nobody waits for them."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from proxy.audit import JsonlAuditLog, record_hash
from proxy.audit.feed import Feed
from proxy.audit.files import rotated_files
from proxy.audit.follow import LogFollower
from proxy.audit.rotation import Rotation
from proxy.audit.sinks import Sink, SinkError, make_sink
from proxy.audit.targets import PLACES, SINKS, read_target
from proxy.audit.upkeep import compress_all
from proxy.clock import SystemClock
from proxy.config import Settings
from proxy.model import AuditEntry, AuditEvent, HoldId, Requester, SessionId
from tests.receivers import Datagrams, Http, Stream, parse_syslog
from tests.servers import Pghold, PostgresServer, wait_for

REQUESTER = Requester(SessionId(7), "añá \0 \"'\\]", "shop", "app", "127.0.0.1:5")


def entry(i: int, script: str = "") -> AuditEntry:
    text = script or f'DROP TABLE t_{i} -- ü " ] \\ \0 \ud800'
    return AuditEntry(
        AuditEvent.HELD, REQUESTER, "test", HoldId(i), text, "00", ("drop-table",), (f"t_{i}",), detail={"rows": 5, "share": 0.5, "x": None}
    )


@pytest.fixture
async def log(tmp_path: Path) -> AsyncIterator[JsonlAuditLog]:
    opened = JsonlAuditLog(tmp_path / "audit.jsonl", SystemClock(), rotation=Rotation(max_bytes=10_000))
    yield opened
    await opened.close()


def feed(log: JsonlAuditLog, url: str, sink: Sink | None = None) -> Feed:
    target = read_target(url)
    source = LogFollower(log.path, lambda: log.position[0])
    made = Feed(target.name, target.key, sink or make_sink(target), source, log.path.parent / "sinks", lambda: log.log_id, (0.01, 0.05))
    log.listeners.append(made.wake)
    made.start()
    return made


async def write(log: JsonlAuditLog, count: int) -> None:
    for i in range(count):
        await log.append(entry(i))


async def caught_up(*feeds: Feed) -> None:
    async with asyncio.timeout(20):
        while any(f.state.lag for f in feeds):
            await asyncio.sleep(0.005)


def numbers(records: list[dict[str, Any]]) -> list[int]:
    return [r["seq"] for r in records]


# --- syslog -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["udp", "unix", "tcp"])
async def test_syslog_gets_all_in_order(log: JsonlAuditLog, tmp_path: Path, kind: str) -> None:
    server: Datagrams | Stream = Stream() if kind == "tcp" else Datagrams(tmp_path / "log" if kind == "unix" else None)
    with closing(server):
        to = feed(log, server.url)
        await write(log, 60)
        await caught_up(to)
        wait_for(lambda: len(server.messages) >= log.position[0], 10)
        to.stop(5)
    records = [parse_syslog(m) for m in server.messages]
    assert numbers(records) == list(range(1, log.position[0] + 1))
    held = next(r for r in records if r["event"] == "held")
    assert held["priority"] == (16 + 3 if kind == "tcp" else 13) * 8 + 4
    priority = held.pop("priority")
    assert priority
    assert record_hash(held) == held["hash"], "the record is whole"


async def test_syslog_over_tcp_goes_on_after_a_lost_connection(log: JsonlAuditLog) -> None:
    with closing(Stream()) as server:
        to = feed(log, server.url)
        for _ in range(5):
            await write(log, 10)
            await caught_up(to)
            server.drop()
        await write(log, 10)
        await caught_up(to)
        wait_for(lambda: set(numbers([parse_syslog(m) for m in server.messages])) >= set(range(1, log.position[0] + 1)), 10)
        to.stop(5)


async def test_datagram_that_is_too_long_is_shortened(log: JsonlAuditLog) -> None:
    with closing(Datagrams()) as server:
        to = feed(log, server.url)
        await log.append(entry(1, "SELECT " + "x" * 200_000))
        await caught_up(to)
        wait_for(lambda: bool(server.messages), 10)
        to.stop(5)
    record = parse_syslog(server.messages[0])
    assert record["shortened"] is True
    assert record["script"].startswith("SELECT xxx")


# --- HTTP ---------------------------------------------------------------------------------------------------------------


async def test_webhook_is_signed_and_gets_the_bytes_of_the_file(log: JsonlAuditLog) -> None:
    with closing(Http()) as server:
        to = feed(log, f"http://127.0.0.1:{server.port}/hook/T0K3N?a=b#hmac=s3cr3t&authorization=Bearer%20abc")
        await write(log, 40)
        await caught_up(to)
        to.stop(5)
    assert numbers(server.records()) == list(range(1, log.position[0] + 1))
    for path, headers, body in server.requests:
        assert path == "/hook/T0K3N?a=b"
        assert headers["authorization"] == "Bearer abc"
        signed = headers["x-pghold-timestamp"].encode() + b"." + body
        assert headers["x-pghold-signature"] == "sha256=" + hmac.new(b"s3cr3t", signed, hashlib.sha256).hexdigest()
        assert abs(int(headers["x-pghold-timestamp"]) - time.time()) < 600
        assert all(record_hash(r) == r["hash"] for r in json.loads(body)["records"])
        assert json.loads(body)["log"] == log.log_id == headers["x-pghold-log"]


async def test_failing_sink_catches_up_over_rotation_and_compression_without_loss_or_disorder(log: JsonlAuditLog) -> None:
    failing = True
    with closing(Http(lambda _: (503, b"not now") if failing else (200, b""))) as server:
        to = feed(log, f"http://127.0.0.1:{server.port}/")
        await write(log, 50)
        async with asyncio.timeout(10):
            while to.state.failures < 3:
                await asyncio.sleep(0.005)
        assert "HTTP 503 not now" in to.state.error
        assert to.state.lag == log.position[0]
        assert len(rotated_files(log.path)) >= 2
        compress_all(log.path)
        failing = False
        await caught_up(to)
        assert to.state.error == ""
        to.stop(5)
    assert numbers(server.records()) == list(range(1, log.position[0] + 1))


async def test_position_survives_a_restart_and_a_changed_secret(log: JsonlAuditLog) -> None:
    with closing(Http()) as server:
        first = feed(log, f"http://user:one@127.0.0.1:{server.port}/#hmac=a")
        await write(log, 20)
        await caught_up(first)
        first.stop(5)
        await write(log, 20)
        compress_all(log.path)
        second = feed(log, f"http://user:two@127.0.0.1:{server.port}/#hmac=b")
        await caught_up(second)
        second.stop(5)
    assert numbers(server.records()) == list(range(1, log.position[0] + 1))


async def test_another_log_in_the_old_one_s_place_is_delivered_from_its_start(tmp_path: Path) -> None:
    with closing(Http()) as server:
        for count in (20, 5):
            log = JsonlAuditLog(tmp_path / "audit.jsonl", SystemClock())
            to = feed(log, f"http://127.0.0.1:{server.port}/")
            await write(log, count)
            async with asyncio.timeout(20):
                while to.position.sequence != count:
                    await asyncio.sleep(0.005)
            to.stop(5)
            await log.close()
            (tmp_path / "audit.jsonl").unlink()
    assert numbers(server.records()) == [*range(1, 21), *range(1, 6)]


async def test_batch_that_is_too_large_goes_in_parts(log: JsonlAuditLog) -> None:
    await write(log, 60)
    with closing(Http(lambda body: (413, b"too large") if len(body) > 8000 else (200, b""))) as server:
        to = feed(log, f"http://127.0.0.1:{server.port}/")
        await caught_up(to)
        to.stop(5)
    assert numbers(server.records()) == list(range(1, log.position[0] + 1))


async def test_redirect_is_not_followed(log: JsonlAuditLog) -> None:
    with closing(Http(lambda _: (302, b""))) as server:
        to = feed(log, f"http://127.0.0.1:{server.port}/")
        await write(log, 1)
        async with asyncio.timeout(10):
            while not to.state.failures:
                await asyncio.sleep(0.005)
        to.stop(5)
    assert "HTTP 302" in to.state.error


async def test_otlp_logs(log: JsonlAuditLog) -> None:
    with closing(Http(lambda _: (200, b'{"partialSuccess": {}}'))) as server:
        to = feed(log, f"otlp+http://127.0.0.1:{server.port}")
        await write(log, 30)
        await caught_up(to)
        to.stop(5)
    got: list[int] = []
    for path, headers, body in server.requests:
        assert path == "/v1/logs"
        assert headers["content-type"] == "application/json"
        (resource,) = json.loads(body)["resourceLogs"]
        assert {"key": "service.name", "value": {"stringValue": "pghold"}} in resource["resource"]["attributes"]
        for record in resource["scopeLogs"][0]["logRecords"]:
            values = {a["key"]: a["value"] for a in record["attributes"]}
            got.append(int(values["pghold.audit.seq"]["intValue"]))
            assert record["timeUnixNano"].isdigit()
            if record["body"]["stringValue"] == "held":
                assert (record["severityNumber"], record["eventName"]) == (13, "pghold.held")
                assert values["db.query.text"]["stringValue"].startswith("DROP TABLE")
                assert values["pghold.rules"] == {"arrayValue": {"values": [{"stringValue": "drop-table"}]}}
                assert values["pghold.detail.share"] == {"doubleValue": 0.5}
    assert got == list(range(1, log.position[0] + 1))


def test_otlp_records_are_read_by_the_protocol_s_own_messages() -> None:
    from google.protobuf.json_format import Parse
    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

    from proxy.audit.sinks.otlp import _request

    line = json.dumps({"seq": 1, "at": "2026-01-01T00:00:00.123Z", "event": "held", "detail": {"a": True}, "relations": ["t"]}).encode()
    message = Parse(json.dumps(_request("x", [line])), ExportLogsServiceRequest())
    record = message.resource_logs[0].scope_logs[0].log_records[0]
    assert record.time_unix_nano == 1767225600123000000
    assert record.severity_number == 13


async def test_otlp_rejection_is_no_delivery(log: JsonlAuditLog) -> None:
    answer = b'{"partialSuccess": {"rejectedLogRecords": "1", "errorMessage": "too old"}}'
    with closing(Http(lambda _: (200, answer))) as server:
        to = feed(log, f"otlp+http://127.0.0.1:{server.port}")
        await write(log, 1)
        async with asyncio.timeout(10):
            while not to.state.failures:
                await asyncio.sleep(0.005)
        assert "rejected: too old" in to.state.error
        assert to.state.lag == 1
        to.stop(5)


# --- PostgreSQL ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def database(postgres18: PostgresServer) -> Iterator[str]:
    postgres18.sql("DROP DATABASE IF EXISTS auditing WITH (FORCE)")
    postgres18.sql("CREATE DATABASE auditing ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
    yield f"postgresql://postgres:s3cr3t@127.0.0.1:{postgres18.port}/auditing"
    postgres18.sql("DROP DATABASE IF EXISTS auditing WITH (FORCE)")


async def test_postgresql_gets_each_record_once(log: JsonlAuditLog, database: str, postgres18: PostgresServer) -> None:
    to = feed(log, f"{database}?table=public.trail")
    await write(log, 30)
    await log.append(entry(99, "SELECT '漢字 €'"))  # not in the database's encoding
    await caught_up(to)
    to.stop(5)
    for file in (log.path.parent / "sinks").iterdir():
        file.unlink()  # its position is lost: all of it comes again
    again = feed(log, f"{database}?table=public.trail")
    await caught_up(again)
    again.stop(5)
    assert again.state.failures == 0
    rows = postgres18.sql("SELECT log, seq, event, hash, record::text, role, hold_id FROM trail ORDER BY seq", "auditing")
    assert [r[1] for r in rows] == list(range(1, log.position[0] + 1))
    for row in rows:
        record = json.loads(row[4])
        assert row[0] == log.log_id
        assert record_hash(record) == record["hash"] == row[3]


async def test_record_that_differs_from_what_was_delivered_is_an_error(
    log: JsonlAuditLog, database: str, postgres18: PostgresServer
) -> None:
    to = feed(log, database)
    await write(log, 3)
    await caught_up(to)
    to.stop(5)
    postgres18.sql("UPDATE pghold_audit SET hash = 'x' WHERE seq = 2", "auditing")
    for file in (log.path.parent / "sinks").iterdir():
        file.unlink()
    again = feed(log, database)
    async with asyncio.timeout(10):
        while not again.state.failures:
            await asyncio.sleep(0.005)
    again.stop(5)
    assert "another record 2 of this log" in again.state.error


async def test_server_that_restarts(log: JsonlAuditLog, folder: Path) -> None:
    from tests.servers import embedded_bindir

    server = PostgresServer(folder / "pg-audit", embedded_bindir())
    try:
        to = feed(log, f"postgresql://postgres@127.0.0.1:{server.port}/postgres")
        await write(log, 5)
        await caught_up(to)
        server.stop()
        await write(log, 5)
        async with asyncio.timeout(20):
            while not to.state.failures:
                await asyncio.sleep(0.01)
        server.start()
        await caught_up(to)
        to.stop(5)
        assert server.sql("SELECT count(*) FROM pghold_audit") == [(log.position[0],)]
    finally:
        server.stop()


# --- whatever a sink does -----------------------------------------------------------------------------------------------


class Odd:
    """Raises what no sink should."""

    def __init__(self) -> None:
        self.calls = 0
        self.got: list[bytes] = []

    def deliver(self, log_id: str, lines: Any) -> None:
        self.calls += 1
        if self.calls == 1:
            raise KeyError("postgresql://user:s3cr3t@host")
        if self.calls == 2:
            raise SinkError("later")
        self.got += lines

    def close(self) -> None:
        return


async def test_error_of_any_kind_is_tried_again_and_tells_no_secret(log: JsonlAuditLog) -> None:
    odd = Odd()
    to = feed(log, "stdout", odd)
    await write(log, 3)
    await caught_up(to)
    to.stop(5)
    assert len(odd.got) == 3
    assert to.state.failures == 2


async def test_sink_that_hangs_keeps_nobody_waiting(log: JsonlAuditLog) -> None:
    import threading

    release = threading.Event()

    class Hanging(Odd):
        def deliver(self, log_id: str, lines: Any) -> None:
            release.wait(30)
            self.got += lines

    hanging = Hanging()
    to = feed(log, "stdout", hanging)
    await write(log, 100)
    assert to.state.lag == log.position[0] or hanging.got == []
    release.set()
    await caught_up(to)
    to.stop(5)
    assert len(hanging.got) == log.position[0]


# --- what the settings may say ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "https://user:s3cr3t@example.com/s3cr3t?s3cr3t#hmac=s3cr3t&authorization=s3cr3t",
        "postgresql://u:s3cr3t@example.com:5433/db?table=t",
        "postgresql:///db?host=/run/s&password=s3cr3t",
        "otlp+https://example.com:4318/v1/logs#authorization=Basic%20s3cr3t",
    ],
)
def test_secrets_are_shown_nowhere(url: str) -> None:
    target = read_target(url)
    assert "s3cr3t" not in repr(target) + target.name
    assert "s3cr3t" not in target.scrubbed(f"cannot reach {url}: {target.url}")
    assert "s3cr3t" not in repr(Settings(audit_sinks=[url]))


@pytest.mark.parametrize(
    "url",
    [
        "", "gopher://x", "https://", "syslog+udp://", "syslog+unix:dev/log", "syslog+udp://h?facility=nope", "postgresql://h/d?table=a;b",
        "https://h#s3cr3t=1", "http://h:99999/s3cr3t", "https://h#hmac-file=/does/not/exist", "file:/x", "syslog+tcp://h?s3cr3t=x",
    ],
)  # fmt: skip
def test_url_that_cannot_be_read_is_refused_without_its_secrets(url: str) -> None:
    with pytest.raises(ValueError, match=r".") as error:
        read_target(url)
    assert "s3cr3t" not in str(error.value)


def test_kinds() -> None:
    assert read_target("file:/x/y", PLACES).path == "/x/y"
    with pytest.raises(ValueError, match="expected one of"):
        read_target("stdout", PLACES)
    assert "stdout" in SINKS
    assert read_target("syslog+udp://[::1]").name == "syslog+udp://[::1]:514"
    secret = Path("/dev/shm/pghold-test-hmac")
    secret.write_text("from a file\n")
    try:
        assert read_target(f"https://h/#hmac-file={secret}").hmac == "from a file"
    finally:
        secret.unlink()


# --- the whole ----------------------------------------------------------------------------------------------------------


def test_proxy_with_sinks(postgres18: PostgresServer, database: str, tmp_path: Path, table: str) -> None:
    """All at once on a running proxy; one of them is away, which is told and harms nothing."""
    server, stream = Http(), Stream()
    sinks = [f"http://127.0.0.1:{server.port}/S3CR3T#hmac=S3CR3T", stream.url, database, "stdout", "http://127.0.0.1:9/S3CR3T"]
    environment = {
        "PGHOLD_AUDIT_SINKS": json.dumps(sinks),
        "PGHOLD_AUDIT_CHECKPOINTS": json.dumps([database]),
        "PGHOLD_AUDIT_MASK": "literals",
    }
    proxy = Pghold(f"postgresql://127.0.0.1:{postgres18.port}/postgres", folder=tmp_path, environment=environment)
    with proxy.connect() as link:
        cursor = link.cursor()
        import threading

        thread = threading.Thread(target=lambda: cursor.execute(f"DELETE FROM {table} WHERE 'QXZ' = 'QXZ'"))
        thread.start()
        hold = proxy.wait_for_hold()
        assert "QXZ" in hold["script"], "the operator sees what it is"
        assert proxy.approve(hold["id"]).status_code == 200
        thread.join(20)
    expected = {"audit key", "started", "held", "approved", "outcome"}
    wait_for(lambda: expected <= {r["event"] for r in server.records()}, 10)
    wait_for(lambda: expected <= {parse_syslog(m)["event"] for m in stream.messages}, 10)
    wait_for(lambda: expected <= {e for (e,) in postgres18.sql("SELECT event FROM pghold_audit", "auditing")}, 10)
    wait_for(lambda: proxy.metric("pghold_audit_sink_failures_total") > 0, 10)
    ready = proxy.http.get("/readyz")
    assert ready.status_code == 200, "a sink that is away is no reason to be taken out"
    assert any("http://127.0.0.1:9 " in w for w in ready.json()["warnings"]), ready.json()
    metrics = proxy.http.get("/metrics").text
    assert 'pghold_audit_sink_lag{sink="postgresql://' in metrics
    assert proxy.stop() == 0
    assert "stopped" in {r["event"] for r in server.records()}, "what was last is delivered"
    everything = (
        metrics + ready.text + proxy.log.read_text() + "".join(map(str, postgres18.sql("SELECT record FROM pghold_audit", "auditing")))
    )
    assert "S3CR3T" not in everything
    assert "s3cr3t" not in everything
    assert "QXZ" not in everything + json.dumps(server.records()) + (tmp_path / "data" / "audit.jsonl").read_text()
    assert '"event": "held"' in proxy.log.read_text(), "standard output has them, too"
    signed = postgres18.sql("SELECT seq, line FROM pghold_audit_checkpoints ORDER BY seq", "auditing")
    assert signed
    last = json.loads((tmp_path / "data" / "audit.jsonl").read_text().splitlines()[-1])
    assert (last["event"], last["seq"]) == ("stopped", signed[-1][0])
    server.close()
    stream.close()
    from proxy.audit.compare import verify_everything

    assert verify_everything(tmp_path / "data" / "audit.jsonl", database, None).report.checkpoints == len(signed)
    with psycopg.connect(database, autocommit=True) as link:
        link.execute("DELETE FROM pghold_audit_checkpoints")
    assert os.path.exists(tmp_path / "data" / "audit.checkpoints.jsonl")
