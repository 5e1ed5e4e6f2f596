"""The guard's HTTP answers to Envoy, as bytes: 200 with headers for the application, or problem+json.

A 503 leaves as `names.STATUS_UNAVAILABLE`, which Envoy turns back into 503: of a real 5xx it would
drop the body.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Final

import msgspec

from sendward import names
from sendward.guard.decide import Decision
from sendward.guard.request import Headers, RawRequest
from sendward.verdict import Reason, Verdict, problem_type

_DETAILS: Final[dict[Reason, str]] = {
    Reason.NoDocument: "The gateway is starting. Try again shortly.",
    Reason.DocumentStale: "The sidecar has not heard from the operator for too long.",
    Reason.GatewayDeleted: "Messages are no longer accepted here.",
    Reason.InternalError: "The request was refused to be safe. Try again shortly.",
    Reason.MalformedRequest: "The path must be plain: no encoded separators, no empty or dot segments.",
    Reason.UnknownOperation: "No operation of this gateway has this path.",
    Reason.MalformedMessage: (
        "A declared field is missing, repeated or no string, or the recipient is no phone number."
    ),
    Reason.MethodNotAllowed: "This path has an operation, but not with this method.",
    Reason.MissingKey: "Send 'Authorization: Bearer <key>' or 'x-api-key: <key>'.",
    Reason.MultipleKeys: "Send exactly one API key in exactly one header.",
    Reason.MalformedKey: "The value is no API key, or it was mistyped.",
    Reason.UnknownKey: "The API key is not known here.",
    Reason.KeyRevoked: "Ask for a new key.",
    Reason.KeyExpired: "Use the key's newer version.",
    Reason.AccountSuspended: "Ask the operator of this gateway.",
    Reason.AccountInvalid: "Ask the operator of this gateway.",
    Reason.KeyInvalid: "Ask the operator of this gateway.",
    Reason.SourceNotAllowed: "Send from an address that is registered for this account and key.",
    Reason.OperationNotAllowed: "Use a key whose scope has this operation.",
    Reason.SenderIdNotAllowed: "Use a sender id that is registered for this account.",
    Reason.AccountLimit: "Wait as long as Retry-After says.",
    Reason.KeyLimit: "Wait as long as Retry-After says.",
    Reason.LimitsUnavailable: "The limits cannot be counted at the moment. Try again shortly.",
}
_REQUEST_ID: Final = re.compile(rb"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")


def response(decision: Decision, raw: RawRequest | None, *, close: bool = False) -> bytes:
    """The answer to one request, None if it could not be read; `close` announces the end of the stream."""
    if decision.verdict is Verdict.ALLOW:
        (account, key, reason), end = decision.headers, "connection: close\r\n\r\n" if close else "\r\n"
        return (
            f"HTTP/1.1 200 OK\r\n{account[0]}: {account[1]}\r\n{key[0]}: {key[1]}\r\n"
            f"{reason[0]}: {reason[1]}\r\ncontent-length: 0\r\n{end}"
        ).encode("ascii", "replace")
    return _problem(decision, raw, close=close)


def _problem(decision: Decision, raw: RawRequest | None, *, close: bool) -> bytes:
    reason = decision.reason
    problem: dict[str, object] = {
        "type": problem_type(reason.code),
        "title": reason.title,
        "status": reason.status,
        "code": reason.code,
        "detail": _DETAILS.get(reason, reason.title),
    }
    instance = _request_id(raw.headers) if raw else ""
    if instance:
        problem["instance"] = f"urn:uuid:{instance}"
    body = msgspec.json.encode(problem)
    unavailable = reason.status == HTTPStatus.SERVICE_UNAVAILABLE
    lines = [
        f"HTTP/1.1 {names.STATUS_UNAVAILABLE if unavailable else reason.status} "
        f"{HTTPStatus(reason.status).phrase}",
        "content-type: application/problem+json",
        f"{names.HEADER_REASON}: {reason.code}",
        f"content-length: {len(body)}",
    ]
    if reason.status == HTTPStatus.UNAUTHORIZED:
        lines.append("www-authenticate: Bearer")
    elif reason.status == HTTPStatus.TOO_MANY_REQUESTS:
        lines.append(f"retry-after: {max(1, decision.retry_after)}")
    elif unavailable:
        lines.append("retry-after: 1")
    if close:
        lines.append("connection: close")
    head = "\r\n".join((*lines, "", "")).encode("ascii")
    # After the answer to HEAD no body follows: Envoy would take it for the next answer.
    return head if raw and raw.method == "HEAD" else head + body


def _request_id(headers: Headers) -> str:
    for name, value in headers:
        if name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
            return value.decode("ascii").lower()
    return ""
