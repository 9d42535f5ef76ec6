"""The console's own TLS, with real clients; and where it may listen without."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.browsing import Browser
from tests.conftest import make_certificate
from tests.servers import Pghold, PostgresServer, wait_for


def tls_pghold(server: PostgresServer, cert: Path, key: Path, *options: str, **settings: str) -> Pghold:
    environment = {"PGHOLD_CONSOLE_TLS_CERT": str(cert), "PGHOLD_CONSOLE_TLS_KEY": str(key), **settings}
    return Pghold(f"postgresql://127.0.0.1:{server.port}/postgres", *options, environment=environment)


@pytest.fixture(scope="module")
def place(folder: Path) -> Path:
    made = folder / "console-tls"
    make_certificate(made)
    return made


@pytest.fixture(scope="module")
def secure(postgres18: PostgresServer, place: Path) -> Iterator[Pghold]:
    proxy = tls_pghold(postgres18, place / "server.crt", place / "server.key")
    proxy.http.close()
    proxy.http = httpx.Client(
        base_url=proxy.console,
        headers={"Authorization": f"Bearer {proxy.token}"},
        trust_env=False,
        verify=ssl.create_default_context(cafile=str(place / "server.crt")),
    )
    yield proxy
    Browser.close_all()
    assert proxy.stop() == 0


def browser(proxy: Pghold, place: Path, token: str | None = "") -> Browser:
    return Browser(proxy, token, verify=ssl.create_default_context(cafile=str(place / "server.crt")))


def port_of(proxy: Pghold) -> int:
    return int(proxy.console.rpartition(":")[2])


def test_the_ready_line_and_everything_else_is_https(secure: Pghold, place: Path) -> None:
    assert secure.console.startswith("https://127.0.0.1:")
    signed_in = browser(secure, place)
    assert signed_in.get("/holds").status_code == 200
    assert secure.http.get("/api/v1/holds").status_code == 200
    with pytest.raises(httpx.ConnectError, match="certificate"):
        httpx.get(secure.console, trust_env=False)
    with pytest.raises(httpx.TransportError):
        httpx.get(secure.console.replace("https", "http"), trust_env=False)


def test_cookies_stay_on_this_host_and_on_tls(secure: Pghold, place: Path) -> None:
    answer = browser(secure, place, None).sign_in("", secure.token)
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("__Host-pghold=")
    attributes = {a.strip().lower() for a in cookie.split(";")[1:]}
    assert {"secure", "httponly", "samesite=lax", "path=/"} <= attributes
    assert not any(a.startswith("domain") for a in attributes)
    assert answer.headers["strict-transport-security"] == "max-age=31536000"


def test_each_sign_in_is_a_new_session_and_ends_the_one_before(secure: Pghold, place: Path) -> None:
    signed_in = browser(secure, place)
    before = signed_in.http.cookies["__Host-pghold"]
    signed_in.sign_in("", secure.token)
    assert signed_in.http.cookies["__Host-pghold"] != before
    old = browser(secure, place, None)
    old.http.cookies.set("__Host-pghold", before, domain="127.0.0.1")
    assert old.http.get("/holds").status_code == 303


def test_the_command_line_verifies_the_console(secure: Pghold, place: Path) -> None:
    command = [sys.executable, "-m", "proxy", "holds", "--console", secure.console, "--token", secure.token]
    runs = {}
    for file in ("", str(place / "server.crt"), "/nonexistent"):
        environment = {k: v for k, v in os.environ.items() if k != "PGHOLD_CONSOLE_CA"} | ({"PGHOLD_CONSOLE_CA": file} if file else {})
        runs[file] = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert runs[str(place / "server.crt")].returncode == 0, runs
    assert runs[""].returncode == 1
    assert "certificate" in runs[""].stderr.lower()
    assert "expected a PEM file" in runs["/nonexistent"].stderr


def old_client(version: ssl.TLSVersion) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = version
    return context


def handshake(port: int, context: ssl.SSLContext) -> str | None:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as raw, context.wrap_socket(raw) as tls:
        return tls.version()


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1:DeprecationWarning")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_old_versions_are_refused(secure: Pghold, place: Path, version: ssl.TLSVersion) -> None:
    context = old_client(version)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        handshake(port_of(secure), context)
    # A server that still takes it shows that the client could.
    assert handshake_with_an_old_server(place, context) in ("TLSv1", "TLSv1.1")


def handshake_with_an_old_server(place: Path, client: ssl.SSLContext) -> str | None:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(place / "server.crt", place / "server.key")
    server.set_ciphers("ALL:@SECLEVEL=0")
    server.minimum_version = ssl.TLSVersion.TLSv1
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            peer, _ = listener.accept()
            with server.wrap_socket(peer, server_side=True) as tls:
                tls.recv(1)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        version = handshake(listener.getsockname()[1], client)
        thread.join(10)
        return version


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_new_versions_work(secure: Pghold, place: Path, version: ssl.TLSVersion) -> None:
    context = ssl.create_default_context(cafile=str(place / "server.crt"))
    context.minimum_version = context.maximum_version = version
    context.check_hostname = False
    assert handshake(port_of(secure), context) == version.name.replace("_", ".")


def shown_certificate(proxy: Pghold) -> str:
    return ssl.get_server_certificate(("127.0.0.1", port_of(proxy)))


def test_certificates_are_read_again_on_sighup_and_a_bad_pair_changes_nothing(postgres18: PostgresServer, folder: Path) -> None:
    used, new = folder / "console-tls-used", folder / "console-tls-new"
    make_certificate(used)
    make_certificate(new)
    first, second = (used / "server.crt").read_text(), (new / "server.crt").read_text()
    proxy = tls_pghold(postgres18, used / "server.crt", used / "server.key")
    assert shown_certificate(proxy) == first
    # Only half of the new pair is there yet.
    shutil.copy(new / "server.crt", used / "server.crt")
    proxy.process.send_signal(signal.SIGHUP)
    wait_for(lambda: "not reloaded" in proxy.log.read_text(), 10)
    assert "the key is not the certificate's" in proxy.log.read_text()
    assert shown_certificate(proxy) == first
    shutil.copy(new / "server.key", used / "server.key")
    proxy.process.send_signal(signal.SIGHUP)
    wait_for(lambda: shown_certificate(proxy) == second, 10)
    assert proxy.stop() == 0


@pytest.mark.parametrize(
    ("cert", "key", "words"),
    [
        ("server.crt", "other.key", "the key is not the certificate's"),
        ("nowhere.crt", "server.key", r"nowhere.crt: No such file or directory"),
        ("server.crt", "nowhere.key", r"nowhere.key: No such file or directory"),
        ("server.crt", "a-folder", r"a-folder: Is a directory"),
        ("empty.crt", "server.key", "expected PEM files that match"),
        ("server.key", "server.crt", "expected PEM files that match"),
        ("server.crt", "secret.key", "the key has a passphrase"),
    ],
)
def test_what_cannot_be_loaded_is_refused_at_start_with_the_reason(
    postgres18: PostgresServer, place: Path, folder: Path, cert: str, key: str, words: str
) -> None:
    make_certificate(folder / "console-tls-other")
    shutil.copy(folder / "console-tls-other" / "server.key", place / "other.key")
    (place / "empty.crt").touch()
    (place / "a-folder").mkdir(exist_ok=True)
    subprocess.run(
        ["openssl", "pkey", "-in", str(place / "server.key"), "-aes256", "-passout", "pass:secret", "-out", str(place / "secret.key")],
        check=True,
        capture_output=True,
    )
    with pytest.raises(RuntimeError, match=rf"(?s)exit code 2.*console_tls_cert.*{words}"):
        tls_pghold(postgres18, place / cert, place / key)


@pytest.mark.parametrize(
    ("console", "settings", "words"),
    [
        ("0.0.0.0:0", {}, "in clear text"),
        ("[::]:0", {}, "in clear text"),
        (":0", {}, "in clear text"),
        ("192.0.2.1:0", {}, "in clear text"),
        ("console.example.com:0", {}, "in clear text"),
        ("0.0.0.0:0", {"PGHOLD_CONSOLE_AUTH": "header"}, "needs console_url"),
        ("0.0.0.0:0", {"PGHOLD_CONSOLE_AUTH": "header", "PGHOLD_CONSOLE_URL": "http://pghold.example.com"}, "must begin with https"),
        ("127.0.0.1:0", {"PGHOLD_CONSOLE_TLS_CERT": "/x"}, "go together"),
    ],
)
def test_a_console_that_others_reach_in_clear_text_does_not_start(
    postgres18: PostgresServer, console: str, settings: dict[str, str], words: str
) -> None:
    with pytest.raises(RuntimeError, match=rf"(?s)exit code 2.*{words}"):
        Pghold(f"postgresql://127.0.0.1:{postgres18.port}/postgres", "--console", console, environment=settings)


@pytest.mark.parametrize(
    "settings",
    [{"PGHOLD_CONSOLE_AUTH": "header", "PGHOLD_CONSOLE_URL": "https://pghold.example.com"}, {"tls": "yes"}],
    ids=["header", "tls"],
)
def test_with_tls_or_a_proxy_in_front_it_does(postgres18: PostgresServer, place: Path, settings: dict[str, str]) -> None:
    if "tls" in settings:
        proxy = tls_pghold(postgres18, place / "server.crt", place / "server.key", "--console", "0.0.0.0:0")
    else:
        proxy = Pghold(f"postgresql://127.0.0.1:{postgres18.port}/postgres", "--console", "0.0.0.0:0", environment=settings)
    assert "0.0.0.0:" in proxy.console
    assert proxy.stop() == 0
