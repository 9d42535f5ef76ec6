"""Errors of the HTTP API: every one is application/problem+json."""

from __future__ import annotations

from typing import Final

from fastapi import HTTPException
from pydantic import BaseModel

from proxy.holds_json import Json


class Problem(BaseModel):
    """Every error, as application/problem+json (RFC 9457)."""

    title: str
    status: int
    detail: str
    hold: dict[str, object] | None = None


class ProblemError(HTTPException):
    """Raised by routes; api.py makes the answer of it."""

    def __init__(self, status: int, title: str, detail: str, hold: dict[str, Json] | None = None) -> None:
        super().__init__(status, detail)
        self.title = title
        self.hold = hold


_ERRORS: Final[dict[int | str, dict[str, object]]] = {
    code: {"model": Problem, "description": text}
    for code, text in {
        400: "It cannot be done.",
        401: "No token, or one that is not known.",
        403: "The operator's role does not allow it.",
        404: "There is none of that id.",
        409: "The hold is no longer pending, or somebody else must do it.",
        422: "A wrong phrase, or something is missing.",
        503: "The store failed.",
    }.items()
}


def pick(*codes: int) -> dict[int | str, dict[str, object]]:
    """For the description of a route."""
    return {code: _ERRORS[code] for code in codes}
