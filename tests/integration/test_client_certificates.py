"""Database clients with certificates: their names are on the hold, on record, and nobody decides about his own."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.browsing import Browser
from tests.servers import Pghold, PostgresServer, wait_for


def openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


class Authority:
    """A CA that signs client certificates."""

    def __init__(self, place: Path) -> None:
        place.mkdir(parents=True, exist_ok=True)
        self._place = place
        self.cert = place / "ca.crt"
        openssl(
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", "/CN=people", "-keyout", str(place / "ca.key"),
            "-out", str(self.cert),
        )  # fmt: skip

    def sign(self, name: str, subject: str, email: str = "") -> dict[str, str]:
        """What libpq wants to know."""
        key, request, cert, extra = (self._place / f"{name}.{kind}" for kind in ("key", "csr", "crt", "ext"))
        openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", subject, "-utf8", "-keyout", str(key), "-out", str(request))
        extra.write_text(f"subjectAltName=email:{email}\n" if email else "basicConstraints=CA:FALSE\n")
        openssl(
            "x509", "-req", "-in", str(request), "-CA", str(self.cert), "-CAkey", str(self._place / "ca.key"), "-CAcreateserial",
            "-days", "30", "-extfile", str(extra), "-out", str(cert),
        )  # fmt: skip
        key.chmod(0o600)
        return {"sslcert": str(cert), "sslkey": str(key)}


@pytest.fixture(scope="module")
def authority(folder: Path) -> Authority:
    return Authority(folder / "people-ca")


@pytest.fixture(scope="module")
def certified(postgres_tls: PostgresServer, authority: Authority) -> Iterator[Pghold]:
    place = postgres_tls.folder
    proxy = Pghold(
        f"postgresql://127.0.0.1:{postgres_tls.port}/postgres?sslmode=require", "--tls", "require", "--tls-cert", f"{place}/server.crt",
        "--tls-key", f"{place}/server.key", "--tls-ca", str(authority.cert),
    )  # fmt: skip
    postgres_tls.sql("CREATE TABLE IF NOT EXISTS certified (id int)")
    yield proxy
    Browser.close_all()
    assert proxy.stop() == 0


def place_of(proxy: Pghold, certificate: dict[str, str]) -> str:
    given = " ".join(f"{k}={v}" for k, v in certificate.items())
    return f"host=127.0.0.1 port={proxy.port} user=scram dbname=postgres sslmode=require {given}"


def psql(proxy: Pghold, certificate: dict[str, str], script: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        ["psql", "-XAt", place_of(proxy, certificate), "-c", script],
        env={**os.environ, "PGPASSWORD": "secret"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(
    ("subject", "email", "shown", "own"),
    [
        ("/O=x/CN=carla", "", "carla", "carla"),
        ("/O=x/CN=Carla Smith", "c.smith@example.com", "Carla Smith", "c.smith@example.com"),
        ("/O=x/CN=Carla Smith", "dora@example.com", "Carla Smith", "dora"),
        ("/O=x", "erika@example.com", "erika@example.com", "erika@example.com"),
        ("/O=x/CN=<script>alert(1)<\\/script>", "", "<script>alert(1)</script>", ""),
    ],
)
def test_the_certificate_is_on_the_hold_and_its_owner_does_not_decide(
    certified: Pghold, authority: Authority, subject: str, email: str, shown: str, own: str
) -> None:
    certificate = authority.sign(f"c{abs(hash((subject, email)))}", subject, email)
    client = psql(certified, certificate, "TRUNCATE certified")
    wait_for(lambda: bool(certified.holds()), 10)
    hold = certified.holds()[0]
    assert hold["certificate"] == shown
    admin = Browser(certified)
    page = admin.get(f"/holds/{hold['id']}").text
    assert "certificate" in page
    assert "<script>alert" not in page
    assert [r["certificate"] for r in certified.audit() if r["event"] == "held" and r["hold_id"] == hold["id"]] == [shown]
    if own:
        admin.post("/people/change", name=own, action="remove")
        found = re.search(r'id="secret">([^<]+)<', admin.post("/people/add", name=own, role="approver").text)
        assert found is not None
        owner = Browser(certified, found[1])
        answer = owner.approve(hold["id"], object_name="certified")
        assert (answer.status_code, "never decides his own" in owner.problem(answer)) == (403, True)
        assert certified.hold(hold["id"])["state"] == "pending"
    assert admin.approve(hold["id"], object_name="certified").status_code == 303
    out, problem = client.communicate(timeout=20)
    assert (client.returncode, out) == (0, "TRUNCATE TABLE\n"), problem


def test_psycopg_with_a_certificate_and_another_ones(certified: Pghold, authority: Authority, folder: Path) -> None:
    good = authority.sign("good", "/CN=good")
    with psycopg.connect(f"{place_of(certified, good)} password=secret") as connection:
        assert connection.execute("SELECT 7").fetchone() == (7,)
    stranger = Authority(folder / "strangers-ca").sign("stranger", "/CN=carla")
    for wrong in (stranger, {}):
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(f"{place_of(certified, wrong)} password=secret")


def test_without_certificates_asked_for_none_is_shown(postgres_tls: PostgresServer) -> None:
    place = postgres_tls.folder
    proxy = Pghold(
        f"postgresql://127.0.0.1:{postgres_tls.port}/postgres?sslmode=require", "--tls", "allow", "--tls-cert", f"{place}/server.crt",
        "--tls-key", f"{place}/server.key",
    )  # fmt: skip
    postgres_tls.sql("CREATE TABLE IF NOT EXISTS certified (id int)")
    client = psql(proxy, {}, "TRUNCATE certified")
    wait_for(lambda: bool(proxy.holds()), 10)
    assert proxy.holds()[0]["certificate"] is None
    proxy.deny(proxy.holds()[0]["id"])
    client.communicate(timeout=20)
    assert proxy.stop() == 0


def test_a_ca_without_tls_required_is_refused(postgres_tls: PostgresServer, authority: Authority) -> None:
    """Else a client would only have to come in clear text to need no certificate."""
    place = postgres_tls.folder
    with pytest.raises(RuntimeError, match=r"(?s)exit code 2.*tls_ca has no use with tls = allow"):
        Pghold(
            f"postgresql://127.0.0.1:{postgres_tls.port}/postgres?sslmode=require", "--tls", "allow", "--tls-cert", f"{place}/server.crt",
            "--tls-key", f"{place}/server.key", "--tls-ca", str(authority.cert),
        )  # fmt: skip
