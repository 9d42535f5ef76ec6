"""A fuzzer for the analysis: known inputs cut, doubled, swapped and nested. Nothing may raise, stall the loop, or end the process.

`make fuzz` runs it for a minute (PGHOLD_FUZZ_S), the suite for two seconds. A find goes to tests/integration/test_killers.py.
"""

from __future__ import annotations

import os
import random
import time

from policy import Context, Engine, Judgement, Profile
from policy.rules import ALL_RULES

SECONDS = float(os.environ.get("PGHOLD_FUZZ_S", "2"))
SEED = int(os.environ.get("PGHOLD_FUZZ_SEED", str(time.time_ns())))
#: What the event loop judges itself, with room for a slow machine: a stall would be many times this.
INLINE_BYTES = 4096
STALL_S = 1.0

TOKENS = [b"(", b")", b"'", b'"', b"$$", b"$a$", b"--", b"/*", b"*/", b";", b"\\", b"E'", b"U&'", b" UESCAPE '!'", b"::", b"NOT ", b" OR ",
          b" AND ", b"CASE WHEN ", b" END", b" UNION SELECT 1", b"\x00", b"\xff", b"\xe2\x80\x8b", b"\xc2\xa0", b"1e9", b"$1", b"?", b"\r", b" NATURAL JOIN t"]  # fmt: skip
SEEDS = [e.script.encode() for rule in ALL_RULES for e in (*rule.triggers, *rule.passes)]
CONTEXTS = [Context(), Context(standard_conforming_strings=False), Context(client_encoding="SJIS"), Context(client_encoding="GB18030")]


def mutated(dice: random.Random) -> bytes:
    text = dice.choice(SEEDS)
    for _ in range(dice.randint(1, 8)):
        at, to = sorted((dice.randint(0, len(text)), dice.randint(0, len(text))))
        match dice.randint(0, 6):
            case 0:
                text = text[:at] + dice.choice(TOKENS) + text[at:]
            case 1:
                text = text[:at] + text[to:]
            case 2:
                text = text[:at] + text[at:to] * dice.choice([2, 3, 50]) + text[to:]
            case 3:
                text = text[:at] + dice.choice(SEEDS) + text[to:]
            case 4:
                text = text[:at] + dice.choice(TOKENS) * dice.choice([2, 100, 1000]) + text[at:]
            case 5:
                text = text[:at] + bytes([dice.randint(0, 255)]) + text[at + 1 :]
            case _:
                text = b"DO $x$ BEGIN " + text + b"; END $x$"
        text = text[:INLINE_BYTES]
    return text


def test_no_text_stalls_or_ends_the_analysis() -> None:
    dice = random.Random(SEED)
    engines = [Engine(), Engine(profile=Profile.STRICT)]
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        text = mutated(dice)
        for engine in engines:
            context = dice.choice(CONTEXTS)
            started = time.perf_counter()
            judgement = engine.settled(text, context) or engine.judge(text, context)
            took_s = time.perf_counter() - started
            assert isinstance(judgement, Judgement)
            assert took_s < STALL_S, (SEED, text)
            assert "analysis failed" not in "".join(f.message for f in judgement.findings), (SEED, text)
