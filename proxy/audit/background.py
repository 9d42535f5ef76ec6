"""The full verification while the proxy runs: in a process of its own, so that reading years keeps no session waiting. What was found is
written down (`audit.verified.json`), and is what pages show.

    python -m proxy.audit.background LOG

is that process: it prints its progress and then the report, as JSON lines.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from proxy.audit.checkpoints import read_lines, verify_against
from proxy.audit.files import as_rotated
from proxy.audit.keys import KeyRing
from proxy.audit.verify import VerifyReport
from proxy.holds_json import iso
from proxy.seams import Clock

_PROGRESS_S: Final = 0.2


@dataclass(frozen=True, slots=True)
class Verified:
    """What the last full verification found."""

    report: VerifyReport
    at: datetime


class BackgroundVerifier:
    """One at a time.

    Attributes:
        last: None before the first.
        progress: share that is read, while one runs; else None.
        error: why the last one came to no result.
    """

    def __init__(self, log: Path, clock: Clock) -> None:
        self._log = log
        self._clock = clock
        self._kept = log.with_name(f"{log.stem}.verified.json")
        self.progress: float | None = None
        self.error = ""
        self.last = self._load()

    async def run(self) -> Verified | None:
        """None when one runs already, or it came to no result."""
        if self.progress is not None:
            return None
        self.progress = 0.0
        try:
            report = await self._child()
        except (OSError, ValueError, KeyError, TypeError) as error:
            self.error = f"the verification came to no result: {error}"
            return None
        finally:
            self.progress = None
        self.error = ""
        self.last = Verified(report, self._clock.now())
        with suppress(OSError):
            self._kept.write_text(json.dumps({"at": iso(self.last.at), "report": asdict(report)}))
        return self.last

    async def _child(self) -> VerifyReport:
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "proxy.audit.background", str(self._log), stdout=asyncio.subprocess.PIPE, limit=1 << 20
        )
        assert child.stdout is not None
        try:
            async for line in child.stdout:
                message = json.loads(line)
                if "report" in message:
                    return VerifyReport(**message["report"])
                self.progress = float(message["progress"])
            raise ValueError(f"exit code {await child.wait()}")
        finally:
            if child.returncode is None:
                with suppress(ProcessLookupError):
                    child.kill()
                await child.wait()

    def _load(self) -> Verified | None:
        try:
            kept: dict[str, Any] = json.loads(self._kept.read_text())  # any: checked by what is made of it
            return Verified(VerifyReport(**kept["report"]), datetime.fromisoformat(kept["at"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None


def check_locally(log: Path) -> VerifyReport:
    """The chain and the checkpoints of the data directory; progress as JSON lines on standard output. Raises OSError, KeyFileError."""
    told = 0.0

    def tell(done: int, total: int, records: int) -> None:
        nonlocal told
        if (now := time.monotonic()) - told >= _PROGRESS_S:
            told = now
            print(json.dumps({"progress": done / total if total else 1.0, "records": records}), flush=True)

    ring = KeyRing(log.parent)
    report = VerifyReport(0, "")
    # What looks broken at the end of a file that is written may be a write that failed, and is gone at the next look.
    for attempt in range(2):
        local = log.with_name(f"{log.stem}.checkpoints.jsonl")
        lines = read_lines(local.read_bytes()) if local.exists() else []
        report = verify_against(log, lines, ring.public_keys(), tell, local.name)
        if report.problem is None or (report.file is not None and as_rotated(log.with_name(report.file)) is not None):
            break
        if attempt == 0:
            time.sleep(1)
    return report


def main() -> int:
    with suppress(OSError):
        os.nice(10)
    report = check_locally(Path(sys.argv[1]))
    print(json.dumps({"report": asdict(report)}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
