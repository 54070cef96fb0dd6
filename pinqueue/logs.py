"""Log lines: JSON, constant event names, ids only, and never a PIN or a secret."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from functools import lru_cache
from typing import Any

import structlog

from pinqueue.errors import ConfigInvalid

_SECRET_KEYS = re.compile(
    r"(?<![a-z])pins?(?![a-z])|password|secret|token|ticket_key|pepper|authorization|signature|cipher",
    re.IGNORECASE,
)
_AS_IT_IS = ("event", "exc_info", "_record", "_from_structlog")
_QUIET = (
    *("httpx2", "httpcore2", "urllib3", "tinytuya", "asyncio", "alembic"),
    *(f"procrastinate.{part}" for part in ("blueprints", "jobs", "periodic")),
)
"""Libraries whose lines below WARNING hold URLs, headers or bodies; tinytuya's hold the secret.
(Alembic's, and these of Procrastinate's, tell nothing at every look, start and booking.)
SQLAlchemy and psycopg, whose lines hold rows, are quiet by themselves."""


def mask(_: Any, __: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Replace the value of every key that names a secret, however deep it lies."""
    return {key: value if key in _AS_IT_IS else _masked(key, value) for key, value in line.items()}


def _masked(key: object, value: Any) -> Any:
    if _names_secret(str(key)):
        return "***"
    if isinstance(value, (str, int, float, type(None))):
        return value  # as nearly every value is, found sooner than that it is no mapping
    if isinstance(value, Mapping):
        return {inner: _masked(inner, found) for inner, found in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_masked("", found) for found in value]
    return value


@lru_cache(maxsize=1000)  # most lines have the same few keys
def _names_secret(key: str) -> bool:
    return _SECRET_KEYS.search(key) is not None


def _rendered(_: Any, __: str, line: MutableMapping[str, Any]) -> tuple[tuple[Any], dict[str, Any]]:
    """The line as text, at once: carried to its handler as a record's parts it would be copied and
    walked through once more, and a worker writes two of each operation."""
    return (_as_json(None, "", line),), {"extra": {_RENDERED: True}}


_as_json = structlog.processors.JSONRenderer(default=str)
_RENDERED = "rendered"


class _Formatter(structlog.stdlib.ProcessorFormatter):
    """Our lines as they are, and those of libraries in the same form."""

    def format(self, record: logging.LogRecord) -> str:
        return str(record.msg) if hasattr(record, _RENDERED) else super().format(record)


def set_up(*, level: str = "INFO") -> None:
    """Send this process's log lines to standard error, as JSON; raises ConfigInvalid."""
    # No line of ours names a process, a thread or a place in the code, so none is looked for: see
    # "Optimization" in Python's logging how-to.
    logging.logThreads = logging.logMultiprocessing = logging.logProcesses = False
    vars(logging)["_srcfile"] = None
    root = logging.getLogger()
    try:
        root.setLevel(level.upper())
    except ValueError:
        raise ConfigInvalid(f"--log-level: there is no level {level}") from None
    shared: list[structlog.types.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        mask,
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.processors.format_exc_info,
            _rendered,
        ],
        logger_factory=logging.getLogger,
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        _Formatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                _as_json,
            ],
        )
    )
    root.handlers[:] = [handler]
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(root.level, logging.WARNING))


def get(name: str) -> structlog.stdlib.BoundLogger:
    """The logger of one module: `log.info("event-name", reservation_id=...)`."""
    logger: structlog.stdlib.BoundLogger = structlog.get_logger(name)
    return logger
