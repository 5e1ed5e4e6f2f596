"""One hostile tenant: objects whose every free text is chosen to harm others, beside some that are broken.

Each draw is a list of (kind, name, spec, labels). The tenant keeps to what is its own: references lead
to its own objects and to the gateway that it shares with the others.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, Final

from hypothesis import strategies as st

from tests.fuzz import hostile
from tests.fuzz.hostile import MARK

Spec = dict[str, Any]
SHARED: Final = "sms"  # the gateway of the others through which the tenant may send


@dataclass(frozen=True)
class Thing:
    """An object that the tenant declares."""

    kind: str
    name: str
    spec: Any
    labels: dict[str, str]


_Value = st.SearchStrategy[Any]


def _mostly(accepted: _Value, anything: _Value) -> _Value:
    """What the schemas accept nine times out of ten: only that gets far."""
    return st.integers(0, 9).flatmap(lambda choice: accepted if choice else anything)


_LABELS: Final = st.dictionaries(
    st.sampled_from(
        ["tier", "team", "sendward.io/gateway", "sendward.io/part", "app.kubernetes.io/managed-by"]
    ),
    st.sampled_from(["gold", MARK, "n", "1e3", "sendward", "document", "sms"]),
    max_size=3,
)
_SOURCES: Final = _mostly(
    st.sampled_from(
        [None, ["10.0.0.0/8"], ["192.0.2.0/24", "10.9.0.0/16"], ["2001:db8::/32", "0.0.0.0/1", "128.0.0.0/1"]]
    ),
    st.lists(hostile.cidrs, min_size=1, max_size=3),
)
_SENDER_IDS: Final = _mostly(
    st.lists(
        st.sampled_from([MARK, "BANK", "n", "1e3", "+15550100", "A.B_&-", "  "]),
        min_size=1,
        max_size=3,
        unique=True,
    ),
    st.lists(hostile.marked(hostile.texts), max_size=3),
)
_OPERATION_NAMES: Final = _mostly(
    st.lists(st.sampled_from(["send", MARK, "none", "n"]), min_size=1, max_size=3, unique=True),
    st.lists(hostile.texts, max_size=3),
)
_LIMITS: Final = st.lists(
    st.fixed_dictionaries(
        {"messages": _mostly(st.sampled_from([1, 10_000_000]), st.sampled_from([0, -1, 2**63]))},
        optional={
            "per": _mostly(st.sampled_from(["1s", "31d"]), st.sampled_from(["32d", "0s", MARK])),
            "burst": st.sampled_from([1, 10_000_000]),
        },
    ),
    max_size=3,
)
_SELECTORS: Final = st.one_of(
    st.none(),
    st.just({"matchLabels": {"team": MARK}}),
    st.just({"matchLabels": {"tier": "gold"}}),
    hostile.junk,
    st.fixed_dictionaries({"matchLabels": st.dictionaries(hostile.texts, hostile.texts, max_size=2)}),
)


def _optional(fields: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[Spec]:
    def present(spec: Spec) -> Spec:
        return {name: value for name, value in spec.items() if value is not None}

    return st.fixed_dictionaries({}, optional=fields).map(present)


def _accounts(gateways: st.SearchStrategy[list[str]], policy: str) -> st.SearchStrategy[Spec]:
    named = _mostly(st.sampled_from([policy, MARK, "std"]), hostile.names)
    optional = {
        "displayName": _mostly(
            hostile.marked(st.sampled_from(hostile.ACCEPTED_TEXTS)), hostile.marked(hostile.texts)
        ),
        "sourceCIDRs": _SOURCES,
        "senderIDs": _SENDER_IDS,
        "suspend": st.booleans(),
        "policies": _optional({"apiKey": named, "rateLimit": named}),
    }
    return st.tuples(gateways, _optional(optional)).map(lambda parts: {"gateways": parts[0], **parts[1]})


def _keys(accounts: list[str]) -> st.SearchStrategy[Spec]:
    optional = {
        "policy": _mostly(st.sampled_from([MARK, "std"]), hostile.names),
        "operations": _OPERATION_NAMES,
        "sourceCIDRs": _SOURCES,
        "rotateNonce": _mostly(
            hostile.marked(st.sampled_from(["", "n", "{{", "%s", "$(x)"])), hostile.marked(hostile.texts)
        ),
        "revokeThrough": _mostly(st.sampled_from([0, 1, 1_000_000]), st.sampled_from([-1, 2**63])),
    }
    return st.tuples(st.sampled_from(accounts), _optional(optional)).map(
        lambda parts: {"account": parts[0], **parts[1]}
    )


_KEY_POLICIES: Final = _optional(
    {
        "accountSelector": _SELECTORS,
        "operations": _OPERATION_NAMES,
        "sourceCIDRs": _SOURCES,
        "handOver": st.sampled_from([{"type": "Secret"}, {"type": "Vault"}]),
        "rotation": _optional({"every": st.sampled_from(["30d", "2h", MARK]), "overlap": st.just("1h")}),
        "maximumAge": _mostly(st.just("180d"), st.sampled_from(["1s", MARK])),
    }
)
_LIMIT_POLICIES: Final = _optional(
    {
        "accountSelector": _SELECTORS,
        "account": _LIMITS,
        "key": _LIMITS,
        "mode": st.sampled_from(["Enforce", "Audit"]),
    }
)
_PLACES: Final = st.one_of(
    st.fixed_dictionaries({"jsonPointer": hostile.marked(hostile.pointers).map(lambda text: f"/{text}")}),
    st.fixed_dictionaries({"queryParameter": hostile.marked(hostile.texts)}),
    st.fixed_dictionaries({"formField": hostile.marked(st.sampled_from(hostile.ACCEPTED_TEXTS))}),
)
_OPERATIONS: Final = st.lists(
    st.fixed_dictionaries(
        {
            "name": st.sampled_from([MARK, "send", "none", "n"]),
            "path": _mostly(
                st.sampled_from([f"/{MARK}", f"/{MARK}/.b", "/", "/v1/messages", "/~n"]), hostile.paths
            ),
        },
        optional={
            "method": st.sampled_from(["GET", "POST", "PUT"]),
            "pathMatch": st.sampled_from(["Exact", "Prefix"]),
            "message": st.fixed_dictionaries(
                {"recipient": _PLACES}, optional={"senderID": _PLACES, "text": _PLACES}
            ),
        },
    ),
    min_size=1,
    max_size=3,
)
_TLS: Final = st.one_of(
    st.sampled_from([MARK, "sendward-sms-tls", "sendward-ca", "a.b", "../x"]).map(
        lambda name: {"secretName": name}
    ),
    st.lists(st.sampled_from([f"{MARK}.example", "*.example", "*", "a b"]), max_size=2).map(
        lambda found: {"vaultPKI": {"dnsNames": found}}
    ),
)


def _gateways() -> st.SearchStrategy[Spec]:
    return st.tuples(
        st.fixed_dictionaries(
            {
                "applicationPort": _mostly(st.just(8080), st.sampled_from([8443, 15021])),
                "operations": _OPERATIONS,
            }
        ),
        _TLS,
        _mostly(st.just(["10.0.0.0/8"]), st.lists(hostile.cidrs, min_size=1, max_size=2)),
        _optional(
            {
                "allowAnySource": st.booleans(),
                "metricsNamespace": st.sampled_from(["kube-system", MARK]),
                "shards": st.sampled_from([1, 2]),
                "egress": st.just({"dns": "None", "rules": [{"cidr": "10.0.0.0/8", "port": 443}]}),
                "frontCIDRs": _mostly(st.just([]), st.lists(hostile.cidrs, max_size=2)),
            }
        ),
    ).map(lambda parts: {"http": parts[0], "tls": parts[1], "sourceCIDRs": parts[2], **parts[3]})


def _break(draw: st.DrawFn, spec: Spec) -> Any:
    """Now and then a field is of another type, unknown, or the whole spec is."""
    kind = draw(st.integers(0, 19))
    if kind > 1 or not spec:
        return spec
    if kind == 0:
        return draw(hostile.junk)
    return copy.deepcopy(spec) | {draw(st.sampled_from([*spec, MARK])): draw(hostile.junk)}


@st.composite
def things(draw: st.DrawFn) -> list[Thing]:
    """Everything that the tenant declares, in any order."""
    names = _mostly(
        st.sampled_from([MARK, "n", "no", "null", "1e3", "0x1", "sendward-sms", "a" * 40]), hostile.names
    )
    gateway, account, policy = draw(names), draw(names), draw(names)
    reach = st.sampled_from([[SHARED], [SHARED], [gateway], [SHARED, gateway], [gateway, SHARED], []])
    made: list[tuple[str, str, Spec]] = [
        ("MessagingGateway", gateway, draw(_gateways())),
        ("SenderAccount", account, draw(_accounts(reach, policy))),
        ("SenderAccount", f"{MARK}-2", draw(_accounts(reach, policy))),
        ("APIKeyPolicy", policy, draw(_KEY_POLICIES)),
        ("APIKeyPolicy", MARK, draw(_KEY_POLICIES)),
        ("RateLimitPolicy", policy, draw(_LIMIT_POLICIES)),
    ]
    for name in (account, f"{MARK}-key", draw(names)):
        made.append(("APIKey", name, draw(_keys([account, f"{MARK}-2"]))))
    taken = {("MessagingGateway", SHARED), ("APIKeyPolicy", "std")}
    found = {(kind, name): Thing(kind, name, _break(draw, spec), draw(_LABELS)) for kind, name, spec in made}
    kept = [thing for key, thing in found.items() if key not in taken]
    return list(draw(st.permutations(kept)))
