"""One table for two judges: the API server (CEL) and `parse` (pydantic) must agree on every row.

A change sets or removes (`GONE`) values of a kind's minimal spec, by dotted path.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sendward.names import API_VERSION

GONE = object()
Changes = Mapping[str, Any]

GATEWAY = "MessagingGateway"
ACCOUNT = "SenderAccount"
POLICY = "APIKeyPolicy"
KEY = "APIKey"
LIMITS = "RateLimitPolicy"

MINIMAL: dict[str, dict[str, Any]] = {
    GATEWAY: {
        "http": {
            "applicationPort": 8080,
            "operations": [
                {"name": "send", "path": "/v1/messages", "message": {"recipient": {"jsonPointer": "/to"}}},
                {"name": "status", "method": "GET", "path": "/v1/status", "pathMatch": "Prefix"},
            ],
        },
        "tls": {"secretName": "sms-tls"},
        "sourceCIDRs": ["192.0.2.0/24"],
    },
    ACCOUNT: {"gateways": ["sms"]},
    POLICY: {},
    KEY: {"account": "bank"},
    LIMITS: {"account": [{"messages": 100}]},
}


@dataclass(frozen=True)
class Rule:
    """A constraint: changes that keep it, changes that break it, and the path that the message names."""

    kind: str
    name: str
    good: tuple[Changes, ...]
    bad: tuple[Changes, ...]
    path: str
    says: str = ""  # part of both judges' message, where they share it


def cidr_list(kind: str, path: str, *, any_source: bool) -> Iterator[Rule]:
    """The rules that every list of CIDRs obeys."""
    yaml = f"spec.{path}"
    bad = ("10.1.2.3/8", "10.0.0.0", "300.0.0.0/8", "10.0.0.0/33", "2001:DB8::/32", "2001:db8:0::/32")
    mapped = ("::ffff:10.0.0.0/104", "::ffff:a00:0/104")
    odd = ("10.0.0.0/08", "010.0.0.0/8", "10.0.0.0/255.0.0.0", " 10.0.0.0/8", "fe80::%1/64", "", "::/129")
    good = ("10.0.0.0/8", "192.0.2.7/32", "2001:db8::/32", "::/1", "::1/128", "1:0:2::/48", "::102:304/128")
    yield Rule(
        kind,
        f"{path} canonical",
        tuple({path: [cidr]} for cidr in good),
        tuple({path: [cidr]} for cidr in (*bad, *mapped, *odd)),
        f"{yaml}[0]",
    )
    yield Rule(
        kind,
        f"{path} unique",
        ({path: ["10.0.0.0/8", "10.0.0.0/16"]},),
        ({path: ["10.0.0.0/8", "10.0.0.0/8"]},),
        yaml,
    )
    if not any_source:
        narrow = ({path: ["0.0.0.0/1", "128.0.0.0/1"]},)
        wide = ({path: ["0.0.0.0/0"]}, {path: ["::/0"]})
        yield Rule(kind, f"{path} not /0", narrow, wide, f"{yaml}[0]", "lets every address in")


def bounds(kind: str, path: str, ends: tuple[Any, Any], beside: tuple[Any, Any]) -> Rule:
    """A range: its ends are accepted, the values beside them refused."""
    good, bad = tuple({path: value} for value in ends), tuple({path: value} for value in beside)
    return Rule(kind, f"{path} bounds", good, bad, f"spec.{path}")


def duration(kind: str, path: str, *good: str) -> Rule:
    bad = ("0s", "5", "1w", "1h30m", "-1s", "1.5h", "1000000s", "1s\n", "", "1H")
    return Rule(
        kind, f"{path} format", tuple({path: v} for v in good), tuple({path: v} for v in bad), f"spec.{path}"
    )


_BAD_PREFIXES = ("A/b", "a..b/c", "a.-b/c", "a-.b/c", f"{'a' * 254}/b")
BAD_LABELS = ("", "a b", "/a", "a/", "a/b/c", "-a", "a-", "a" * 64, "a\n", *_BAD_PREFIXES)
# Every kind: what stands beside the spec's own rules.
GOOD_NAMES = ("a", "a-1", "0", "a" * 40)
BAD_NAMES = ("a.b", "a" * 41)  # others are refused by the API server for every object


def an_object(kind: str, spec: Any, name: str = "case") -> dict[str, Any]:
    """A whole object."""
    metadata = {"name": name, "namespace": "default"}
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": spec}


def changed(kind: str, changes: Changes) -> dict[str, Any]:
    """The minimal object of a kind with these changes."""
    spec = copy.deepcopy(MINIMAL[kind])
    for path, value in changes.items():
        put(spec, path.split("."), value)
    return an_object(kind, spec)


def put(node: Any, steps: list[str], value: Any) -> None:
    """Set or remove one value; a mapping on the way that is not there is added."""
    for step in steps[:-1]:
        node = node[int(step)] if isinstance(node, list) else node.setdefault(step, {})
    last: Any = int(steps[-1]) if isinstance(node, list) else steps[-1]
    if value is GONE:
        node.pop(last, None)
    else:
        node[last] = copy.deepcopy(value)
