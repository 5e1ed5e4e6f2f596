"""What the sidecar is compared with: the same Envoy with TLS and no policy, and Envoy's own filters.

All have the product's listener, TLS, clusters and application.

bare           a route, nothing else
plain          a route and the product's access log: what all others are measured against
transport      the product's configuration without the call of the guard: limits, normalisation, log
native         plain, with api_key_auth, an RBAC tree of source networks, and local rate limits
native_signed  native, with a call of a server that verifies signatures (`tests.bench.signing`)

The native chains lack what Envoy's filters cannot do: hashed keys, operations of a key, sender ids,
recipients of a message, and counters that pods and key versions share.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Final

from sendward import names
from sendward.compile.envoy import cluster
from sendward.compile.envoy.filters.ext_authz import NAME as EXT_AUTHZ
from sendward.document import EnvoyFiles
from tests.guard.builders import Credential

Json = dict[str, Any]

_HTTP: Final = "envoy.extensions.filters.http"
_CLIENT: Final = "x-sw-client"
_RATE_LIMITS: Final[list[Json]] = [
    {"actions": [{"request_headers": {"header_name": _CLIENT, "descriptor_key": "account"}}]}
]
_SOURCE_INPUT: Final = "envoy.extensions.matching.common_inputs.network.v3.SourceIPInput"


def _typed(type_name: str, /, **fields: Any) -> Json:
    return {"@type": f"type.googleapis.com/{type_name}", **fields}


def _named(name: str, type_name: str, /, **fields: Any) -> Json:
    return {"name": name, "typed_config": _typed(type_name, **fields)}


def transport(compiled: EnvoyFiles) -> EnvoyFiles:
    """The product's files without the guard."""
    files = copy.deepcopy(compiled)
    manager = _manager(files)
    manager["http_filters"] = [f for f in manager["http_filters"] if f["name"] != EXT_AUTHZ]
    return files


def bare(compiled: EnvoyFiles) -> EnvoyFiles:
    """Nothing in the HTTP configuration but a route."""
    return _only(compiled, [], [], log=False)


def plain(compiled: EnvoyFiles) -> EnvoyFiles:
    """Nothing in the HTTP configuration but a route and the access log."""
    return _only(compiled, [], [])


def native(compiled: EnvoyFiles, credentials: Sequence[Credential], cidr: str) -> EnvoyFiles:
    """One account a key, each with the same network and limits."""
    return _only(compiled, _policy(credentials, cidr), _RATE_LIMITS)


def native_signed(compiled: EnvoyFiles, credentials: Sequence[Credential], cidr: str) -> EnvoyFiles:
    """The same, and every request is signed."""
    files = _only(compiled, [*_policy(credentials, cidr), _signature()], _RATE_LIMITS)
    files.clusters[:] = copy.deepcopy(compiled.clusters)
    return files


def _signature() -> Json:
    headers = ("x-timestamp", "x-nonce", "x-signature")
    return _named(
        EXT_AUTHZ,
        f"{_HTTP}.ext_authz.v3.ExtAuthz",
        transport_api_version="V3",
        with_request_body={"max_request_bytes": 65536, "allow_partial_message": False},
        allowed_headers={"patterns": [{"exact": name} for name in headers]},
        http_service={"server_uri": {"uri": "http://guard", "cluster": cluster.GUARD, "timeout": "1s"}},
    )


def _policy(credentials: Sequence[Credential], cidr: str) -> list[Json]:
    clients = [f"customer-{number:05}" for number in range(len(credentials))]
    auth = _named(
        "envoy.filters.http.api_key_auth",
        f"{_HTTP}.api_key_auth.v3.ApiKeyAuth",
        credentials=[
            {"key": held.value, "client": client} for held, client in zip(credentials, clients, strict=True)
        ],
        key_sources=[{"header": "x-api-key"}],
        forwarding={"header": _CLIENT, "hide_credentials": True},
    )
    return [auth, _networks(clients, cidr), _limits()]


def _networks(clients: Sequence[str], cidr: str) -> Json:
    address, _, length = cidr.partition("/")
    within = {
        "matcher_tree": {
            "input": _named("address", _SOURCE_INPUT),
            "custom_match": _named(
                "address",
                "xds.type.matcher.v3.IPMatcher",
                range_matchers=[
                    {
                        "ranges": [{"address_prefix": address, "prefix_len": int(length)}],
                        "on_match": {"action": _action("ALLOW")},
                    }
                ],
            ),
        },
        "on_no_match": {"action": _action("DENY")},
    }
    header = _named("client", "envoy.type.matcher.v3.HttpRequestHeaderMatchInput", header_name=_CLIENT)
    matcher = {
        "matcher_tree": {
            "input": header,
            "exact_match_map": {"map": {client: {"matcher": within} for client in clients}},
        },
        "on_no_match": {"action": _action("DENY")},
    }
    return _named("envoy.filters.http.rbac", f"{_HTTP}.rbac.v3.RBAC", matcher=matcher)


def _action(verdict: str) -> Json:
    return _named(verdict.lower(), "envoy.config.rbac.v3.Action", name=verdict.lower(), action=verdict)


def _limits() -> Json:
    bucket = {"max_tokens": 1_000_000, "tokens_per_fill": 1_000_000, "fill_interval": "1s"}
    always = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}, "runtime_key": "unused"}
    return _named(
        "envoy.filters.http.local_ratelimit",
        f"{_HTTP}.local_ratelimit.v3.LocalRateLimit",
        stat_prefix="limits",
        token_bucket=bucket,
        filter_enabled=always,
        filter_enforced=always,
        max_dynamic_descriptors=20_000,  # an empty value: one bucket for each account
        descriptors=[{"entries": [{"key": "account", "value": ""}], "token_bucket": bucket}],
    )


def _only(
    compiled: EnvoyFiles, filters: list[Json], rate_limits: list[Json], *, log: bool = True
) -> EnvoyFiles:
    files = copy.deepcopy(compiled)
    manager = _manager(files)
    route: Json = {"cluster": "application"}
    if rate_limits:
        route["rate_limits"] = rate_limits
    hosts = [{"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": route}]}]
    kept = {name: manager[name] for name in ("@type", "stat_prefix", *(["access_log"] if log else []))}
    manager.clear()
    manager.update(
        kept,
        route_config={"name": "all", "virtual_hosts": hosts},
        http_filters=[
            *filters,
            _named("envoy.filters.http.router", f"{_HTTP}.router.v3.Router"),
        ],
    )
    files.clusters[:] = [c for c in files.clusters if names.PATH_GUARD_SOCKET not in str(c)]
    return files


def _manager(files: EnvoyFiles) -> Json:
    """The HTTP connection manager of the only listener."""
    (listener,) = files.listeners
    chain: Any = listener["filter_chains"]
    manager: Json = chain[0]["filters"][-1]["typed_config"]
    return manager
