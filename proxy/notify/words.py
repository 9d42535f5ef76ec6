"""Text of strangers, made safe to be told: statements, names, reasons.

A service may take parts of a text for more than text: addresses become links, @channel wakes everybody, brackets and stars change how
things look. So what a stranger wrote is shown with look-alikes of those characters, on one line and cut, and whatever does not show is
named. The whole text, as it is, stands on the console's page.
"""

from __future__ import annotations

from typing import Final

from proxy.console.script import one_line

#: One look on a phone.
STATEMENT_CHARACTERS: Final = 300
NAME_CHARACTERS: Final = 80
SUBJECT_CHARACTERS: Final = 150
REASON_CHARACTERS: Final = 300

#: What starts a mention, a link, a tag or other markup in one of the services. A look-alike stands for each.
_LOOK_ALIKES: Final = str.maketrans(
    {"@": "＠", "<": "‹", ">": "›", "[": "［", "]": "］", "`": "ˋ", "*": "∗", "~": "∼", "|": "∣", "&": "＆", "#": "＃", "\\": "＼"}
)


def cut(text: str, limit: int) -> str:
    """On one line, with every character that does not show as <U+XXXX>. No more is looked at than could be shown."""
    line = one_line(text[: limit * 8], limit)
    return line + "…" if len(text) > limit * 8 and not line.endswith("…") else line


def name(text: str) -> str:
    return cut(text, NAME_CHARACTERS)


def harmless(text: str) -> str:
    """With nothing left that a service could act on."""
    return text.translate(_LOOK_ALIKES).replace("://", ":／／")
