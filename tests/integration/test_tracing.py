"""Traces, as a collector gets them over HTTP."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.browsing import Client
from tests.servers import Pghold, PostgresServer, free_port, wait_for


class Collector:
    """Keeps every span that is sent to it."""

    def __init__(self) -> None:
        self.requests: list[ExportTraceServiceRequest] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                assert self.path == "/v1/traces"
                assert self.headers["Content-Type"] == "application/x-protobuf"
                request = ExportTraceServiceRequest()
                request.ParseFromString(body)
                collector.requests.append(request)
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def spans(self) -> list[Any]:
        return [s for r in list(self.requests) for rs in r.resource_spans for ss in rs.scope_spans for s in ss.spans]


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.close()


def attributes(thing: Any) -> dict[str, Any]:
    def value(any_value: Any) -> Any:
        kind = any_value.WhichOneof("value")
        return [value(v) for v in any_value.array_value.values] if kind == "array_value" else getattr(any_value, kind)

    return {a.key: value(a.value) for a in thing.attributes}


FAST = {"OTEL_BSP_SCHEDULE_DELAY": "50"}


def test_a_hold_is_a_span_with_its_decision(postgres18: PostgresServer, collector: Collector, table: str) -> None:
    upstream = f"postgresql://127.0.0.1:{postgres18.port}/postgres"
    proxy = Pghold(upstream, environment={"PGHOLD_OTEL_ENDPOINT": collector.url, **FAST})
    try:
        done = Client(proxy, f"DELETE FROM {table} /* a secret */")
        approved = proxy.wait_for_hold()
        proxy.approve(approved["id"], "a secret reason")
        done.join(10)
        refused = Client(proxy, f"TRUNCATE {table}")
        denied = proxy.wait_for_hold()
        proxy.deny(denied["id"], "a secret reason")
        refused.join(10)
        left = Client(proxy, f"DROP TABLE {table}")
        waiting = proxy.wait_for_hold()
        wait_for(lambda: len([s for s in collector.spans() if s.name == "hold"]) == 2, 10)
    finally:
        assert proxy.stop() == 0
    left.join(10)
    spans = {attributes(s)["pghold.hold.id"]: s for s in collector.spans() if s.name == "hold"}
    assert set(spans) == {approved["id"], denied["id"], waiting["id"]}
    first = attributes(spans[approved["id"]])
    assert first["pghold.rules"] == ["delete-without-where"]
    assert (first["db.system.name"], first["db.namespace"], first["db.user"]) == ("postgresql", "postgres", "postgres")
    assert first["pghold.script.sha256"] == approved["script_sha256"]
    assert first["pghold.hold.state"] == "done"
    events = {e.name: e for e in spans[approved["id"]].events}
    assert set(events) >= {"approved", "done"}
    assert attributes(events["approved"])["pghold.operator"] == "operator"
    assert spans[approved["id"]].start_time_unix_nano <= events["approved"].time_unix_nano <= spans[approved["id"]].end_time_unix_nano
    assert [e.name for e in spans[denied["id"]].events] == ["denied"]
    # What waited when the proxy stopped ends with it.
    assert attributes(spans[waiting["id"]])["pghold.hold.state"] == "withdrawn"
    resource = attributes(collector.requests[0].resource_spans[0].resource)
    assert (resource["service.name"], resource["deployment.environment"]) == ("pghold", "production")
    assert not any(b"secret" in r.SerializeToString() for r in collector.requests)


def test_requests_to_the_console_are_spans(postgres18: PostgresServer, collector: Collector) -> None:
    upstream = f"postgresql://127.0.0.1:{postgres18.port}/postgres"
    proxy = Pghold(upstream, environment={"PGHOLD_OTEL_ENDPOINT": f"{collector.url}/", **FAST})
    try:
        for path in ("/api/v1/holds/77?token=secret", "/metrics", "/healthz", "/api/v1/me"):
            proxy.http.get(path)
        wait_for(lambda: {s.name for s in collector.spans()} >= {"GET /api/v1/holds/{hold_id}", "GET /api/v1/me"}, 10)
        names = [s.name for s in collector.spans()]
        assert not any("metrics" in name or "healthz" in name for name in names)
        missing = next(s for s in collector.spans() if s.name == "GET /api/v1/holds/{hold_id}")
        assert attributes(missing)["http.response.status_code"] == 404
        assert not any(b"secret" in r.SerializeToString() for r in collector.requests)
    finally:
        assert proxy.stop() == 0


def test_a_collector_that_is_away_disturbs_nothing(postgres18: PostgresServer, table: str) -> None:
    upstream = f"postgresql://127.0.0.1:{postgres18.port}/postgres"
    proxy = Pghold(upstream, environment={"PGHOLD_OTEL_ENDPOINT": f"http://127.0.0.1:{free_port()}", **FAST})
    try:
        client = Client(proxy, f"DELETE FROM {table}")
        proxy.approve(proxy.wait_for_hold()["id"])
        client.join(10)
        assert client.error is None
    finally:
        assert proxy.stop() == 0


def test_without_the_packages_it_says_what_to_install(tmp_path: Path) -> None:
    # The web framework brings the packages' interface; what exports is the extra's.
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "class Hidden:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.startswith(('opentelemetry.sdk', 'opentelemetry.exporter')):\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Hidden())\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "PGHOLD_OTEL_ENDPOINT": "http://127.0.0.1:4318"}
    command = [
        sys.executable, "-m", "proxy", "run", "--upstream", f"postgresql://127.0.0.1:{free_port()}/x",
        "--listen", "127.0.0.1:0", "--console", "127.0.0.1:0", "--data-dir", str(tmp_path / "data"),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=False)
    assert done.returncode == 2
    assert "pip install 'pghold[otel]'" in done.stderr.splitlines()[-1]


def test_nothing_is_imported_when_it_is_off() -> None:
    code = "import sys, proxy.app; print([m for m in sys.modules if m.startswith(('opentelemetry.sdk', 'opentelemetry.exporter'))])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_an_endpoint_that_is_no_address_is_refused() -> None:
    from proxy.config import load
    from proxy.errors import ConfigError

    with pytest.raises(ConfigError, match="otel_endpoint"):
        load({"otel_endpoint": "localhost:4318"})
