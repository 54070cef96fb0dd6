"""Log lines: JSON, constant event names, ids only, and never a PIN or a secret."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

_SECRET_KEYS = re.compile(
    r"\bpin\b|password|secret|token|ticket_key|pepper|authorization|signature|cipher", re.IGNORECASE
)
_QUIET = ("httpx2", "httpcore2", "urllib3", "tinytuya.core.core", "asyncio")
"""Libraries whose lines below WARNING hold URLs, headers or bodies; tinytuya's hold the secret."""


def mask(_: Any, __: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Replace the value of every key that names a secret, however deep it lies."""
    for key, value in line.items():
        if key != "event" and _SECRET_KEYS.search(key):
            line[key] = "***"
        elif isinstance(value, MutableMapping):
            line[key] = mask(None, "", dict(value))
    return line


def set_up(*, level: str = "INFO", json: bool = True) -> None:
    """Send this process's log lines to standard error."""
    shared: list[structlog.types.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        mask,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    render: structlog.types.Processor = (
        structlog.processors.JSONRenderer(default=str) if json else structlog.dev.ConsoleRenderer()
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                render,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)


def get(name: str) -> structlog.stdlib.BoundLogger:
    """The logger of one module: `log.info("event-name", reservation_id=...)`."""
    logger: structlog.stdlib.BoundLogger = structlog.get_logger(name)
    return logger
