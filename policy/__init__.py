"""SQL text and session context in, a judgement out. Pure: no sockets, files, clock or environment.

It says what a script does and what the rules find in it; it never runs, rewrites or forwards anything. What it cannot analyse, it
holds.
"""

from policy.context import Context
from policy.engine import Engine
from policy.judgement import Finding, Judgement
from policy.verdict import Environment, Profile, Verdict

__all__ = ["Context", "Engine", "Environment", "Finding", "Judgement", "Profile", "Verdict"]
