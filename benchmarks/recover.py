"""`python -m benchmarks.recover` (part of `make bench`): the database is gone, and comes back.

70 tables with 1 GB of rows and their indexes, foreign keys between them. A full copy is taken, the database is dropped, `pghold recover` restores it and
compares every table; told are the seconds of each step, and the size. Bound: back in under a minute on two cores.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from proxy.backups.scratch import Scratch
from proxy.backups.verify import Verifier
from tests.copying import workshop
from tests.servers import PostgresServer, embedded_bindir

_DATABASE = "bench_recover"


def fill(server: PostgresServer, tables: int, total_bytes: int) -> int:
    """The tables, alike in their columns and not in their sizes; returns the database's bytes."""
    server.sql(f"DROP DATABASE IF EXISTS {_DATABASE} WITH (FORCE)")
    server.sql(f"CREATE DATABASE {_DATABASE}")
    weights = [1 / (n + 1) ** 0.5 for n in range(tables)]
    for number in range(tables):
        # Some 280 bytes with the indexes.
        rows = int(total_bytes / 280 * weights[number] / sum(weights))
        parent = f"REFERENCES t{number - 1}" if number else ""
        least = int(total_bytes / 280 * weights[min(number, tables - 1)] / sum(weights))
        server.sql(
            f"CREATE TABLE t{number} (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, parent bigint {parent}, name text NOT NULL, "
            "at timestamptz NOT NULL, amount numeric(12, 2), note text, flags jsonb);"
            f"INSERT INTO t{number} (parent, name, at, amount, note, flags) SELECT {f'1 + g % {least}' if number else 'NULL'}, md5(g::text), "
            "timestamptz '2026-01-01' + g * interval '1 minute', g % 100000 / 100.0, repeat(md5((g * 7)::text), 2), "
            f"jsonb_build_object('n', g, 'on', g % 2 = 0) FROM generate_series(1, {rows}) g;"
            f"CREATE INDEX ON t{number} (name); CREATE INDEX ON t{number} (at)",
            _DATABASE,
        )
    return int(server.sql(f"SELECT pg_database_size('{_DATABASE}')")[0][0])


async def measure(server: PostgresServer, folder: Path, jobs: int) -> dict[str, float]:
    """Seconds of each step."""
    async with workshop(server, folder / "data") as shop:
        began = time.monotonic()
        backup = await shop.protector.take(_DATABASE)
        taken = time.monotonic() - began
        scratch = Scratch(folder / "scratch")
        await scratch.start()
        began = time.monotonic()
        proof = await Verifier(shop.vault, scratch, jobs=jobs).verify(backup)
        proven = time.monotonic() - began
        await scratch.stop()
        if not proof.is_equal:
            raise SystemExit(f"not proven: {proof}")
        server.sql(f"DROP DATABASE {_DATABASE} WITH (FORCE)")
        began = time.monotonic()
        done = await asyncio.to_thread(_recover, server, shop.vault.root, jobs)
        recovered = time.monotonic() - began
        if not done["equal"] or done["problems"]:
            raise SystemExit(f"not equal: {done}")
        return {"copy_mb": backup.bytes / 2**20, "rows": backup.rows, "take_s": taken, "prove_s": proven, "recover_s": recovered}


def _recover(server: PostgresServer, root: Path, jobs: int) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-m", "proxy", "recover", "--backups", root, "--to", f"postgresql://postgres@127.0.0.1:{server.port}/", "--yes",
         "--json", "--jobs", str(jobs)],
        capture_output=True, text=True, check=False, env={**os.environ, "PGHOLD_DATA_DIR": str(root.parent)},
    )  # fmt: skip
    if not done.stdout:
        raise SystemExit(done.stderr)
    found: dict[str, object] = json.loads(done.stdout)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables", type=int, default=70)
    parser.add_argument("--megabytes", type=int, default=1024)
    parser.add_argument("--jobs", type=int, default=2)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pghold-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        # As a production server is: with its log flushed to the disk.
        server = PostgresServer(folder / "server", embedded_bindir(), "fsync=on", "max_wal_size=4GB", "shared_buffers=256MB")
        try:
            size = fill(server, given.tables, given.megabytes << 20)
            found = asyncio.run(measure(server, folder, given.jobs))
        finally:
            server.stop()
    print(f"{given.tables} tables, {size / 2**20:,.0f} MB, {found['rows']:,.0f} rows; the copy has {found['copy_mb']:,.0f} MB")
    for step, what in (("take_s", "full copy taken"), ("prove_s", "proven"), ("recover_s", "dropped database back and compared")):
        print(f"  {what:36} {found[step]:6.1f} s")


if __name__ == "__main__":
    main()
