"""`make demo`: plays the README's session by itself, against an embedded database of its own, and checks that it went as told."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from proxy.embedded import bindir

PHRASE = "YES I UNDERSTAND THE RISKS"


class _Failed(Exception):
    pass


def _say(who: str, text: str) -> None:
    for line in text.rstrip().splitlines():
        print(f"{who:>9} | {line}", flush=True)


class _Demo:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._environment = {**os.environ, "PGHOLD_DATA_DIR": str(folder / "data"), "NO_COLOR": "1"}
        self._process: subprocess.Popen[str] | None = None
        self._address = ""

    def start(self) -> None:
        command = [sys.executable, "-m", "proxy", "run", "--listen", "127.0.0.1:0", "--console", "127.0.0.1:0", "--log-level", "error"]
        self._process = subprocess.Popen(command, env=self._environment, stderr=subprocess.PIPE, text=True)
        assert self._process.stderr is not None
        for line in self._process.stderr:
            if line.startswith("pghold ready"):
                _say("pghold", line)
                listen, console = line.split()[2:4]
                self._address = listen.partition("=")[2]
                self._environment["PGHOLD_CONSOLE"] = console.partition("=")[2]
                threading.Thread(target=self._process.stderr.read, daemon=True).start()
                return
        raise _Failed("pghold did not start")

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            if self._process.wait(30) != 0:
                raise _Failed("pghold did not stop cleanly")

    def psql(self, *statements: str) -> subprocess.Popen[str]:
        host, _, port = self._address.rpartition(":")
        command = [str(bindir() / "psql"), "-X", f"postgresql://postgres@{host}:{port}/sample"]
        for statement in statements:
            _say("client", f"sample=# {statement};")
            command += ["-c", statement]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def finish(self, client: subprocess.Popen[str], *expected: str) -> None:
        output, _ = client.communicate(timeout=30)
        _say("client", output)
        for words in expected:
            if words not in output:
                raise _Failed(f"the client should have seen: {words}")

    def pghold(self, *arguments: str, shown: bool = True) -> str:
        if shown:
            _say("operator", "$ pghold " + " ".join(f'"{a}"' if " " in a else a for a in arguments))
        done = subprocess.run(
            [sys.executable, "-m", "proxy", *arguments], env=self._environment, capture_output=True, text=True, check=False
        )
        if shown:
            _say("operator", done.stdout + done.stderr)
        if done.returncode != 0:
            raise _Failed(f"pghold {arguments[0]} ended with {done.returncode}: {done.stderr}")
        return done.stdout

    def wait_for_hold(self) -> str:
        for _ in range(100):
            if self.pghold("holds", "--json", shown=False).strip():
                return self.pghold("holds").splitlines()[-1].split()[0]
            time.sleep(0.1)
        raise _Failed("no statement was held")

    def play(self) -> None:
        self.start()
        self.finish(self.psql('SELECT count(*) FROM "Cards"'), "1000")
        client = self.psql('DROP TABLE "Cards"')
        hold = self.wait_for_hold()
        self.pghold("approve", hold, "--phrase", PHRASE, "--reason", "cards moved to the new service")
        self.finish(client, "NOTICE", "DROP TABLE")
        if "proven" not in self.pghold("backups", "--hold", hold):
            raise _Failed("there should be a proven copy of the table")
        client = self.psql('DELETE FROM "Users"', 'SELECT count(*) FROM "Users"')
        hold = self.wait_for_hold()
        self.pghold("deny", hold, "--reason", "the WHERE clause is missing")
        self.finish(client, "ERROR", "the WHERE clause is missing", "1000")
        self.pghold("audit", "tail")
        self.pghold("audit", "verify")


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="pghold-demo-") as folder:
        Path(folder).chmod(0o755)
        demo = _Demo(Path(folder))
        try:
            demo.play()
        except _Failed as error:
            print(f"the demo failed: {error}", file=sys.stderr)
            return 1
        finally:
            demo.stop()
    print("\nEverything went as told: held, approved, denied, and all of it on record.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
