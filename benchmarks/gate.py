"""`python -m benchmarks.gate`: what a row limit costs: the proxy's CPU per UPDATE, with a limit and without one, in turns in one run.

Each update is a transaction of its own. `limited` has a limit that is never reached; `none` has no [[policy.row_limits]]; `elsewhere` has one for
another role, so that these sessions have none. The ratio to `none` is what counts.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import tempfile
from pathlib import Path

from benchmarks.__main__ import cpu_s
from tests.servers import Pghold, PostgresServer, embedded_bindir

POLICIES = {
    "none": "",
    "elsewhere": '[[policy.row_limits]]\nrows = 1000000\nroles = "somebody_else"\n',
    "limited": "[[policy.row_limits]]\nrows = 1000000\n",
}
UPDATE = "\\set id random(1, 10000)\nUPDATE item SET n = n + 1 WHERE id = :id;\n"


def updates(server: PostgresServer, proxy: Pghold, script: Path, mode: str, clients: int, count: int) -> tuple[float, float]:
    """CPU microseconds of the proxy per update, and the client's mean latency in ms."""
    before = cpu_s(proxy.process.pid)
    command = ["pgbench", "-n", "-f", str(script), "-M", mode, "-c", str(clients), "-j", "1", "-t", str(count // clients)]
    done = subprocess.run(
        [str(server.bindir / command[0]), *command[1:], "-h", "127.0.0.1", "-p", str(proxy.port), "-U", "postgres", "postgres"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    latency = re.search(r"latency average = ([\d.]+)", done.stdout)
    assert latency is not None
    return (cpu_s(proxy.process.pid) - before) / count * 1e6, float(latency[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--updates", type=int, default=16000)
    parser.add_argument("--clients", type=int, default=8)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pghold-gate-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        server = PostgresServer(folder / "pg", embedded_bindir(), "synchronous_commit=off")
        proxies = {}
        try:
            server.sql("CREATE TABLE item (id int PRIMARY KEY, n int); INSERT INTO item SELECT g, 0 FROM generate_series(1, 10000) g")
            script = folder / "update.sql"
            script.write_text(UPDATE)
            for kind, policy in POLICIES.items():
                file = folder / f"{kind}.toml"
                file.write_text(policy)
                proxies[kind] = Pghold(f"postgresql://127.0.0.1:{server.port}/postgres", "--policy", str(file))
            found: dict[str, dict[str, list[tuple[float, float]]]] = {
                m: {k: [] for k in POLICIES} for m in ("simple", "extended", "prepared")
            }
            for _ in range(options.rounds):
                for mode, results in found.items():
                    for kind, proxy in proxies.items():
                        results[kind].append(updates(server, proxy, script, mode, options.clients, options.updates))
            for mode, results in found.items():
                base = statistics.median(cpu for cpu, _ in results["none"])
                for kind, values in results.items():
                    cpu = statistics.median(c for c, _ in values)
                    line = {
                        "mode": mode,
                        "policy": kind,
                        "cpu_us": round(cpu, 1),
                        "ratio": round(cpu / base, 2),
                        "latency_ms": round(statistics.median(x for _, x in values), 2),
                    }
                    print(json.dumps(line), flush=True)
        finally:
            for proxy in proxies.values():
                proxy.stop()
            server.stop()


if __name__ == "__main__":
    main()
