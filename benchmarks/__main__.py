"""`make bench`: what a proxy costs, by the CPU time that the kernel charges to its process.

Times drift on a shared machine, CPU of two proxies measured in turns in one run hardly does: so every figure is CPU of the processes that
listen on a port, divided by the work done, and a ratio to pgbouncer's in the same run. Starts PostgreSQL 18, pgbouncer, haproxy and pghold on free
loopback ports, and stops them. Needs Linux and, for the comparison, Debian's pgbouncer and haproxy.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from policy import Context, Engine, Judgement
from tests.servers import Pghold, PostgresServer, embedded_bindir, free_port, unprivileged, wait_for

TICK_S = 1 / os.sysconf("SC_CLK_TCK")


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) * TICK_S


def rss_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def daemon(command: list[str], port: int, user: str | None = None) -> Iterator[int]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, user=user)
    try:
        wait_for(lambda: _listens(port), 10)
        yield process.pid
    finally:
        process.terminate()
        process.wait(10)


def _listens(port: int) -> bool:
    return f":{port:04X} 00000000:0000 0A" in Path("/proc/net/tcp").read_text()


def pgbouncer(folder: Path, server: PostgresServer) -> tuple[list[str], int, str | None]:
    port = free_port()
    (folder / "users").write_text('"postgres" ""\n')
    (folder / "pgbouncer.ini").write_text(
        f"[databases]\n* = host=127.0.0.1 port={server.port}\n[pgbouncer]\nlisten_addr=127.0.0.1\nlisten_port={port}\nauth_type=any\n"
        f"auth_file={folder}/users\npool_mode=session\nmax_client_conn=1000\ndefault_pool_size=200\nlog_connections=0\n"
        "log_disconnections=0\nlog_stats=0\nunix_socket_dir=\n"
        "ignore_startup_parameters=extra_float_digits\n[users]\n".replace("[users]\n", "")
    )
    database = (folder / "pgbouncer.ini").read_text().replace(f"port={server.port}\n", f"port={server.port} user=postgres\n")
    (folder / "pgbouncer.ini").write_text(database)
    return ["pgbouncer", str(folder / "pgbouncer.ini")], port, unprivileged()


def haproxy(folder: Path, server: PostgresServer) -> tuple[list[str], int, str | None]:
    port = free_port()
    (folder / "haproxy.cfg").write_text(
        f"defaults\n mode tcp\n timeout connect 5s\n timeout client 1h\n timeout server 1h\nlisten pg\n bind 127.0.0.1:{port}\n"
        f" server pg 127.0.0.1:{server.port}\n"
    )
    return ["haproxy", "-db", "-f", str(folder / "haproxy.cfg")], port, None


def transactions(server: PostgresServer, port: int, pid: int, mode: str, clients: int, count: int) -> float:
    """CPU microseconds for one transaction of pgbench -S."""
    before = cpu_s(pid)
    command = ["pgbench", "-n", "-S", "-M", mode, "-c", str(clients), "-j", "1", "-t", str(count // clients)]
    command += ["-h", "127.0.0.1", "-p", str(port), "-U", "postgres", "bench"]
    subprocess.run([str(server.bindir / command[0]), *command[1:]], check=True, capture_output=True)
    return (cpu_s(pid) - before) / (count // clients * clients) * 1e6


def rows(server: PostgresServer, port: int, pid: int, count: int) -> float:
    """CPU nanoseconds for one row of a large result."""
    before = cpu_s(pid)
    command = [
        str(server.bindir / "psql"),
        "-XqAt",
        "-h",
        "127.0.0.1",
        "-p",
        str(port),
        "-U",
        "postgres",
        "-c",
        "select * from many",
        "bench",
    ]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return (cpu_s(pid) - before) / count * 1e9


def judging(corpus: Path) -> dict[str, float]:
    """Medians in microseconds over ordinary statements."""
    engine, context = Engine(), Context()
    scripts = [json.loads(line)["sql"].encode() for line in corpus.read_text().splitlines()]

    def median(work: Callable[[bytes], object], texts: list[bytes]) -> float:
        taken = []
        for text in texts:
            started = time.perf_counter()
            work(text)
            taken.append((time.perf_counter() - started) * 1e6)
        return statistics.median(taken)

    def as_sessions_do(script: bytes) -> Judgement:
        return engine.settled(script, context) or engine.judge(script, context)

    new = median(lambda s: engine.judge(s, context), scripts)
    for script in scripts:
        as_sessions_do(script)
    seen = median(as_sessions_do, scripts)
    other = [t for s in scripts if (t := re.sub(rb"(?<=[ =(,])\d+(?=[ ,);]|$)", b"987654", s)) != s]
    other = list(dict.fromkeys(other))
    return {"new": new, "seen": seen, "other constants": median(as_sessions_do, other)}


def idle_session(proxy: Pghold, count: int) -> float:
    """KiB of memory for one idle session."""
    proxy.connect().close()
    before = rss_bytes(proxy.process.pid)
    sessions = [proxy.connect() for _ in range(count)]
    used = rss_bytes(proxy.process.pid) - before
    for session in sessions:
        session.close()
    return used / count / 1024


def approvals(proxy: Pghold, server: PostgresServer, count: int) -> tuple[float, float]:
    """Milliseconds from sending an approval to the statement's completion at its client: p50 and p99."""
    import threading

    server.sql("CREATE TABLE IF NOT EXISTS gone (i int)")
    taken: list[float] = []
    with proxy.connect() as connection:
        for _ in range(count):
            done: list[float] = []
            thread = threading.Thread(target=lambda d=done: (connection.execute("DELETE FROM gone"), d.append(time.perf_counter())))  # type: ignore[misc]
            thread.start()
            hold = proxy.wait_for_hold()
            started = time.perf_counter()
            proxy.approve(hold["id"])
            thread.join()
            taken.append((done[0] - started) * 1000)
    taken.sort()
    return taken[len(taken) // 2], taken[int(len(taken) * 0.99) - 1]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--transactions", type=int, default=20_000)
    parser.add_argument("--rows", type=int, default=3_000_000)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--sessions", type=int, default=1000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    report: dict[str, object] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pghold-bench-")))
        folder.chmod(0o755)
        server = PostgresServer(folder / "pg", embedded_bindir())
        stack.callback(server.stop)
        server.sql("CREATE DATABASE bench")
        subprocess.run(
            [str(server.bindir / "pgbench"), "-i", "-q", "-s", "5", "-h", "127.0.0.1", "-p", str(server.port), "-U", "postgres", "bench"],
            check=True, capture_output=True,
        )  # fmt: skip
        server.sql(f"CREATE TABLE many AS SELECT g id, g * 7 v FROM generate_series(1, {options.rows}) g", "bench")
        endpoints: dict[str, tuple[int, int]] = {}
        for name, make in (("pgbouncer", pgbouncer), ("haproxy", haproxy)):
            if shutil.which(name) is None and not Path(f"/usr/sbin/{name}").exists():
                print(f"{name} is not installed: left out", file=sys.stderr)
                continue
            command, port, user = make(folder, server)
            command[0] = shutil.which(name) or f"/usr/sbin/{name}"
            endpoints[name] = (port, stack.enter_context(daemon(command, port, user)))
        proxy = Pghold(f"postgresql://127.0.0.1:{server.port}/?sslmode=disable", "--log-level", "error")
        stack.callback(proxy.stop)
        endpoints["pghold"] = (proxy.port, proxy.process.pid)
        samples: dict[tuple[str, str], list[float]] = {}
        for _ in range(options.rounds):
            for name, (port, pid) in endpoints.items():
                for mode in ("simple", "extended", "prepared"):
                    value = transactions(server, port, pid, mode, options.clients, options.transactions)
                    samples.setdefault((f"{mode}, µs CPU/transaction", name), []).append(value)
                samples.setdefault(("rows, ns CPU/row", name), []).append(rows(server, port, pid, options.rows))
        for (what, name), values in samples.items():
            base = samples.get((what, "pgbouncer"))
            ratio = statistics.median(a / b for a, b in zip(values, base, strict=True)) if base else float("nan")
            report[f"{what}: {name}"] = {"median": statistics.median(values), "ratio to pgbouncer": ratio}
            print(f"{what:28} {name:10} {statistics.median(values):8.1f}  x{ratio:.2f}", flush=True)
        memory = idle_session(proxy, options.sessions)
        p50, p99 = approvals(proxy, server, 50)
        report |= {"idle session KiB": memory, "approval p50 ms": p50, "approval p99 ms": p99}
        print(f"idle session                 {memory:8.1f} KiB ({options.sessions} sessions)")
        print(f"approval to completion       p50 {p50:.1f} ms, p99 {p99:.1f} ms")
    corpus = Path(os.environ.get("PGHOLD_CORPUS", Path(__file__).parents[2] / "shared" / "corpus")) / "bench_statements.jsonl"
    if corpus.exists():
        for what, value in judging(corpus).items():
            report[f"judging {what} µs"] = value
            print(f"judging, {what:19} {value:8.2f} µs (median)")
    if options.json:
        print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
