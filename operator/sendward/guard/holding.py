"""The shares that this guard limits by, kept for a successor in the same pod.

They lie in the memory-backed folder: they outlive the process and not the pod. They are written before
the hub hears that they are in force, so a killed guard's successor never holds more than the hub
knows of. Counters are not kept: a successor starts with empty buckets, whatever its predecessor used.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec
import structlog
from msgspec import Struct

from sendward.guard import files
from sendward.protocol import Shares

_FILE: Final = "shares.json"

log = structlog.get_logger(__name__)


class _Content(Struct):
    shares: Shares | None = None


class Holding:
    """`fresh`: no guard ran in this pod before. `shares`: what the last one limited by."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / _FILE
        self.fresh = False
        self.shares: Shares | None = None
        try:
            self.shares = msgspec.json.decode(self._path.read_bytes(), type=_Content).shares
        except FileNotFoundError:
            self.fresh = True
        except (OSError, ValueError, RecursionError):
            log.warning("state file is unreadable, ignored", file=_FILE)
        self.keep(self.shares)

    def keep(self, shares: Shares | None) -> None:
        """A successor limits by these. If they cannot be written, it waits for the hub's."""
        self.shares = shares
        try:
            files.replace(self._path, msgspec.json.encode(_Content(shares)), durable=False)
        except OSError as error:
            log.error("state not kept", file=_FILE, error=str(error))
            self._forget()

    def _forget(self) -> None:
        """Empty, and not absent: a successor is no fresh guard."""
        try:
            self._path.write_bytes(b"")
        except OSError as error:
            log.error("state not emptied", file=_FILE, error=str(error))
