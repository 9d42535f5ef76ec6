"""A real S3 server on this machine: npm's s3rver, with one bucket."""

from __future__ import annotations

import signal
import socket
import subprocess
from pathlib import Path

from tests.servers import free_port, wait_for

_PROGRAM = Path(__file__).parent / "node" / "node_modules" / ".bin" / "s3rver"
#: What it takes.
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "S3RVER", "AWS_SECRET_ACCESS_KEY": "S3RVER"}


class S3Server:
    """Over a folder; stopped by its process id."""

    def __init__(self, folder: Path, bucket: str = "copies") -> None:
        self.folder = folder
        self.bucket = bucket
        self.port = free_port()
        folder.mkdir(parents=True, exist_ok=True)
        self.start()

    @property
    def url(self) -> str:
        return f"s3://{self.bucket}/pghold?endpoint=http://127.0.0.1:{self.port}&region=us-east-1"

    def start(self) -> None:
        self._process = subprocess.Popen(
            [str(_PROGRAM), "-d", str(self.folder), "-a", "127.0.0.1", "-p", str(self.port), "--configure-bucket", self.bucket],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_for(self._answers, 30)

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True

    def freeze(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def stop(self) -> None:
        self._process.kill()
        self._process.wait(10)

    def objects(self) -> list[str]:
        """Keys in the bucket."""
        place = self.folder / self.bucket
        found = [p.relative_to(place).as_posix() for p in place.rglob("*._S3rver_object")]
        return sorted(f.removesuffix("._S3rver_object") for f in found)
