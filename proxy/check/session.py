"""One connection's scripts judged in order, each as if those before it had run."""

from __future__ import annotations

from policy import Context, Engine, Judgement
from policy.judgement import SetsStandardStrings, TransactionStep
from proxy.knowledge import Knowledge


class SessionJudge:
    """Judges what one connection sends, without a server: every statement is taken to succeed, and what is held to be approved."""

    def __init__(self, engine: Engine, context: Context) -> None:
        self._engine = engine
        self._knowledge = Knowledge(context, engine)
        self._in_transaction = False

    def judge(self, script: bytes) -> Judgement:
        """Raises nothing."""
        judgement = self._engine.judge(script, self._knowledge.exact_context())
        standard: bool | None = None
        for report in judgement.statements:
            match report.transaction:
                case TransactionStep.BEGIN:
                    self._in_transaction = True
                case TransactionStep.COMMIT | TransactionStep.PREPARE:
                    self._in_transaction = False
                    self._knowledge.ready("I")
                case TransactionStep.ROLLBACK | TransactionStep.ROLLBACK_TO:
                    self._in_transaction = self._in_transaction and report.transaction is TransactionStep.ROLLBACK_TO
                    self._knowledge.rolled_back()
            self._knowledge.confirm(self._knowledge.begin(report.effects, 0))
            standard = next((e.on for e in report.effects if isinstance(e, SetsStandardStrings)), standard)
        self._knowledge.ready("T" if self._in_transaction else "I")
        if standard is not None:
            self._knowledge.parameter_status("standard_conforming_strings", "on" if standard else "off")
        return judgement
