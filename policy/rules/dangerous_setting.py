from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, final

from policy.context import Context
from policy.facts import Facts
from policy.judgement import Finding
from policy.lexing import ASCII_UNSAFE
from policy.rule import Example, Rule
from policy.verdict import Profile, Verdict

_SAFE = {
    "session_replication_role": ("origin", "local"),
    "row_security": ("on", "true", "1", "yes"),
    "allow_system_table_mods": ("off", "false", "0", "no"),
}


def _encoding(value: str) -> str:
    name = value.upper().replace("-", "").replace("_", "")
    return {"SHIFTJIS": "SJIS", "MSKANJI": "SJIS", "WIN932": "SJIS", "WIN936": "GBK", "WIN949": "UHC", "WIN950": "BIG5"}.get(
        name, {"SHIFTJIS2004": "SHIFT_JIS_2004"}.get(name, name)
    )


@final
class DangerousSetting(Rule):
    """session_replication_role, allow_system_table_mods, or a client_encoding whose characters hide ASCII.

    Why it is held: triggers and foreign keys are off then, or text is read in another way.
    Instead: leave the setting as it is, and name what is in the way
    Known gaps: none known
    """

    id: ClassVar = "dangerous-setting"
    verdict: ClassVar = Verdict.HOLD
    since: ClassVar = "0.1.0"
    looks_at: ClassVar = ("settings",)
    triggers: ClassVar = (
        Example("SET session_replication_role = replica"),
        Example("SELECT set_config('session_replication_role', 'replica', false)"),
        Example("SET client_encoding TO 'SJIS'"),
        Example("SET NAMES 'GBK'"),
    )
    passes: ClassVar = (
        Example("SET client_encoding TO 'UTF8'"),
        Example("SET session_replication_role = origin"),
        Example("SET row_security = off", because="pg_dump does"),
        Example("SET statement_timeout = 0"),
    )

    def check(self, facts: Facts, context: Context) -> Iterator[Finding]:
        for setting in facts.settings:
            if setting.is_reset:
                continue
            value = (setting.value or "?").lower()
            if setting.name == "row_security" and context.profile is Profile.GUARD:
                continue  # pg_dump sets it, so that it fails rather than leave rows out
            if setting.name in _SAFE and value not in _SAFE[setting.name]:
                yield self.found(f"sets {setting.name}", setting.statement)
            elif setting.name in ("client_encoding", "names") and _encoding(value) in ASCII_UNSAFE | {"?"}:
                yield self.found("sets a client_encoding in which text can hide", setting.statement)
