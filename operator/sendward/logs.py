"""Structured logs: one JSON object a line on stderr, without keys, phone numbers or bodies.

Every log line of the process, also those of libraries, passes through `redact`.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping
from typing import Final

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

_SECRETS: Final = re.compile(
    r"swk_[0-9A-Za-z_]+"  # API keys
    r"|\b(?:hvs|hvb|hvr|s)\.[0-9A-Za-z_-]{16,}"  # Vault tokens
    r"|\beyJ[0-9A-Za-z_-]+\.[0-9A-Za-z_-]+\.[0-9A-Za-z_-]*"  # JSON web tokens
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)",
    re.DOTALL,
)
# Digits inside a uid or a hash are no phone number: those stand between letters or hyphens.
_PHONE: Final = re.compile(r"(?:(?<![0-9A-Za-z-])|(?<=%2[Bb]))\+?[0-9]{7,}(?![0-9A-Za-z-])")
_DROPPED: Final = frozenset(
    {"authorization", "body", "content", "data", "headers", "password", "payload", "secret", "text", "token"}
)
_LONGEST_NUMBER: Final = 10**10  # Unix seconds stay readable; longer ones may be phone numbers


def redact_text(text: str) -> str:
    """`text` without anything that looks like a credential or a phone number."""
    return _PHONE.sub("[number]", _SECRETS.sub("[redacted]", text))


def _redact_value(value: object) -> object:
    match value:
        case bool() | None | float():
            return value
        case int():
            return value if abs(value) < _LONGEST_NUMBER else "[number]"
        case str():
            return redact_text(value)
        case Mapping():
            return {
                str(key): "[dropped]" if str(key).lower() in _DROPPED else _redact_value(item)
                for key, item in value.items()
            }
        case list() | tuple() | set() | frozenset():
            return [_redact_value(item) for item in value]
        case _:
            return redact_text(str(value))


def redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Processor for structlog: masks values, drops the fields that carry bodies or credentials."""
    timestamp = event.pop("timestamp", None)
    clean: EventDict = {
        key: "[dropped]" if key.lower() in _DROPPED else _redact_value(value) for key, value in event.items()
    }
    if timestamp is not None:
        clean["timestamp"] = timestamp
    return clean


def setup(level: int = logging.INFO) -> None:
    """Send structlog and the standard library's loggers through the same processors to stderr."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            redact,
            structlog.processors.JSONRenderer(),
        ],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
