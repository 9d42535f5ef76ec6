"""Where copies lie: encryption that shows every change, folders that are whole or not there, manifests that are checked."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.backups import sealing
from proxy.backups.model import Backup, BackupId, BackupState, CopyKind
from proxy.backups.sealing import Key, Sealer, SealError, make_key, read_key, unsealed
from proxy.backups.vault import Draft, Vault, VaultError
from proxy.errors import ConfigError

KEY = Key("0011223344556677", b"k" * 32)
OTHER = Key("0011223344556677", b"o" * 32)


def sealed(data: bytes, step: int = 70_000, key: Key = KEY) -> bytes:
    sealer = Sealer(key)
    return b"".join(sealer.update(data[i : i + step]) for i in range(0, len(data), step)) + sealer.finish()


def opened(data: bytes, step: int = 65_536, key: Key | None = KEY) -> bytes:
    return b"".join(unsealed((data[i : i + step] for i in range(0, len(data), step)), key))


@pytest.mark.parametrize("size", [0, 1, sealing.PIECE - 1, sealing.PIECE, sealing.PIECE + 1, 3 * sealing.PIECE])
@pytest.mark.parametrize("step", [1 << 12, sealing.PIECE, 5 << 20])
def test_what_was_sealed_opens_again(size: int, step: int) -> None:
    data = os.urandom(size)
    assert opened(sealed(data, step), step) == data


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_no_byte_can_be_changed_left_out_or_cut_off(data: st.DataObject) -> None:
    whole = sealed(b"x" * 1000)
    position = data.draw(st.integers(0, len(whole) - 1))
    changed = bytearray(whole)
    changed[position] ^= data.draw(st.integers(1, 255))
    for broken in (bytes(changed), whole[:position], whole[:position] + whole[position + 1 :], whole + b"x"):
        with pytest.raises(SealError):
            opened(broken)


def test_pieces_cannot_be_moved_repeated_or_dropped() -> None:
    data = b"".join(bytes([n]) * sealing.PIECE for n in range(3))
    whole = sealed(data)
    piece = sealing.PIECE + 16
    header, first, second, third = whole[:48], whole[48 : 48 + piece], whole[48 + piece : 48 + 2 * piece], whole[48 + 2 * piece :]
    assert opened(header + first + second + third) == data
    for broken in (
        header + second + first + third,
        header + first + first + third,
        header + first + third,
        header + first + second,
        header + third,
    ):
        with pytest.raises(SealError):
            opened(broken)


def test_another_key_or_none_says_so() -> None:
    with pytest.raises(SealError, match="was changed"):
        opened(sealed(b"x"), key=OTHER)
    with pytest.raises(SealError, match="no backup_key_file is given"):
        opened(sealed(b"x"), key=None)
    with pytest.raises(SealError, match="not with"):
        opened(sealed(b"x"), key=Key("ff" * 8, b"k" * 32))
    with pytest.raises(SealError, match="not encrypted by pghold"):
        opened(b"PGDMP" + b"x" * 100)


def test_two_files_with_one_key_share_nothing() -> None:
    assert sealed(b"x" * 100)[8 + 8 :] != sealed(b"x" * 100)[8 + 8 :]


def test_key_files(tmp_path: Path) -> None:
    path = tmp_path / "key"
    key = make_key(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_key(path) == key
    assert path.read_text().split(":")[1].strip() not in repr(key)
    with pytest.raises(ConfigError, match="never overwritten"):
        make_key(path)
    path.chmod(0o640)
    with pytest.raises(ConfigError, match="others may read it"):
        read_key(path)
    path.chmod(0o600)
    for text in ("", "pghold-key-1:", "pghold-key-1:AAAA", "pghold-key-1:not base64!", "ä"):
        path.write_text(text)
        with pytest.raises(ConfigError, match="is no key"):
            read_key(path)
    with pytest.raises(ConfigError, match="No such file"):
        read_key(tmp_path / "none")


# --- folders ------------------------------------------------------------------------------------------------------------------

BACKUP = Backup(BackupId(12), CopyKind.DUMP, BackupState.RUNNING, "shop", "", datetime(2026, 11, 25, 1, 45, tzinfo=UTC))
FOLDER = "20261125T014500Z-12"


async def pieces(*data: bytes) -> AsyncIterator[bytes]:
    for piece in data:
        yield piece


async def a_copy(vault: Vault) -> Draft:
    draft = vault.draft(BACKUP)
    await draft.take("archive.dump", pieces(b"PGDMP", b"rest"))
    await draft.take_rows(pieces(b"t\t1\nt\t", b"2\n"))
    await draft.finish({"kind": "dump"})
    return draft


@pytest.mark.parametrize("key", [None, KEY])
def test_a_copy_has_its_name_only_when_it_is_whole(tmp_path: Path, key: Key | None) -> None:
    async def run() -> None:
        vault = Vault(tmp_path / "b", key=key)
        draft = vault.draft(BACKUP)
        await draft.take("archive.dump", pieces(b"PGDMP"))
        assert vault.folders() == []
        assert [p.name for p in vault.root.iterdir()] == [f".{FOLDER}.part"]
        await draft.discard()
        await a_copy(vault)
        assert vault.folders() == [FOLDER]
        async with vault.open(FOLDER) as found:
            assert found.archive.read_bytes() == b"PGDMPrest"
            assert b"".join(found.rows()) == b"t\t1\nt\t2\n"
        assert {p.stat().st_mode & 0o777 for p in (vault.root / FOLDER).iterdir()} == {0o600}
        assert sorted(p.name for p in vault.root.iterdir()) == [FOLDER]

    asyncio.run(run())


def test_rows_are_counted(tmp_path: Path) -> None:
    async def run() -> None:
        draft = Vault(tmp_path).draft(BACKUP)
        assert (await draft.take_rows(pieces(b"a\nb", b"\n", b"", b"c\\nd\n")))[1] == 3
        with pytest.raises(VaultError, match="File exists"):
            Vault(tmp_path).draft(BACKUP)

    asyncio.run(run())


BROKEN = [("archive.dump", "SHA-256"), ("rows.copy.gz", "SHA-256"), ("manifest.json", "manifest")]


@pytest.mark.parametrize(("name", "match"), BROKEN)
@pytest.mark.parametrize("how", ["changed", "cut", "gone"])
def test_damage_is_found(tmp_path: Path, name: str, match: str, how: str) -> None:
    async def run() -> None:
        vault = Vault(tmp_path)
        draft = vault.draft(BACKUP)
        await draft.take("archive.dump", pieces(b"PGDMP"))
        await draft.take_rows(pieces(b"1\n"))
        sha256 = await draft.finish({"kind": "dump"})
        backup = Backup(BACKUP.id, BACKUP.kind, BackupState.DONE, "shop", FOLDER, BACKUP.created_at, manifest_sha256=sha256)
        async with vault.open(backup):
            pass
        path = tmp_path / FOLDER / name
        data = path.read_bytes()
        if how == "gone":
            path.unlink()
        else:
            path.write_bytes(
                data[:-1] if how == "cut" else data.replace(b"d", b"e", 1) if b"d" in data else bytes([data[0] ^ 1]) + data[1:]
            )
        with pytest.raises(VaultError, match=match if how != "gone" else f"{name}|has no"):
            async with vault.open(backup):
                pass
        assert [p.name for p in tmp_path.iterdir()] == [FOLDER]

    asyncio.run(run())


@pytest.mark.parametrize("folder", ["", ".", "..", "../x", "a/b", "/etc", ".hidden"])
def test_nothing_outside_of_the_folder_is_opened_or_removed(tmp_path: Path, folder: str) -> None:
    async def run() -> None:
        vault = Vault(tmp_path / "b")
        (tmp_path / "x").mkdir()
        (tmp_path / "x" / "manifest.json").write_text("{}")
        with pytest.raises(VaultError, match="no copy's folder"):
            async with vault.open(folder):
                pass
        await vault.remove(Backup(BACKUP.id, BACKUP.kind, BackupState.DONE, "shop", folder, BACKUP.created_at))
        assert (tmp_path / "x" / "manifest.json").exists()

    asyncio.run(run())


def test_a_manifest_cannot_point_elsewhere(tmp_path: Path) -> None:
    async def run() -> None:
        vault = Vault(tmp_path)
        await a_copy(vault)
        path = tmp_path / FOLDER / "manifest.json"
        told = json.loads(path.read_text())
        told["files"][0]["name"] = "../../etc/passwd"
        path.write_text(json.dumps(told))
        with pytest.raises(VaultError, match="outside of its folder"):
            async with vault.open(FOLDER):
                pass

    asyncio.run(run())


def test_what_a_process_that_died_left_is_swept_and_orphans_are_told(tmp_path: Path) -> None:
    async def run() -> None:
        vault = Vault(tmp_path)
        draft = vault.draft(BACKUP)
        await draft.take("archive.dump", pieces(b"x"))
        (tmp_path / ".open-abc").mkdir()
        assert sorted(await vault.sweep()) == [f".{FOLDER}.part", ".open-abc"]
        await a_copy(vault)
        assert await vault.sweep() == []
        assert vault.orphans(set()) == [FOLDER]
        assert vault.orphans({FOLDER}) == []
        await vault.remove(Backup(BACKUP.id, BACKUP.kind, BackupState.DONE, "shop", FOLDER, BACKUP.created_at))
        assert list(tmp_path.iterdir()) == []

    asyncio.run(run())


def test_the_space_that_is_reserved(tmp_path: Path) -> None:
    free = Vault(tmp_path).free_bytes()
    Vault(tmp_path / "not" / "there").check_space(1)
    with pytest.raises(VaultError, match="MB free"):
        Vault(tmp_path).check_space(free * 2)
