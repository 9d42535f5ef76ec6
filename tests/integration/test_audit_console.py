"""The Audit page's state of the log: files, sinks, checkpoints, and a verification that runs beside the proxy."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.audit.files import rotated_files
from tests.browsing import Browser
from tests.servers import Pghold, PostgresServer, wait_for


@pytest.fixture
def kept(postgres18: PostgresServer, tmp_path: Path) -> Iterator[Pghold]:
    """A proxy whose log has several files, a second place that works and a sink that does not."""
    policy = tmp_path / "pghold.toml"
    policy.write_text(
        f'audit_rotate_bytes = 3000\naudit_checkpoints = ["file:{tmp_path}/elsewhere.jsonl"]\n'
        'audit_sinks = ["http://127.0.0.1:9/S3CR3T#hmac=S3CR3T", "stdout"]\naudit_checkpoint_records = 1\n'
    )
    proxy = Pghold(f"postgresql://127.0.0.1:{postgres18.port}/postgres", "--policy", str(policy), folder=tmp_path)
    yield proxy
    Browser.close_all()
    assert proxy.stop() == 0


def grow(proxy: Pghold) -> Path:
    """Until it was rotated twice; failed logins and reloads are recorded as well."""
    log = proxy.folder / "data" / "audit.jsonl"
    for i in range(4):
        Browser(proxy, None).sign_in(f"nobody {i}", "wrong")
    while len(rotated_files(log)) < 2:
        assert proxy.http.post("/api/v1/reload").status_code == 200
    return log


def test_page_shows_files_sinks_and_checkpoints(kept: Pghold) -> None:
    log = grow(kept)
    page = Browser(kept).get("/audit").text
    for file in rotated_files(log):
        assert file.name in page
    assert "audit.jsonl" in page
    assert re.search(r"http://127\.0\.0\.1:9.*?ConnectError", page, re.DOTALL)
    assert "stdout" in page
    assert f"file:{kept.folder}/elsewhere.jsonl" in page
    assert re.search(r"last checkpoint</dt><dd>#\d+", page)
    assert "S3CR3T" not in page
    assert "The files before it were not read yet" in page or "The chain is whole" in page


def test_verification_runs_beside_it_and_its_result_stays(kept: Pghold) -> None:
    log = grow(kept)
    browser = Browser(kept)
    assert browser.post("/audit/verify").status_code == 303
    wait_for(lambda: "were verified" in browser.get("/audit/chain").text, 30)
    state = browser.get("/audit/chain").text
    assert "The chain is whole" in state
    assert re.search(r"with \d+ signed checkpoint", state)
    found = json.loads((log.parent / "audit.verified.json").read_text())
    assert found["report"]["problem"] is None
    assert found["report"]["files"] >= 3
    # After a restart it is known without reading anything.
    Browser.close_all()
    assert kept.stop() == 0
    kept.start()
    assert "were verified" in Browser(kept).get("/audit").text


def test_broken_file_is_found_and_told_everywhere(kept: Pghold) -> None:
    log = grow(kept)
    file = rotated_files(log)[0]
    file.path.write_bytes(file.path.read_bytes().replace(b'"seq": 2,', b'"seq": 2 ,', 1).replace(b'"login failed"', b'"login faked"', 1))
    assert "login faked" in file.path.read_text()
    browser = Browser(kept)
    browser.post("/audit/verify")
    wait_for(lambda: "The chain is broken" in browser.get("/audit/chain").text, 30)
    page = browser.get("/audit").text
    assert file.name in page
    assert "hash_mismatch" in page
    ready = kept.http.get("/readyz")
    assert ready.status_code == 200
    assert any("the audit log is broken" in w for w in ready.json()["warnings"])
    assert kept.metric("pghold_audit_chain_broken") == 1
    assert "the audit log is broken" in browser.get("/health").text


def test_who_may_verify(kept: Pghold) -> None:
    browser = Browser(kept)
    assert browser.http.post("/audit/verify").status_code == 403, "without the form's token"
    anonymous = Browser(kept, None)
    assert anonymous.http.post("/audit/verify", data={"csrf": "x"}).status_code in (303, 401, 403)
    assert not (kept.folder / "data" / "audit.verified.json").exists()
