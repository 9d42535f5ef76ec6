"""Tools are recognised by what they were recorded to send, and by nothing else."""

from __future__ import annotations

import json
from collections import deque
from pathlib import Path

import pytest

import policy.tools
from policy import Context, Engine, Environment, Verdict
from policy.tools import Act, Evidence, Reach, Tool, recognise
from policy.view import RuleAction, View

RECORDINGS = sorted((Path(__file__).parent / "recordings").glob("*.json"))
#: What is no act at all.
ORDINARY = ("-work", "-again", "from-empty", "upgrade-ordinary", "stamp-purge", "-drop-one", "test-run")


def acts(recording: Path) -> list[Act]:
    """What the statements of one session are recognised as, one by one as they are found dangerous."""
    told = json.loads(recording.read_text())
    engine = Engine()
    marks: set[str] = set()
    recent: deque[str] = deque(maxlen=16)
    found = []
    for script in told["statements"]:
        judgement = engine.judge(script.encode(), Context())
        marks.update(judgement.marks)
        if judgement.verdict >= Verdict.HOLD:
            evidence = Evidence(told["application_name"], told["database"], frozenset(marks), tuple(recent), script, judgement)
            if (act := recognise(evidence)) is not None:
                found.append(act)
        recent.append(script[:1024])
    return found


@pytest.mark.parametrize("recording", RECORDINGS, ids=lambda r: r.stem)
def test_recorded_session(recording: Path) -> None:
    found = acts(recording)
    tool = recording.stem.partition("-")[0]
    if any(word in recording.stem for word in ORDINARY):
        assert not [a for a in found if a.forced and a.reach is not Reach.DATABASE], found
    else:
        assert found
        assert {a.tool.lower() for a in found} == {tool}
        if "flush" in recording.stem or "drop-all" in recording.stem:
            assert found[0].forced


@pytest.mark.parametrize(
    "script",
    [
        "DROP TABLE account",
        "DROP TABLE IF EXISTS account CASCADE;",
        "TRUNCATE a, b",
        "DROP SCHEMA public CASCADE",
        "drop table a",
        'DROP DATABASE "shop"',
        "DROP DATABASE shop",
    ],
)
@pytest.mark.parametrize("recent", [(), ("SELECT 1",)])
def test_what_a_person_types_is_no_act(script: str, recent: tuple[str, ...]) -> None:
    judgement = Engine().judge(script.encode(), Context())
    assert recognise(Evidence("psql", "shop", frozenset(judgement.marks), recent, script, judgement)) is None


@pytest.mark.parametrize("script", ["DROP TABLE " + '"' * 50_000, "DROP TABLE IF EXISTS " + "a." * 30_000, "\nDROP TABLE " + "a" * 60_000])
def test_hostile_scripts_take_no_time(script: str) -> None:
    judgement = Engine().unanalysable("test", script.encode())
    marks = frozenset(mark for tool in policy.tools.ALL_TOOLS for mark in tool.marks)
    recognise(Evidence("x", "shop", marks, (script[:1024],) * 16, script, judgement))


def test_recogniser_that_fails_finds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(Tool):
        name = "Broken"

        def recognise(self, evidence: Evidence) -> Act | None:
            raise ValueError

    monkeypatch.setattr(policy.tools, "ALL_TOOLS", (Broken(),))
    judgement = Engine().judge(b"DROP TABLE a", Context())
    assert recognise(Evidence("", "", frozenset(), (), "DROP TABLE a", judgement)) is None


FORCED = Act("Sequelize", "force sync")


@pytest.mark.parametrize(
    ("engine", "database", "verdict"),
    [
        (Engine(), "shop", Verdict.DENY),
        (Engine(environment=Environment.DEVELOPMENT), "shop", Verdict.HOLD),
        (Engine(environment=Environment.TEST), "shop", Verdict.WARN),
        (Engine(view=View(allows_forced_sync=True)), "shop", Verdict.HOLD),
        (Engine(view=View(test_databases=("*_test",))), "shop_test", Verdict.WARN),
        (Engine(view=View(test_databases=("*_test",))), "shop", Verdict.DENY),
        (Engine(view=View(actions=(RuleAction(("forced-sync",), Verdict.ALLOW, reason="rebuilt nightly"),))), "shop", Verdict.WARN),
        (Engine(view=View(actions=(RuleAction(("forced-sync",), Verdict.HOLD),))), "shop", Verdict.HOLD),
        (Engine(environment=Environment.TEST, view=View(actions=(RuleAction(("forced-sync",), Verdict.DENY),))), "shop", Verdict.DENY),
    ],
)
def test_forced_sync_is_judged_by_environment_database_and_policy(engine: Engine, database: str, verdict: Verdict) -> None:
    judgement = engine.judge(b"DROP TABLE IF EXISTS account CASCADE", Context())
    assert engine.as_act(judgement, FORCED, database).verdict is verdict


def test_something_else_in_the_same_script_is_not_let_pass_with_it() -> None:
    engine = Engine(environment=Environment.TEST)
    judgement = engine.judge(b"DROP TABLE account; COPY x TO PROGRAM 'y'", Context())
    assert engine.as_act(judgement, FORCED, "shop").verdict is Verdict.DENY
