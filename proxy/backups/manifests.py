"""What a manifest lists, for whoever shows it."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]  # any: JSON


def files_of(manifest: Json | None) -> list[Json]:
    """Name, bytes and SHA-256 of each file, whether the manifest lists them or maps their names."""
    files = (manifest or {}).get("files") or []
    if isinstance(files, dict):
        files = [{"name": name, **(value if isinstance(value, dict) else {"sha256": value})} for name, value in files.items()]
    return [{"name": f.get("name", "?"), "bytes": f.get("bytes") or 0, "sha256": f.get("sha256", "")} for f in files if isinstance(f, dict)]
