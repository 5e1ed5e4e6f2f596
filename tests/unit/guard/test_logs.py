"""Logs: JSON on stderr, and nothing in it that must not be."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from sendward.logs import redact, redact_text
from tests.guard import builders

SECRET = builders.credential("one")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"key {SECRET.value}.", "key [redacted]."),
        (f"Bearer {SECRET.value[:30]}", "Bearer [redacted]"),
        ("to=+447700900123&x", "to=[number]&x"),
        ("to=%2B447700900123", "to=%2B[number]"),
        ("/send/447700900123/", "/send/[number]/"),
        ("hvs.CAESIJ0123456789abcdef", "[redacted]"),
        ("eyJhbGciOi.eyJzdWIi.c2ln", "[redacted]"),
        ("-----BEGIN PRIVATE KEY-----\nAA\n-----END PRIVATE KEY-----", "[redacted]"),
        ("uid 12345678-1234-4000-8000-123456789012", "uid 12345678-1234-4000-8000-123456789012"),
        ("revision 123456", "revision 123456"),
    ],
)
def test_text(text: str, expected: str) -> None:
    assert redact_text(text) == expected


def test_fields() -> None:
    event = {
        "timestamp": "2026-11-22T05:42:11Z",
        "event": "x",
        "body": {"to": 1},
        "Authorization": "x",
        "nested": {"payload": "x", "to": ["+447700900123"]},
        "number": 447700900123,
        "seconds": 1_700_000_000,
        "flag": True,
        "object": ValueError(SECRET.value),
    }
    assert redact(None, "info", event) == {
        "timestamp": "2026-11-22T05:42:11Z",
        "event": "x",
        "body": "[dropped]",
        "Authorization": "[dropped]",
        "nested": {"payload": "[dropped]", "to": ["[number]"]},
        "number": "[number]",
        "seconds": 1_700_000_000,
        "flag": True,
        "object": "[redacted]",
    }


def test_libraries_and_tracebacks_pass_through_the_same_filter() -> None:
    program = f"""
import logging, structlog
from sendward import logs
logs.setup()
logging.getLogger("library").warning("key %s", "{SECRET.value}")
try:
    raise ValueError("{SECRET.value}")
except ValueError:
    structlog.get_logger().exception("failed", account="acme")
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={"PYTHONPATH": ":".join(sys.path)},
    )
    assert done.stdout == ""
    assert SECRET.secret not in done.stderr
    first, second = (json.loads(line) for line in done.stderr.splitlines())
    assert (first["event"], first["level"]) == ("key [redacted]", "warning")
    assert (second["event"], second["account"]) == ("failed", "acme")
    assert "ValueError: [redacted]" in second["exception"]
