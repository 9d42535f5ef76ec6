"""Masked scripts hold nothing of their literals, whatever those are."""

from __future__ import annotations

import asyncio
import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy.masking import mask_literals
from proxy.audit import JsonlAuditLog
from proxy.clock import SystemClock
from proxy.model import AuditEntry, AuditEvent


@pytest.mark.parametrize(
    ("script", "masked"),
    [
        ("DELETE FROM t WHERE id = 17", "DELETE FROM t WHERE id = ?"),
        ("SELECT 'a''b', E'q\\'r', $$x$$, $t$ a$$b $t$, U&'d\\0061', B'101', X'1F', N'k'", "SELECT ?, ?, ?, ?, ?, ?, ?, N?"),
        ("SELECT U&'d!0061' UESCAPE '!'", "SELECT ? UESCAPE ?"),
        ("SELECT 1.5e10, .5, 0x1F, 0b11, 0o17, 1_000, -3, 1..2", "SELECT ?, ?, ?, ?, ?, ?, -?, ?..?"),
        ("SELECT 'a'\n 'b', $1, \"na'me\", a$1, u&\"x\"", 'SELECT ?, $1, "na\'me", a$1, u&"x"'),
        ("SELECT 1 -- 'x' 17\n, /* /* 5 */ */ b", "SELECT ? /* … */\n, /* … */ b"),
        ("DO $b$ BEGIN x := 'secret'; END $b$", "DO ?"),
        ('TRUNCATE "Über" -- ü', 'TRUNCATE "Über" /* … */'),
        ("SELECT 'unterminated", "(masked: 20 characters)"),
        ("SELECT 12abc", "(masked: 12 characters)"),
        # With standard_conforming_strings off this is one literal and no name.
        ("SELECT 'a\\' secret \\' b'", "(masked: 24 characters)"),
        ("SELECT 1\0", "(masked: 9 characters)"),
        ("SELECT " + "/*" * 100 + "5" + "*/" * 100, "(masked: 408 characters)"),
        ("", ""),
    ],
)
def test_masked(script: str, masked: str) -> None:
    assert mask_literals(script) == masked


#: Letters that no keyword, name or mask of the templates has.
SECRET = st.text("QXZ7ßж漢", min_size=1, max_size=8)


@st.composite
def literals(draw: st.DrawFn) -> str:
    body = draw(SECRET)
    noise = draw(st.sampled_from(["", "''", "''''", "--", "/*", "*/", ";", "$", "$$", '"', "\n", "\\\\", "\\'", "\\"]))
    tail = draw(SECRET)
    form = draw(st.sampled_from(["'{}'", "E'{}'", "e'{}'", "U&'{}'", "N'{}'", "$${}$$", "$q${}$q$", "'{}'\n'{}'", "7{}", "'{}"]))
    if form == "7{}":
        return "7" * draw(st.integers(1, 9)) + draw(st.sampled_from(["", ".77", "e7", "_7"]))
    return form.replace("{}", body + noise + tail)


TEMPLATES = [
    "DELETE FROM t WHERE a = {} AND b IN ({}, {})",
    "INSERT INTO t VALUES ({}, $1, {})",
    "SELECT {} {}",
    "{}{}",
    "UPDATE t SET n={}",
]


@given(st.sampled_from(TEMPLATES), st.lists(literals(), min_size=3, max_size=3))
def test_no_character_of_a_literal_survives(template: str, values: list[str]) -> None:
    """A literal may be broken, run into another, or be lexed otherwise by another setting: then all of the text is masked."""
    masked = mask_literals(template.format(*values[: template.count("{}")]))
    if masked.startswith("(masked:"):
        return
    assert not set(masked) & set("QXZ7ßж漢"), masked


@given(st.text(max_size=200) | st.text("'\"$\\-/*eEuU&bB 1;a\n", max_size=60))
def test_any_text_is_masked_or_has_no_quote(text: str) -> None:
    masked = mask_literals(text)
    outside = "".join(part for i, part in enumerate(masked.split('"')) if i % 2 == 0)
    assert "'" not in outside or masked.startswith("(masked:")


async def test_log_has_the_masked_script_and_the_digest_of_the_exact_one(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    script = "DELETE FROM t WHERE name = 'QXZ'"
    digest = hashlib.sha256(script.encode()).hexdigest()
    log = JsonlAuditLog(path, SystemClock(), mask=mask_literals)
    entry = AuditEntry(
        AuditEvent.HELD,
        script=script,
        script_sha256=digest,
        detail={"suggestion": "DELETE FROM t WHERE name = 'QXZ' AND id = 5", "rows": 5},
    )
    await asyncio.gather(log.append(entry), log.submit(entry, late=True))
    await log.close()
    for line in path.read_text().splitlines():
        assert "QXZ" not in line
        record = json.loads(line)
        assert record["script"] == "DELETE FROM t WHERE name = ?"
        assert record["script_sha256"] == digest
        assert record["detail"] == {"suggestion": "DELETE FROM t WHERE name = ? AND id = ?", "rows": 5}
