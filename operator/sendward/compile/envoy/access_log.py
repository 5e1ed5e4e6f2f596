"""The access log: one JSON object per request on stdout.

Path, query, body and headers of the client are not in it, since an API may carry phone numbers, text
or keys in any of them; operation and method are those of the route instead. (HTTP/2 admits any token as
a method, also a phone number.)
"""

from __future__ import annotations

from typing import Final

from sendward import names
from sendward.compile.envoy.resource import Json, extension

ROUTE_METADATA: Final = "sendward"  # namespace of what a route says of itself; key `method`

_FIELDS: Final = {
    "time": "%START_TIME%",
    "requestId": "%REQ(X-REQUEST-ID)%",
    "source": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
    "peer": "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%",
    "protocol": "%PROTOCOL%",
    "tls": "%DOWNSTREAM_TLS_VERSION%",
    "method": f"%METADATA(ROUTE:{ROUTE_METADATA}:method)%",
    "operation": "%ROUTE_NAME%",
    "status": "%RESPONSE_CODE%",
    "details": "%RESPONSE_CODE_DETAILS%",
    "flags": "%RESPONSE_FLAGS%",
    # Metadata and not the response's header: an allowed request may carry a reason too (mode Audit).
    "reason": f"%DYNAMIC_METADATA(envoy.filters.http.ext_authz:{names.HEADER_REASON})%",
    "account": f"%REQ({names.HEADER_ACCOUNT.upper()})%",
    "key": f"%REQ({names.HEADER_KEY.upper()})%",
    "durationMs": "%DURATION%",
    "bytesReceived": "%BYTES_RECEIVED%",
    "bytesSent": "%BYTES_SENT%",
}


def access_log() -> Json:
    """The logger of the connection manager."""
    return extension(
        "envoy.access_loggers.stdout",
        "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog",
        log_format={"json_format": dict(_FIELDS), "omit_empty_values": True},
    )
