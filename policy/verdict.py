"""The three verdicts, and the settings that the engine is given once."""

from __future__ import annotations

from enum import IntEnum, StrEnum, unique
from typing import Final


@unique
class Verdict(IntEnum):
    """What policy says of a script; the strictest of a script's findings is the script's verdict."""

    ALLOW = 0
    WARN = 1  # forwarded at once, and on record
    HOLD = 2
    DENY = 3


@unique
class Severity(IntEnum):
    """How bad it is when what a rule found happens by mistake. Who may decide, and who is told, can depend on it."""

    LOW = 0  # disturbs others, or is only not proven harmless
    MEDIUM = 1
    HIGH = 2  # takes the content of a relation, or the guards of many
    CRITICAL = 3  # takes many relations at once, or the server's own state

    @property
    def label(self) -> str:
        return self.name.lower()


class Environment(StrEnum):
    PRODUCTION = "production"
    DEVELOPMENT = "development"
    TEST = "test"


class Profile(StrEnum):
    GUARD = "guard"
    STRICT = "strict"


DEFAULT_PROFILE: Final = Profile.GUARD
