"""Faults of the world. Faults of the user are data (`graph.problems.Problem`), never exceptions.

SendwardError
├── Unavailable    the server did not answer, or asked for patience: retry later
├── Forbidden      401/403: our rights are too narrow
├── NotFound       the object is not there (or no longer with that uid)
├── Conflict       resourceVersion, uid or check-and-set did not match: read again
├── Rejected       the server refused the content (400/422): a bug of ours or a newer schema
└── Bug            an invariant of ours does not hold
"""

from __future__ import annotations


class SendwardError(Exception):
    """Base of all errors that `apply` raises. Messages never contain secret values."""


class Unavailable(SendwardError):
    """No answer, 429 or 5xx. `retry_after` in seconds, when the server named one."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Forbidden(SendwardError):
    """401 or 403."""


class NotFound(SendwardError):
    """404, or 409 because the uid belongs to an object that is gone."""


class Conflict(SendwardError):
    """409, or a check-and-set mismatch in Vault."""


class Rejected(SendwardError):
    """400 or 422; the message is the server's own."""


class Bug(SendwardError):
    """An invariant of ours does not hold."""
