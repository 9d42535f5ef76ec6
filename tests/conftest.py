"""Servers that many tests share."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import Pghold, PostgresServer, debian_bindir, embedded_bindir
from tests.sinks import HttpSink, SmtpSink

SCRAM = "host all scram 127.0.0.1/32 scram-sha-256\nhost all all 127.0.0.1/32 trust\n"


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    base = Path("/tmp/pghold-tests") / str(tmp_path_factory.getbasetemp().name + "-" + tmp_path_factory.getbasetemp().parent.name)
    shutil.rmtree(base, ignore_errors=True)
    base.mkdir(parents=True)
    yield base
    shutil.rmtree(base, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres18(folder: Path) -> Iterator[PostgresServer]:
    programs = embedded_bindir()
    for part in [programs, *programs.resolve().parents]:
        try:
            part.chmod(part.stat().st_mode | 0o011)
        except PermissionError:
            continue
    server = PostgresServer(folder / "pg18", programs, hba=SCRAM)
    server.sql("CREATE ROLE scram LOGIN SUPERUSER PASSWORD 'secret'")
    yield server
    server.stop()


@pytest.fixture(scope="session")
def postgres15(folder: Path) -> Iterator[PostgresServer]:
    """Debian's PostgreSQL, which is older than the embedded one."""
    server = PostgresServer(folder / "pg15", debian_bindir())
    yield server
    server.stop()


def make_certificate(target: Path, name: str = "localhost") -> None:
    """A self-signed certificate for 127.0.0.1 in target/server.crt and .key."""
    target.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", f"/CN={name}",
         "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", str(target / "server.key"), "-out", str(target / "server.crt")],
        check=True, capture_output=True,
    )  # fmt: skip
    (target / "server.key").chmod(0o600)


@pytest.fixture(scope="session")
def postgres_tls(folder: Path) -> Iterator[PostgresServer]:
    place = folder / "pgtls"
    make_certificate(place)
    options = ("ssl=on", f"ssl_cert_file={place}/server.crt", f"ssl_key_file={place}/server.key")
    server = PostgresServer(place, debian_bindir(), *options, hba="host all all 127.0.0.1/32 scram-sha-256\n")
    server.sql("CREATE ROLE scram LOGIN SUPERUSER PASSWORD 'secret'")
    yield server
    server.stop()


@pytest.fixture(scope="module")
def pghold(postgres18: PostgresServer) -> Iterator[Pghold]:
    proxy = Pghold(f"postgresql://127.0.0.1:{postgres18.port}/postgres")
    yield proxy
    assert proxy.stop() == 0


@pytest.fixture
def table(postgres18: PostgresServer) -> str:
    """A table with ten rows, made anew."""
    postgres18.sql("DROP TABLE IF EXISTS account CASCADE")
    postgres18.sql("CREATE TABLE account AS SELECT g AS id FROM generate_series(1, 10) g")
    return "account"


@pytest.fixture
def http() -> Iterator[HttpSink]:
    sink = HttpSink()
    yield sink
    sink.stop()


@pytest.fixture
def smtp() -> Iterator[SmtpSink]:
    sink = SmtpSink()
    yield sink
    sink.stop()
