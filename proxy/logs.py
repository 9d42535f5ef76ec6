"""Logging: structlog to stderr, JSON or for a terminal. Nobody passes SQL or secrets to it at info and above."""

from __future__ import annotations

import logging
import sys
from typing import Literal

import structlog


def set_up(form: Literal["auto", "json", "console"], level: str) -> structlog.typing.FilteringBoundLogger:
    on_terminal = sys.stderr.isatty()
    as_json = form == "json" or (form == "auto" and not on_terminal)
    renderer = structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer(colors=on_terminal)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger()
    return logger
