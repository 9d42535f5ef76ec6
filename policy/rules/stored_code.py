from __future__ import annotations

from typing import ClassVar, final

from policy.rule import ActRule, Example
from policy.verdict import Severity, Verdict


@final
class StoredCode(ActRule):
    """Creating or changing code that runs later: functions, procedures, triggers, rules, policies, casts, operators, event triggers.

    Why it is held: it runs later out of sight of this proxy, and OR REPLACE loses the old body.
    Instead: ask for approval of the code once
    Known gaps: none known
    """

    id: ClassVar = "stored-code"
    verdict: ClassVar = Verdict.ALLOW
    strict: ClassVar = Verdict.HOLD
    severity: ClassVar = Severity.LOW
    since: ClassVar = "0.1.0"
    looks_at: ClassVar = ("acts",)
    triggers: ClassVar = (
        Example("CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'"),
        Example("CREATE SCHEMA s CREATE TRIGGER t BEFORE INSERT ON account FOR EACH ROW EXECUTE FUNCTION f()"),
        Example("ALTER FUNCTION f() SECURITY DEFINER"),
    )
    passes: ClassVar = (Example("CREATE VIEW totals AS SELECT 1"),)
    kinds: ClassVar = frozenset(
        {
            "CREATE FUNCTION",
            "CREATE OR REPLACE FUNCTION",
            "CREATE PROCEDURE",
            "CREATE OR REPLACE PROCEDURE",
            "CREATE TRIGGER",
            "CREATE OR REPLACE TRIGGER",
            "CREATE RULE",
            "CREATE OR REPLACE RULE",
            "CREATE POLICY",
            "ALTER POLICY",
            "CREATE EVENT TRIGGER",
            "ALTER EVENT TRIGGER",
            "CREATE CAST",
            "CREATE OPERATOR",
            "CREATE AGGREGATE",
            "CREATE OR REPLACE AGGREGATE",
            "CREATE TRANSFORM",
            "CREATE CONVERSION",
            "CREATE OPERATOR CLASS",
            "ALTER FUNCTION",
            "ALTER OPERATOR",
            "CREATE ACCESS METHOD",
            "CREATE OR REPLACE VIEW",
        }
    )
