"""pghold doctor: with the proxy running and without, on good and bad ground."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.conftest import make_certificate
from tests.integration.test_health import begin
from tests.servers import PostgresServer, debian_bindir, free_port


def doctor(folder: Path, *arguments: str, **environment: str) -> tuple[int, dict[str, dict[str, Any]], str]:
    """Exit code, findings by what they are about (the worst of each), and stderr."""
    command = [sys.executable, "-m", "proxy", "doctor", "--data-dir", str(folder), "--json", *arguments]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=60, check=False, cwd="/")
    found: dict[str, dict[str, Any]] = {}
    for line in done.stdout.splitlines():
        finding = json.loads(line)
        rank = ("ok", "note", "bad").index(finding["state"])
        if finding["what"] not in found or rank > ("ok", "note", "bad").index(found[finding["what"]]["state"]):
            found[finding["what"]] = finding
    return done.returncode, found, done.stderr


def test_without_a_running_proxy_the_server_is_asked_directly(postgres18: PostgresServer, tmp_path: Path) -> None:
    place = f"postgresql://postgres@127.0.0.1:{postgres18.port}/postgres"
    code, found, problem = doctor(tmp_path / "data", "--upstream", place)
    assert code == 0, (found, problem)
    for name in ("control", "replication", "clock", "programs", "pg_dump", "backup-key", "console-url", "disk", "server"):
        assert found[name]["state"] == "ok", found[name]
    assert found["access-addresses"]["state"] == "ok", "only this machine is let in"
    assert found["access-superusers"]["state"] == "note"
    assert 'ALTER ROLE "scram" NOSUPERUSER;' in found["access-superusers"]["fix"]


def test_a_running_proxy_tells_its_own_checks(postgres18: PostgresServer) -> None:
    proxy = begin(postgres18)
    try:
        place = f"postgresql://postgres@127.0.0.1:{postgres18.port}/postgres"
        code, found, problem = doctor(proxy.folder / "data", "--upstream", place)
        assert code == 0, (found, problem)
        assert found["running"]["state"] == "ok"
        for name in ("tables", "bypass", "backups", "audit", "pg_dump"):
            assert found[name]["state"] in ("ok", "note"), found[name]
    finally:
        assert proxy.stop() == 0


def test_what_is_bad_is_said_with_what_to_do_and_no_secret(postgres18: PostgresServer, tmp_path: Path) -> None:
    make_certificate(tmp_path / "tls")
    key = tmp_path / "key"
    key.write_text("no key")
    key.chmod(0o644)
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    data.chmod(0o777)
    place = f"postgresql://nobody-there:hunter2@127.0.0.1:{postgres18.port}/postgres"
    code, found, problem = doctor(
        data,
        "--upstream",
        place,
        PGHOLD_BACKUP_KEY_FILE=str(key),
        PGHOLD_TLS="allow",
        PGHOLD_TLS_CERT=str(tmp_path / "tls/server.crt"),
        PGHOLD_TLS_KEY=str(tmp_path / "tls/server.key"),
        PGHOLD_PG_BIN=str(tmp_path),
        PGHOLD_BACKUP_MIN_FREE_BYTES=str(1 << 60),
        PGHOLD_BACKUP_TARGETS=f'["s3://bucket/x?endpoint=http://127.0.0.1:{free_port()}"]',
        AWS_ACCESS_KEY_ID="hunter3",
        AWS_SECRET_ACCESS_KEY="hunter4",
    )
    assert code == 1
    for name in ("data-rights", "backup-key", "programs", "disk", "control", "backup-targets"):
        assert found[name]["state"] == "bad", found.get(name)
        assert found[name]["fix"], found[name]
    assert found["tls-tls_cert"]["state"] == "ok", "thirty days are left"
    assert "hunter" not in json.dumps(found) + problem


def test_an_older_pg_dump_than_the_server_is_bad(postgres18: PostgresServer, tmp_path: Path) -> None:
    place = f"postgresql://postgres@127.0.0.1:{postgres18.port}/postgres"
    code, found, _ = doctor(tmp_path / "data", "--upstream", place, PGHOLD_PG_BIN=str(debian_bindir()))
    assert code == 1
    assert found["pg_dump"]["state"] == "bad"
    assert "15 cannot read PostgreSQL 18" in found["pg_dump"]["text"]


def test_the_embedded_server_needs_nothing_to_be_asked(tmp_path: Path) -> None:
    code, found, problem = doctor(tmp_path / "data")
    assert code == 0, (found, problem)
    assert "embedded" in found["server"]["text"]


def test_a_server_that_is_away_is_bad_and_soon_said(tmp_path: Path) -> None:
    code, found, _ = doctor(tmp_path / "data", "--upstream", f"postgresql://127.0.0.1:{free_port()}/x")
    assert code == 1
    assert found["server"]["state"] == "bad"
    assert found["control"]["state"] == "bad"
