"""Signed checkpoints: what is cut from the log, or written anew with hashes that fit, shows."""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from proxy.audit import JsonlAuditLog, record_hash, verify
from proxy.audit.care import AuditCare
from proxy.audit.checkpoints import append_line, last_checkpoint, make_checkpoint, read_checkpoint, read_lines, verify_against
from proxy.audit.compare import VerificationImpossibleError, verify_everything
from proxy.audit.files import rotated_files
from proxy.audit.keys import KeyFileError, KeyRing, SigningKey, follow_keys, read_public_keys
from proxy.audit.rotation import Rotation
from proxy.audit.start import open_audit
from proxy.clock import SystemClock
from proxy.config import Settings
from proxy.model import AuditEntry, AuditEvent
from proxy.seams import AuditError
from proxy.tasks import Tasks
from tests.receivers import Datagrams

CLOCK = SystemClock()


def settings_for(folder: Path, **more: object) -> Settings:
    place = folder / "elsewhere.jsonl"
    return Settings(data_dir=folder, audit_checkpoints=[f"file:{place}"], audit_checkpoint_records=10, **more)  # type: ignore[arg-type]


async def run(settings: Settings, count: int, after: Callable[[AuditCare], object] | None = None) -> None:
    """As the proxy does: open, take care, write, stop."""
    failures: list[BaseException] = []
    log = open_audit(settings, CLOCK, lambda _: None)
    care = AuditCare(settings, log, CLOCK, lambda *_, **__: None)
    tasks = Tasks(lambda _, error: failures.append(error))
    await care.start(tasks.spawn)
    for i in range(count):
        await log.append(AuditEntry(AuditEvent.HELD, script=f"statement {i}"))
    if after is not None:
        result = after(care)
        if asyncio.iscoroutine(result):
            await result
    await care.stop()
    await log.close()
    await tasks.wait(5)
    assert not failures


@pytest.fixture
async def signed(tmp_path: Path) -> Path:
    """A log with checkpoints at 21 and 42 (records of the key included), and those in a second place."""
    settings = settings_for(tmp_path, audit_rotate_bytes=4000)
    await run(settings, 20)
    await run(settings, 21)
    return tmp_path / "audit.jsonl"


def check(path: Path) -> tuple[str | None, int | None]:
    report = verify_against(path, read_lines((path.parent / "elsewhere.jsonl").read_bytes()), KeyRing(path.parent).public_keys())
    return report.kind, report.line


async def test_checkpoints_are_in_both_places_and_fit(signed: Path) -> None:
    folder = signed.parent
    assert (folder / "audit.key").stat().st_mode & 0o777 == 0o600
    assert (folder / "audit.checkpoints.jsonl").read_bytes() == (folder / "elsewhere.jsonl").read_bytes()
    last = last_checkpoint(folder / "elsewhere.jsonl")
    report = verify(signed)
    assert last is not None
    assert (last.seq, last.hash) == (report.last, report.last_hash)
    results = verify_everything(signed, None, None)
    assert results.report.problem is None
    assert results.report.checkpoints >= 2
    assert results.places == ["audit.checkpoints.jsonl"]


async def test_configured_second_place_is_used_by_itself(signed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = signed.parent / "elsewhere.jsonl"
    (signed.parent / "pghold.toml").write_text(f'audit_checkpoints = ["file:{place}"]\n')
    monkeypatch.chdir(signed.parent)
    assert verify_everything(signed, None, None).places == ["audit.checkpoints.jsonl", f"file:{place}"]
    place.unlink()
    unread = verify_everything(signed, None, None).unread
    assert len(unread) == 1
    assert "No such file" in unread[0]
    with pytest.raises(VerificationImpossibleError, match="No such file"):
        verify_everything(signed, str(place), None)


def _cut(path: Path) -> None:
    """The last records are gone, at a record's end: the chain itself is whole."""
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))


def _rewritten(path: Path) -> None:
    """Another script in an early record, and every hash behind it made anew."""
    previous = "0" * 64
    for file in [f.path for f in rotated_files(path)] + [path]:
        lines = []
        for line in file.read_text().splitlines():
            record = json.loads(line)
            if record["seq"] == 5:
                record["script"] = "nothing at all"
            if record["event"] == "rotated":
                record["detail"]["last_hash"] = previous
            record["prev"] = previous
            record["hash"] = previous = record_hash(record)
            lines.append(json.dumps(record))
        file.write_text("\n".join(lines) + "\n")


