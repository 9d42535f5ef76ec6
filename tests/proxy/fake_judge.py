"""A policy engine for tests of the core: it knows statements by their words, and judges nothing else."""

from __future__ import annotations

from policy.context import Context
from policy.judgement import (
    CreatesTemp,
    Deallocates,
    Declares,
    Effect,
    Finding,
    ForgetsTemp,
    Judgement,
    Prepares,
    StatementReport,
    TransactionStep,
)
from policy.verdict import Verdict

_STEPS = {
    "begin": TransactionStep.BEGIN,
    "commit": TransactionStep.COMMIT,
    "rollback": TransactionStep.ROLLBACK,
}


class FakeJudge:
    """`danger …` is held, `forbidden …` denied, `warn …` warned about, `drop NAME` held unless NAME is temporary.

    `prepare NAME as …`, `execute NAME`, `deallocate NAME|all`, `declare NAME`, `temp NAME` do what they say.
    """

    def __init__(self) -> None:
        self.judged: list[bytes] = []

    def settled(self, script: bytes, context: Context) -> Judgement | None:
        if b"\0" in script:
            return None
        judgement = self._judge(script.decode("utf-8", "replace"), context)
        return judgement if judgement.plain else None

    def judge(self, script: bytes, context: Context) -> Judgement:
        self.judged.append(script)
        return self._judge(script.decode("utf-8", "replace"), context)

    def judge_bound(self, script: bytes, context: Context, values: tuple[bytes | None, ...]) -> Judgement:
        return self.judge(script, context)

    def judge_function_call(self, oid: int, context: Context) -> Judgement:
        return Judgement(Verdict.ALLOW) if oid < 1000 else held("function-call", f"calls function {oid}")

    def _judge(self, script: str, context: Context) -> Judgement:
        findings: list[Finding] = []
        reports: list[StatementReport] = []
        context_free = True
        for text in (part.strip() for part in script.split(";") if part.strip()):
            words = text.split()
            effects: tuple[Effect, ...] = ()
            match words:
                case ["danger", *_]:
                    findings.append(Finding("danger", Verdict.HOLD, "dangerous", "be careful", relations=("t",)))
                case ["forbidden", *_]:
                    findings.append(Finding("forbidden", Verdict.DENY, "forbidden", "do not"))
                case ["warn", *_]:
                    findings.append(Finding("warn", Verdict.WARN, "odd", ""))
                case ["drop", name]:
                    context_free = False
                    if name not in context.temp_relations:
                        findings.append(Finding("drop", Verdict.HOLD, f"drops {name}", "", relations=(name,)))
                    effects = (ForgetsTemp(name),)
                case ["temp", name]:
                    effects = (CreatesTemp(name),)
                case ["prepare", name, "as", *body]:
                    inner = self._judge(" ".join(body), context)
                    findings += inner.findings
                    effects = (Prepares(name, inner),)
                case ["execute", name]:
                    context_free = False
                    candidates = context.prepared.get(name)
                    if candidates is None:
                        findings.append(Finding("unknown-prepared-statement", Verdict.HOLD, f"{name} is unknown", ""))
                    else:
                        findings += max(candidates, key=lambda j: j.verdict).findings
                case ["deallocate", name]:
                    effects = (Deallocates(None if name == "all" else name),)
                case ["declare", name, *_]:
                    effects = (Declares(name),)
                case _:
                    pass
            step = _STEPS.get(words[0])
            reports.append(StatementReport(words[0].upper(), (0, len(script)), (), effects, step))
        verdict = max((f.verdict for f in findings), default=Verdict.ALLOW)
        return Judgement(verdict, tuple(findings), tuple(reports), context_free, False, script)


def held(rule_id: str, message: str) -> Judgement:
    return Judgement(Verdict.HOLD, (Finding(rule_id, Verdict.HOLD, message, ""),))
