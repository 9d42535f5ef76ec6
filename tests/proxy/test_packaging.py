"""What is installed is whole, and the container files do what they say."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_wheel_has_all_that_the_process_needs(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--disable-pip-version-check", "-w", str(tmp_path), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    [wheel] = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    for needed in (
        "proxy/sample.sql",
        "proxy/store/migrations/versions/0001_holds_and_operators.py",
        "proxy/store/migrations/env.py",
        "protocol/py.typed",
    ):
        assert needed in names
    assert not any(name.startswith(("tests/", "benchmarks/", "tools/")) for name in names)


def test_generated_docs_are_up_to_date() -> None:
    done = subprocess.run([sys.executable, "-m", "tools.docs", "--check"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_compose_points_the_application_at_the_proxy() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    assert "DATABASE_URL: postgresql://postgres:${POSTGRES_PASSWORD}@pghold:6432/postgres" in text
    assert "USER pghold" in (ROOT / "Dockerfile").read_text()