def _replaced(path: Path) -> None:
    for file in [f.path for f in rotated_files(path)] + [path]:
        file.unlink()
    (path.parent / "audit.checkpoints.jsonl").unlink()
    asyncio.run(_fresh(path))


async def _fresh(path: Path) -> None:
    log = JsonlAuditLog(path, CLOCK)
    await asyncio.gather(*(log.append(AuditEntry(AuditEvent.HELD, script="innocent")) for _ in range(100)))
    await log.close()


def _edited_checkpoint(path: Path) -> None:
    place = path.parent / "elsewhere.jsonl"
    lines = place.read_bytes().splitlines(keepends=True)
    record = json.loads(lines[1])
    record["hash"] = "0" * 64
    lines[1] = json.dumps(record).encode() + b"\n"
    place.write_bytes(b"".join(lines))


def _foreign_key(path: Path) -> None:
    key = SigningKey(Ed25519PrivateKey.generate())
    report = verify(path)
    append_line(path.parent / "elsewhere.jsonl", make_checkpoint(key, "x" * 32, (1, report.last_hash), CLOCK.now(), "interval"))


def _nonsense(path: Path) -> None:
    append_line(path.parent / "elsewhere.jsonl", b'{"type": "something else"}\n')


def _other_log(path: Path) -> None:
    key = KeyRing(path.parent).load()
    assert key is not None
    append_line(path.parent / "elsewhere.jsonl", make_checkpoint(key, "x" * 32, (1, "0" * 64), CLOCK.now(), "interval"))


@pytest.mark.parametrize(
    ("tamper", "kind"),
    [
        (_cut, "truncated"),
        (_rewritten, "hash_mismatch"),
        (_edited_checkpoint, "bad_signature"),
        (_foreign_key, "unknown_key"),
        (_nonsense, "bad_json"),
        (_other_log, "other_log"),
    ],
)
async def test_what_the_chain_alone_does_not_show(signed: Path, tamper: Callable[[Path], None], kind: str) -> None:
    tamper(signed)
    assert verify(signed).problem is None, "the chain alone is whole"
    found, line = check(signed)
    assert found == kind
    assert line


async def test_cut_or_rewritten_log_is_not_continued(signed: Path) -> None:
    kept = signed.read_bytes()
    _cut(signed)
    with pytest.raises(AuditError, match="truncated"):
        JsonlAuditLog(signed, CLOCK)
    signed.write_bytes(kept)
    JsonlAuditLog(signed, CLOCK)


async def test_rewritten_tail_is_not_continued(tmp_path: Path) -> None:
    await run(settings_for(tmp_path), 5)
    path = tmp_path / "audit.jsonl"
    _rewritten(path)
    assert verify(path).problem is None
    with pytest.raises(AuditError, match="hash_mismatch"):
        JsonlAuditLog(path, CLOCK)


def test_another_log_in_its_place_is_seen(tmp_path: Path) -> None:
    asyncio.run(run(settings_for(tmp_path), 5))
    _replaced(tmp_path / "audit.jsonl")
    assert check(tmp_path / "audit.jsonl")[0] == "other_log"


async def test_all_files_gone(signed: Path) -> None:
    for file in [f.path for f in rotated_files(signed)] + [signed]:
        file.unlink()
    with pytest.raises(VerificationImpossibleError):
        verify_everything(signed, str(signed.parent / "elsewhere.jsonl"), None)


# --- keys ---------------------------------------------------------------------------------------------------------------


