"""Verdicts and their stable reason codes: what a refused sender sees, and what a metric is labelled with.

A code is never reused. The HTTP body is problem+json (RFC 9457) with `code`, `title`, `status`, `detail`.
"""

from __future__ import annotations

from enum import Enum, StrEnum


class Verdict(StrEnum):
    """What happens to a request."""

    ALLOW = "Allow"
    DENY = "Deny"
    THROTTLE = "Throttle"
    QUARANTINE = "Quarantine"


class Reason(Enum):
    """(code, HTTP status, title). `name` is the CamelCase reason of logs and metrics."""

    Allowed = ("SW2000", 200, "Allowed")
    # Nobody's message passes.
    NoDocument = ("SW2001", 503, "The sidecar has no policy yet")
    DocumentStale = ("SW2002", 503, "The sidecar's policy is too old")
    GatewayDeleted = ("SW2003", 503, "This gateway is being removed")
    InternalError = ("SW2004", 503, "The request could not be judged")
    # parse
    MalformedRequest = ("SW2101", 400, "The request is malformed")
    UnknownOperation = ("SW2102", 404, "No such operation")
    MalformedMessage = ("SW2103", 400, "Recipient, sender id or text cannot be read")
    MethodNotAllowed = ("SW2104", 405, "The method does not fit this path")
    # authenticate
    MissingKey = ("SW2201", 401, "No API key")
    MultipleKeys = ("SW2202", 401, "More than one API key")
    MalformedKey = ("SW2203", 401, "Not an API key")
    UnknownKey = ("SW2204", 401, "The API key is not valid")
    KeyRevoked = ("SW2205", 401, "The API key was revoked")
    KeyExpired = ("SW2206", 401, "The API key has expired")
    # account and key state
    AccountSuspended = ("SW2301", 403, "The account is suspended")
    AccountInvalid = ("SW2302", 403, "The account's policy is invalid")
    KeyInvalid = ("SW2303", 403, "The API key's policy is invalid")
    # source, operation, content
    SourceNotAllowed = ("SW2401", 403, "The source address is not allowed")
    OperationNotAllowed = ("SW2402", 403, "The API key does not cover this operation")
    SenderIdNotAllowed = ("SW2403", 403, "The account does not own this sender id")
    # limits
    AccountLimit = ("SW2501", 429, "The account's rate limit is reached")
    KeyLimit = ("SW2502", 429, "The API key's rate limit is reached")
    LimitsUnavailable = ("SW2503", 503, "The limits cannot be judged")

    def __init__(self, code: str, status: int, title: str) -> None:
        self.code = code
        self.status = status
        self.title = title


class ProxyReason(Enum):
    """(code, HTTP status, title) of answers that Envoy gives by itself, before or after the guard."""

    BadRequest = ("SW2901", 400, "The request is not acceptable HTTP")
    Forbidden = ("SW2902", 403, "The request asks for something this gateway does not offer")
    NotFound = (Reason.UnknownOperation.code, 404, Reason.UnknownOperation.title)
    RequestTimeout = ("SW2903", 408, "The request did not arrive in time")
    BodyTooLarge = ("SW2904", 413, "The body is too large")
    UpgradeRequired = ("SW2905", 426, "HTTP/1.1 or newer is required")
    HeadersTooLarge = ("SW2906", 431, "The headers are too large or too many")
    ProxyError = ("SW2907", 500, "The request could not be handled")
    BadAnswer = ("SW2908", 502, "The application gave no valid answer")
    ApplicationUnavailable = ("SW2909", 503, "The application cannot be reached")
    ApplicationTimeout = ("SW2910", 504, "The application did not answer in time")
    GuardUnavailable = ("SW2911", 503, "The request could not be judged")
    Other = ("SW2912", 0, "The request was refused")  # status: whatever Envoy chose

    def __init__(self, code: str, status: int, title: str) -> None:
        self.code = code
        self.status = status
        self.title = title


def problem_type(code: str) -> str:
    """The `type` of a problem+json body (RFC 9457): a URN, since it names, and need not be fetched."""
    return f"urn:sendward:problem:{code}"
