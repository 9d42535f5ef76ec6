"""Unix sockets on both legs."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import psycopg

from tests.servers import Pghold, PostgresServer


def test_unix_sockets_on_both_legs(postgres18: PostgresServer, tmp_path: Path) -> None:
    upstream = f"postgresql://localhost:{postgres18.port}/postgres?host={quote(str(postgres18.folder))}"
    proxy = Pghold(upstream, "--listen", f"127.0.0.1:0,{tmp_path}:7777")
    with psycopg.connect(host=str(tmp_path), port=7777, user="postgres", dbname="postgres", autocommit=True) as connection:
        assert connection.execute("SELECT 7").fetchone() == (7,)
    proxy.stop()
    assert not (tmp_path / ".s.PGSQL.7777").exists()
