"""A webhook: batches of records as one JSON object, `{"log": id, "records": […]}`."""

from __future__ import annotations

import json
from collections.abc import Sequence

from proxy.audit.sinks.http import Poster
from proxy.audit.targets import Target


class WebhookSink:
    """The records stand in the body byte for byte as in the file, so that the receiver can check their hashes."""

    def __init__(self, target: Target) -> None:
        self._poster = Poster(target)

    def deliver(self, log_id: str, lines: Sequence[bytes]) -> None:
        records = b",".join(line.rstrip(b"\n") for line in lines)
        body = b'{"log":' + json.dumps(log_id).encode() + b',"records":[' + records + b"]}"
        self._poster.post(body, {"X-Pghold-Log": log_id, "X-Pghold-Records": str(len(lines))})

    def close(self) -> None:
        self._poster.close()
