"""What may be a password, and the form in which it is compared.

Length is what counts (NIST SP 800-63B section 3.1.1): no rules about kinds of characters. Refused is what a guesser tries first: one of the
common words with digits around it, the operator's own name, a run of the keyboard, the same few characters again and again.
"""

from __future__ import annotations

import re
import stringprep
import unicodedata
from typing import Final

MIN_CHARACTERS: Final = 12
_FEW_CHARACTERS: Final = 5
#: What is left of a password without the digits and signs around it, in lower case and with letters for the signs that stand for them.
_COMMON_WORDS: Final = """
password passwort admin administrator administration operator pghold postgres postgresql database welcome willkommen letmein changeme
changeit secret secure security default guest login master superuser iloveyou monkey dragon football baseball sunshine princess
shadow michael jordan harley hunter trustno summer winter spring autumn january february march april june july august september
october november december monday tuesday wednesday thursday friday saturday sunday production development testing company
passwordpassword adminadmin rootroot letmeinplease passphrase mypassword newpassword temppassword temporary whatever computer
internet server access approve approver correcthorsebatterystaple
"""
_COMMON: Final = frozenset(_COMMON_WORDS.split())
_RUNS: Final = (
    "01234567890123456789",
    "abcdefghijklmnopqrstuvwxyz",
    "qwertyuiopasdfghjklzxcvbnm",
    "qwertzuiopasdfghjklyxcvbnm",
    "1qaz2wsx3edc4rfv5tgb6yhn",
)
_SIGNS: Final = str.maketrans("@4310$5!7", "aaeiossit")
_PROHIBITED: Final = (
    stringprep.in_table_c12, stringprep.in_table_c21_c22, stringprep.in_table_c3, stringprep.in_table_c4, stringprep.in_table_c5,
    stringprep.in_table_c6, stringprep.in_table_c7, stringprep.in_table_c8, stringprep.in_table_c9, stringprep.in_table_a1,
)  # fmt: skip


def problem(password: str, name: str) -> str:
    """Why it cannot be this operator's; empty when it can."""
    if len(password) < MIN_CHARACTERS:
        return f"a password has {MIN_CHARACTERS} characters or more"
    folded = prepared(password).casefold()
    if len(set(folded)) < _FEW_CHARACTERS:
        return "this password is the same few characters again and again"
    if any(_has_run(folded, run) for run in _RUNS):
        return "this password is a row of the keyboard or the alphabet"
    core = _core(folded)
    forms = {core, core.translate(_SIGNS), *(re.sub(r"[\W\d_]", "", form) for form in (core, core.translate(_SIGNS)))}
    if any(form in _COMMON or _half(form) in _COMMON for form in forms):
        return "this password is one of those that are tried first"
    own = {part for part in (name.casefold(), name.casefold().partition("@")[0]) if len(part) >= 3}
    if any(part in folded and not _core(folded.replace(part, "")) for part in own):
        return "this password is the operator's name"
    return ""


def _core(text: str) -> str:
    return re.sub(r"^[\W\d_]+|[\W\d_]+$", "", text)


def _half(text: str) -> str:
    """Of what is said twice."""
    half = text[: len(text) // 2]
    return half if half * 2 == text else ""


def _has_run(text: str, run: str) -> bool:
    """Whether most of it is one piece of the run, forwards or backwards."""
    for row in (run, run[::-1]):
        longest = 0
        for start in range(len(text)):
            length = 0
            while start + length < len(text) and text[start : start + length + 1] in row:
                length += 1
            longest = max(longest, length)
        if longest * 4 >= len(text) * 3:
            return True
    return False


def prepared(password: str) -> str:
    """As PostgreSQL's clients send it in SCRAM (SASLprep, RFC 4013), so that it is the same on every keyboard; one that cannot be prepared
    stays as it is (scram-common.c)."""
    if password.isascii():
        return password
    mapped = "".join(" " if stringprep.in_table_c12(c) else c for c in password if not stringprep.in_table_b1(c))
    normal = unicodedata.ucd_3_2_0.normalize("NFKC", mapped)
    if not normal or any(check(c) for c in normal for check in _PROHIBITED if c != " "):
        return password
    right_to_left = [stringprep.in_table_d1(c) for c in normal]
    if any(right_to_left) and not (right_to_left[0] and right_to_left[-1] and not any(map(stringprep.in_table_d2, normal))):
        return password
    return normal