async def test_key_is_changed_on_record_and_the_first_one_is_enough_to_follow(tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    ring = KeyRing(tmp_path)
    await run(settings, 3)
    first = tmp_path / "first.pem"
    first.write_text(ring.public_keys()[0].pem)
    fresh = ring.prepare_next()

    async def changed(care: AuditCare) -> None:
        async with asyncio.timeout(20):
            while care.key_id != fresh.public.id:
                await asyncio.sleep(0.01)

    await run(settings, 3, changed)
    await run(settings, 3)
    path = tmp_path / "audit.jsonl"
    assert not ring.next_path.exists()
    assert [k.id for k in ring.public_keys()][-1] == fresh.public.id
    lines = read_lines((tmp_path / "elsewhere.jsonl").read_bytes())
    assert len({c.key for line in lines if (c := read_checkpoint(line)) is not None}) == 2
    report = verify_everything(path, str(tmp_path / "elsewhere.jsonl"), first).report
    assert report.problem is None
    assert report.checkpoints == len(lines)
    # Who trusts neither of the two is told so.
    stranger = tmp_path / "stranger.pem"
    stranger.write_text(SigningKey(Ed25519PrivateKey.generate()).public.pem)
    assert verify_everything(path, str(tmp_path / "elsewhere.jsonl"), stranger).report.kind == "unknown_key"


def test_key_that_nobody_vouches_for_is_not_trusted() -> None:
    old, new, thief = (SigningKey(Ed25519PrivateKey.generate()) for _ in range(3))
    from proxy.audit.keys import key_entry

    def record(entry: AuditEntry, **changed: object) -> dict[str, object]:
        return {"event": "audit key", "detail": {**entry.detail, **changed}}

    good = record(key_entry(new.public, old))
    stolen = record(key_entry(thief.public, thief), signed_by=old.public.id)
    swapped = record(key_entry(new.public, old), public_key=base64.b64encode(thief.public.raw).decode())
    none = record(key_entry(thief.public, None))
    assert set(follow_keys([old.public], [good])) == {old.public.id, new.public.id}  # type: ignore[list-item]
    for bad in (stolen, swapped, none, {"detail": None}, record(key_entry(new.public, old), public_key="!")):
        assert set(follow_keys([old.public], [bad])) == {old.public.id}  # type: ignore[list-item]


async def test_lost_key_does_not_go_unnoticed(tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    await run(settings, 3)
    first = tmp_path / "first.pem"
    first.write_text(KeyRing(tmp_path).public_keys()[0].pem)
    (tmp_path / "audit.key").unlink()
    await run(settings, 3)
    assert verify_everything(tmp_path / "audit.jsonl", str(tmp_path / "elsewhere.jsonl"), first).report.kind == "unknown_key"


@pytest.mark.parametrize("content", [b"", b"nonsense", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
async def test_key_that_cannot_be_read_stops_the_start(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "audit.key").write_bytes(content)
    with pytest.raises(AuditError, match=r"audit\.key"):
        await run(settings_for(tmp_path), 1)
    assert (tmp_path / "audit.key").read_bytes() == content, "it is not written over"
    with pytest.raises(KeyFileError):
        read_public_keys(tmp_path / "audit.key")


# --- by hand, and torn lines --------------------------------------------------------------------------------------------


async def test_openssl_accepts_a_checkpoint(tmp_path: Path) -> None:
    """As docs/audit.md says it is done by hand."""
    await run(settings_for(tmp_path), 3)
    checkpoint = json.loads((tmp_path / "elsewhere.jsonl").read_text().splitlines()[-1])
    (tmp_path / "signature").write_bytes(base64.b64decode(checkpoint.pop("signature")))
    (tmp_path / "message").write_text(json.dumps(checkpoint, sort_keys=True, separators=(",", ":")))
    (tmp_path / "key.pem").write_text(KeyRing(tmp_path).public_keys()[0].pem)
    command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", "key.pem", "-rawin", "-in", "message", "-sigfile", "signature"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "Verified Successfully" in done.stdout, done


async def test_torn_line_of_a_second_place_is_no_tampering(signed: Path) -> None:
    place = signed.parent / "elsewhere.jsonl"
    lines = place.read_bytes().splitlines(keepends=True)
    place.write_bytes(b"".join([*lines[:-1], lines[-1][:50]]))
    assert check(signed) == (None, None)
    append_line(place, lines[-1])  # delivered again, as after a crash
    assert check(signed) == (None, None)
    assert place.read_bytes().endswith(b"\n" + lines[-1])


async def test_second_place_that_fails_catches_up(tmp_path: Path) -> None:
    place = tmp_path / "not yet" / "elsewhere.jsonl"
    settings = Settings(data_dir=tmp_path, audit_checkpoints=[f"file:{place}"], audit_checkpoint_records=1)

    async def wait(care: AuditCare) -> None:
        async with asyncio.timeout(20):
            while not care.places[0].state.failures:
                await asyncio.sleep(0.01)
        assert any("No such file" in w for w in care.warnings())
        place.parent.mkdir()
        async with asyncio.timeout(20):
            while care.places[0].state.lag:
                await asyncio.sleep(0.01)

    await run(settings, 3, wait)
    assert place.read_bytes() == (tmp_path / "audit.checkpoints.jsonl").read_bytes()


# --- removal -------------------------------------------------------------------------------------------------------------


async def test_file_is_removed_when_every_sink_has_had_it(tmp_path: Path) -> None:
    got = tmp_path / "socket"
    settings = Settings(data_dir=tmp_path, audit_rotate_bytes=2000, audit_keep=1, audit_compress=True, audit_sinks=[f"syslog+unix:{got}"])
    path = tmp_path / "audit.jsonl"

    async def look(care: AuditCare) -> None:
        files = len(rotated_files(path))
        assert files > 2
        await care._tidy()
        assert len(rotated_files(path)) >= files, "the sink has had none of them"
        assert any("kept until every sink has had it" in w for w in care.warnings())
        with closing(Datagrams(got)):
            # The records of removals fill files as well, and the sink must have those, too.
            async with asyncio.timeout(30):
                while len(rotated_files(path)) > 2:
                    await care._tidy()
                    await asyncio.sleep(0.01)
        left = rotated_files(path)
        assert left[0].compressed

    await run(settings, 40, look)
    report = verify_everything(path, None, None).report
    assert report.problem is None
    assert report.first > 1
    await run(settings, 1)


# --- the command --------------------------------------------------------------------------------------------------------


def command(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "proxy", "audit", *arguments], env={"PGHOLD_DATA_DIR": str(folder), "PATH": "/usr/bin:/bin"},
        capture_output=True, text=True, check=False, cwd=folder,
    )  # fmt: skip


async def test_commands(signed: Path) -> None:
    folder = signed.parent
    whole = command(folder, "verify")
    assert whole.returncode == 0, whole
    assert "the chain is whole" in whole.stdout
    assert "signed checkpoints fit (audit.checkpoints.jsonl)" in whole.stdout
    key = command(folder, "key")
    (folder / "safe.pem").write_text(key.stdout)
    assert read_public_keys(folder / "safe.pem")[0].id in key.stderr
    assert json.loads(command(folder, "key", "--json").stdout)["all"][0]["current"] is True
    named = command(folder, "verify", "--checkpoints", "elsewhere.jsonl", "--key", "safe.pem", "--json")
    assert json.loads(named.stdout)["places"] == ["elsewhere.jsonl"]
    alone = json.loads(command(folder, "verify", "--checkpoints", "none", "--json").stdout)
    assert alone["checkpoints"] == 0
    _cut(signed)
    broken = command(folder, "verify", "--checkpoints", f"file:{folder}/elsewhere.jsonl", "--json")
    assert (broken.returncode, json.loads(broken.stdout)["kind"]) == (1, "truncated")
    assert command(folder, "verify", "--checkpoints", "none").returncode == 0
    for arguments in (["--checkpoints", "gopher://x"], ["--checkpoints", "missing.jsonl"], ["--key", "missing.pem"]):
        assert command(folder, "verify", *arguments).returncode == 2
    rotated = json.loads(command(folder, "key", "--rotate", "--json").stdout)
    assert rotated["next"] != rotated["key"]


def test_rotation_default_is_256_mib() -> None:
    assert Rotation().max_bytes == 256 << 20 == Settings().audit_rotate_bytes


async def test_local_file_is_no_second_place(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, audit_checkpoints=[f"file:{tmp_path}/x/../audit.checkpoints.jsonl"])
    (tmp_path / "x").mkdir()
    log = open_audit(settings, CLOCK, lambda _: None)
    with pytest.raises(AuditError, match="second place"):
        AuditCare(settings, log, CLOCK, lambda *_, **__: None)
    await log.close()


async def test_verification_that_comes_to_no_result_is_not_repeated_at_once(tmp_path: Path) -> None:
    class Moment:
        at = CLOCK.now()

        def now(self) -> datetime:
            return self.at

    clock = Moment()
    log = JsonlAuditLog(tmp_path / "audit.jsonl", clock)
    care = AuditCare(Settings(data_dir=tmp_path), log, clock, lambda *_, **__: None)
    await log.append(AuditEntry(AuditEvent.STARTED))
    care._started_at = clock.at
    assert not care._verification_due()
    clock.at += timedelta(minutes=5)
    assert care._verification_due()
    (tmp_path / "audit.key.pub").write_text("no key")
    await care.verify()
    assert "came to no result" in care.verifier.error
    assert care.warnings()
    assert not care._verification_due()
    clock.at += timedelta(hours=2)
    assert care._verification_due()
    (tmp_path / "audit.key.pub").unlink()
    await care.verify()
    assert care.verifier.last is not None
    assert care.verifier.last.report.records == 1
    assert not care.verifier.error
    await log.close()
