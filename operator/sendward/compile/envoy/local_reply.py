"""Problem bodies (RFC 9457) for what Envoy answers by itself; the guard's own bodies pass unchanged."""

from __future__ import annotations

from typing import Final

from sendward import names
from sendward.compile.envoy.resource import Json, extension
from sendward.verdict import ProxyReason, problem_type

_CONTENT_TYPE: Final = "application/problem+json"

_BY_STATUS: Final = (
    ProxyReason.BadRequest,
    ProxyReason.Forbidden,
    ProxyReason.NotFound,
    ProxyReason.RequestTimeout,
    ProxyReason.BodyTooLarge,
    ProxyReason.UpgradeRequired,
    ProxyReason.HeadersTooLarge,
    ProxyReason.ProxyError,
    ProxyReason.BadAnswer,
    ProxyReason.ApplicationUnavailable,
    ProxyReason.ApplicationTimeout,
)


def local_reply_config() -> Json:
    """The first mapper that matches decides."""
    return {
        "mappers": [
            # The guard refused: its body says why. Both must come first.
            {
                "filter": _status("EQ", names.STATUS_UNAVAILABLE),
                "status_code": ProxyReason.GuardUnavailable.status,
            },
            {"filter": _details("ext_authz_denied")},
            # The guard did not answer; the body is empty.
            _mapper(_details("ext_authz_error"), ProxyReason.GuardUnavailable),
            *(_mapper(_status("EQ", reason.status), reason) for reason in _BY_STATUS),
            _mapper(_status("GE", 400), ProxyReason.Other),
        ]
    }


def _mapper(condition: Json, reason: ProxyReason) -> Json:
    body = {
        "type": problem_type(reason.code),
        "title": reason.title,
        "status": reason.status or "%RESPONSE_CODE%",
        "code": reason.code,
    }
    return {
        "filter": condition,
        "body_format_override": {"json_format": body, "content_type": _CONTENT_TYPE},
    }


def _status(operator: str, status: int) -> Json:
    value = {"default_value": status, "runtime_key": "sendward.unused"}  # the key is mandatory
    return {"status_code_filter": {"comparison": {"op": operator, "value": value}}}


def _details(details: str) -> Json:
    """By response code details: the response flag is the same for a refusal and an error."""
    return {
        "extension_filter": extension(
            "envoy.access_loggers.extension_filters.cel",
            "envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter",
            expression=f"response.code_details == '{details}'",
        )
    }
