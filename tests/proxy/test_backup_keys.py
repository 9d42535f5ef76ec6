"""pghold backups key and unseal."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from proxy.backups.sealing import Sealer, read_key


def pghold(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([sys.executable, "-m", "proxy", "backups", *arguments], capture_output=True, check=False)


def test_a_key_is_made_once_and_opens_what_it_closed(tmp_path: Path) -> None:
    key = tmp_path / "key"
    made = pghold("key", str(key))
    assert made.returncode == 0
    assert read_key(key).id.encode() in made.stdout
    assert key.read_text().split(":")[1].strip().encode() not in made.stdout
    again = pghold("key", str(key))
    assert again.returncode == 2
    assert b"never overwritten" in again.stderr
    sealer = Sealer(read_key(key))
    file = tmp_path / "archive.dump.sealed"
    file.write_bytes(sealer.update(b"PGDMP") + sealer.finish())
    assert pghold("unseal", str(file), "--key-file", str(key)).stdout == b"PGDMP"
    plain = tmp_path / "archive.dump"
    assert pghold("unseal", str(file), "--key-file", str(key), "--into", str(plain)).returncode == 0
    assert plain.read_bytes() == b"PGDMP"
    assert plain.stat().st_mode & 0o777 == 0o600
    assert pghold("unseal", str(file), "--key-file", str(key), "--into", str(plain)).returncode == 2  # never over another file


def test_a_damaged_file_is_not_half_opened(tmp_path: Path) -> None:
    key = tmp_path / "key"
    pghold("key", str(key))
    sealer = Sealer(read_key(key))
    file = tmp_path / "archive.dump.sealed"
    file.write_bytes((sealer.update(b"x" * (3 << 20)) + sealer.finish())[:-1])
    plain = tmp_path / "plain"
    done = pghold("unseal", str(file), "--key-file", str(key), "--into", str(plain))
    assert done.returncode == 1
    assert b"cut off" in done.stderr
    assert not plain.exists()
