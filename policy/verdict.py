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


class Environment(StrEnum):
    PRODUCTION = "production"
    DEVELOPMENT = "development"
    TEST = "test"


class Profile(StrEnum):
    GUARD = "guard"
    STRICT = "strict"


DEFAULT_PROFILE: Final = Profile.GUARD
