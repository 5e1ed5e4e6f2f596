"""Asks the guard about every request, with what it judges and the whole body; no answer means no."""

from __future__ import annotations

from typing import Final

from sendward import names
from sendward.compile.envoy import cluster
from sendward.compile.envoy.resource import Json, extension
from sendward.resources.messaging_gateway import MessagingGatewaySpec

NAME: Final = "envoy.filters.http.ext_authz"  # also the namespace of its dynamic metadata
_TIMEOUT: Final = "1s"
_TO_APPLICATION: Final = (names.HEADER_ACCOUNT, names.HEADER_KEY)
_TO_CLIENT: Final = ("content-type", "retry-after", "www-authenticate", names.HEADER_REASON)


def ext_authz(spec: MessagingGatewaySpec) -> Json:
    """The guard sees a repeated header as one value, joined with commas.

    Where the request comes from is said to the guard only, so nothing of it is to be taken off again.
    Each header, statistic and piece of metadata here is paid for by every request.
    """
    source = {"key": names.HEADER_SOURCE, "value": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"}
    return extension(
        NAME,
        "envoy.extensions.filters.http.ext_authz.v3.ExtAuthz",
        transport_api_version="V3",
        failure_mode_allow=False,
        status_on_error={"code": "ServiceUnavailable"},
        clear_route_cache=False,
        with_request_body={"max_request_bytes": spec.http.max_body_bytes, "allow_partial_message": False},
        # Envoy frames the body anew with a Content-Length; the client's framing would contradict it.
        allowed_headers=_exactly(tuple(name for name in names.HEADERS_JUDGED if name != names.HEADER_SOURCE)),
        charge_cluster_response_stats=False,
        http_service={
            "server_uri": {"uri": "http://guard", "cluster": cluster.GUARD, "timeout": _TIMEOUT},
            "authorization_request": {"headers_to_add": [source]},
            "authorization_response": {
                "allowed_upstream_headers": _exactly(_TO_APPLICATION),
                "allowed_client_headers": _exactly(_TO_CLIENT),
                "dynamic_metadata_from_headers": _exactly((names.HEADER_REASON,)),
            },
        },
    )


def _exactly(headers: tuple[str, ...]) -> Json:
    return {"patterns": [{"exact": header} for header in headers]}
