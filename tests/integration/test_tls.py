"""TLS on both legs, and the login through them, with a server that has TLS."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import make_certificate
from tests.servers import Pghold, PostgresServer


def upstream(server: PostgresServer, **options: str) -> str:
    query = "&".join(f"{k}={v}" for k, v in options.items())
    return f"postgresql://127.0.0.1:{server.port}/postgres?{query}"


def tls_options(place: Path, tls: str = "allow") -> tuple[str, ...]:
    return ("--tls", tls, "--tls-cert", str(place / "server.crt"), "--tls-key", str(place / "server.key"))


def login(port: int, sslmode: str, binding: str) -> subprocess.CompletedProcess[str]:
    place = f"host=127.0.0.1 port={port} user=scram dbname=postgres sslmode={sslmode} channel_binding={binding}"
    environment = {**os.environ, "PGPASSWORD": "secret"}
    return subprocess.run(["psql", "-XAt", place, "-c", "select 7"], env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def same(postgres_tls: PostgresServer) -> Iterator[Pghold]:
    proxy = Pghold(
        upstream(postgres_tls, sslmode="verify-full", sslrootcert=f"{postgres_tls.folder}/server.crt"), *tls_options(postgres_tls.folder)
    )
    yield proxy
    assert proxy.stop() == 0


@pytest.mark.parametrize("binding", ["prefer", "require", "disable"])
def test_same_certificate_lets_every_setting_log_in(same: Pghold, binding: str) -> None:
    assert login(same.port, "require", binding).stdout == "7\n"


def test_plaintext_leg_gets_an_offer_without_plus(same: Pghold) -> None:
    assert login(same.port, "disable", "prefer").stdout == "7\n"
    assert login(same.port, "disable", "disable").stdout == "7\n"
    assert "channel binding" in login(same.port, "disable", "require").stderr


def test_different_certificates_are_refused_at_start(postgres_tls: PostgresServer, folder: Path) -> None:
    other = folder / "other"
    make_certificate(other)
    with pytest.raises(RuntimeError, match=r"exit code 2.*SCRAM-SHA-256-PLUS"):
        Pghold(upstream(postgres_tls, sslmode="require"), *tls_options(other))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--tls", "require"), "tls_cert"),
        (("--tls", "allow", "--tls-cert", "/nonexistent", "--tls-key", "/nonexistent"), "PEM"),
        (("--tls-ca", "/x"), "tls_ca"),
        (("--listen", "nonsense"), "HOST:PORT"),
        (("--mode", "maybe"), "mode"),
    ],
)
def test_impossible_settings_are_refused_with_the_reason(postgres_tls: PostgresServer, options: tuple[str, ...], words: str) -> None:
    with pytest.raises(RuntimeError, match=rf"(?s)exit code 2.*{words}"):
        Pghold(upstream(postgres_tls, sslmode="disable"), *options)


def test_verify_full_refuses_an_unknown_server(postgres_tls: PostgresServer, folder: Path) -> None:
    make_certificate(folder / "stranger")
    proxy = Pghold(upstream(postgres_tls, sslmode="verify-full", sslrootcert=f"{folder}/stranger/server.crt"))
    assert "08006" in login(proxy.port, "disable", "disable").stderr or "TLS" in login(proxy.port, "disable", "disable").stderr
    proxy.stop()


def test_require_lets_no_plaintext_in(postgres_tls: PostgresServer) -> None:
    proxy = Pghold(upstream(postgres_tls, sslmode="require"), *tls_options(postgres_tls.folder, "require"))
    assert "without TLS" in login(proxy.port, "disable", "disable").stderr
    assert login(proxy.port, "require", "require").stdout == "7\n"
    proxy.stop()


def test_client_certificates_are_verified_when_a_ca_is_given(postgres_tls: PostgresServer) -> None:
    place = postgres_tls.folder
    proxy = Pghold(upstream(postgres_tls, sslmode="require"), *tls_options(place, "require"), "--tls-ca", f"{place}/server.crt")
    assert login(proxy.port, "require", "prefer").returncode != 0
    context = ssl.create_default_context(cafile=f"{place}/server.crt")
    context.check_hostname = False
    context.load_cert_chain(f"{place}/server.crt", f"{place}/server.key")
    context.set_alpn_protocols(["postgresql"])
    with socket.create_connection(("127.0.0.1", proxy.port)) as raw, context.wrap_socket(raw) as tls:
        startup = b"\0\3\0\0user\0scram\0database\0postgres\0\0"
        tls.sendall((len(startup) + 4).to_bytes(4, "big") + startup)
        assert tls.recv(1) == b"R"
    proxy.stop()


def test_direct_tls_needs_alpn(same: Pghold, postgres_tls: PostgresServer) -> None:
    startup = b"\0\3\0\0user\0scram\0database\0postgres\0\0"
    packet = (len(startup) + 4).to_bytes(4, "big") + startup
    for alpn, expected in ((["postgresql"], b"R"), (["http/1.1"], None), ([], None)):
        context = ssl.create_default_context(cafile=f"{postgres_tls.folder}/server.crt")
        if alpn:
            context.set_alpn_protocols(alpn)
        try:
            with socket.create_connection(("127.0.0.1", same.port)) as raw, context.wrap_socket(raw, server_hostname="localhost") as tls:
                tls.sendall(packet)
                answer = tls.recv(1) or None
        except (ssl.SSLError, ConnectionError):
            answer = None
        assert answer == expected


def test_bytes_ahead_of_the_handshake_close_the_connection(same: Pghold) -> None:
    with socket.create_connection(("127.0.0.1", same.port), timeout=10) as raw:
        raw.sendall(b"\0\0\0\x08\x04\xd2\x16\x2f" + b"\0\0\0\x10injected")
        try:
            assert raw.recv(10) == b""
        except ConnectionResetError:
            pass  # what was sent ahead is thrown away unread


def test_gssenc_then_ssl_then_plaintext(same: Pghold) -> None:
    with socket.create_connection(("127.0.0.1", same.port), timeout=10) as raw:
        raw.sendall(b"\0\0\0\x08\x04\xd2\x16\x30")
        assert raw.recv(1) == b"N"
        raw.sendall(b"\0\0\0\x08\x04\xd2\x16\x2f")
        assert raw.recv(1) == b"S"
