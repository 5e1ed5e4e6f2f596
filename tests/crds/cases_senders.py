"""Constraints of SenderAccount, APIKeyPolicy, APIKey and RateLimitPolicy."""

from __future__ import annotations

from tests.crds.cases import ACCOUNT, BAD_LABELS, GONE, KEY, LIMITS, POLICY, Rule, bounds, cidr_list, duration

ACCOUNT_RULES = (
    *cidr_list(ACCOUNT, "sourceCIDRs", any_source=False),
    Rule(
        ACCOUNT,
        "gateways given",
        ({"gateways": ["a", "b"]},),
        ({"gateways": []}, {"gateways": GONE}),
        "spec.gateways",
    ),
    Rule(
        ACCOUNT, "gateways unique", ({"gateways": ["a", "b"]},), ({"gateways": ["a", "a"]},), "spec.gateways"
    ),
    Rule(
        ACCOUNT,
        "gateway names",
        ({"gateways": ["a" * 40]},),
        tuple({"gateways": [bad]} for bad in ("A", "a.b", "-a", "a" * 41, "other/sms")),
        "spec.gateways[0]",
    ),
    Rule(
        ACCOUNT,
        "sender ids",
        tuple({"senderIDs": [good]} for good in ("+123456789012345", "12345", "Example Bnk", "A&B", "12")),
        tuple({"senderIDs": [bad]} for bad in ("", "TwelveLetter", "+12", "1234567890123456", "Zoë")),
        "spec.senderIDs[0]",
    ),
    Rule(
        ACCOUNT,
        "sender ids unique",
        ({"senderIDs": ["a", "A"]},),
        ({"senderIDs": ["a", "a"]},),
        "spec.senderIDs",
    ),
    Rule(ACCOUNT, "sender ids not none", ({"senderIDs": GONE},), ({"senderIDs": []},), "spec.senderIDs"),
    Rule(
        ACCOUNT,
        "display name",
        ({"displayName": "Ümläut & Søns 🏦"}, {"displayName": "é" * 128}),
        ({"displayName": "a\nb"}, {"displayName": "a\x00b"}, {"displayName": "é" * 129}),
        "spec.displayName",
    ),
    Rule(ACCOUNT, "suspend", ({"suspend": True},), ({"suspend": "yes"}, {"suspend": 1}), "spec.suspend"),
    Rule(
        ACCOUNT,
        "policies",
        ({"policies": {"apiKey": "a", "rateLimit": "b"}},),
        ({"policies": {"apiKey": "A"}},),
        "spec.policies.apiKey",
    ),
)

POLICY_RULES = (
    *cidr_list(POLICY, "sourceCIDRs", any_source=False),
    Rule(
        POLICY,
        "overlap below every",
        ({"rotation": {"every": "90d"}}, {"rotation": {"every": "1441m"}}, {"rotation": {"overlap": "999d"}}),
        (
            {"rotation": {"every": "24h"}},
            {"rotation": {"every": "1d"}},
            {"rotation": {"every": "2h", "overlap": "121m"}},
        ),
        "spec.rotation.overlap",
        "is not shorter than every",
    ),
    Rule(
        POLICY,
        "retirement within the overlap",
        ({"rotation": {"retireWhenUnusedFor": "1d"}},),
        (
            {"rotation": {"retireWhenUnusedFor": "25h"}},
            {"rotation": {"overlap": "1h", "retireWhenUnusedFor": "61m"}},
        ),
        "spec.rotation.retireWhenUnusedFor",
        "is longer than overlap",
    ),
    Rule(
        POLICY,
        "age above the overlap",
        ({"maximumAge": "25h"}, {"maximumAge": "2m", "rotation": {"overlap": "119s"}}),
        ({"maximumAge": "24h"}, {"maximumAge": "1d"}, {"maximumAge": "2m", "rotation": {"overlap": "120s"}}),
        "spec.maximumAge",
        "is not longer than rotation.overlap",
    ),
    duration(POLICY, "maximumAge", "999999h"),
    bounds(POLICY, "rotation.jitterPercent", (0, 50), (-1, 51)),
    Rule(
        POLICY,
        "hand-over",
        ({"handOver": {"type": "Secret"}},),
        ({"handOver": {"type": "Mail"}},),
        "spec.handOver.type",
    ),
    Rule(
        POLICY, "compromise", ({"onCompromise": "Hold"},), ({"onCompromise": "Ignore"},), "spec.onCompromise"
    ),
    Rule(
        POLICY,
        "operations",
        ({"operations": ["send", "status"]},),
        ({"operations": ["send", "send"]}, {"operations": []}),
        "spec.operations",
    ),
    *(
        Rule(
            kind,
            "selector's keys",
            tuple(
                {"accountSelector": {"matchLabels": {good: "x"}}}
                for good in ("tier", "a.b/c_D", "a/" + "b" * 63)
            ),
            tuple(
                {"accountSelector": {"matchLabels": bad}}
                for bad in (*({key: "x"} for key in BAD_LABELS), {}, {f"a{n}": "" for n in range(9)})
            ),
            "spec.accountSelector.matchLabels",
        )
        for kind in (POLICY, LIMITS)
    ),
    Rule(
        POLICY,
        "selector's values",
        tuple({"accountSelector": {"matchLabels": {"tier": good}}} for good in ("", "A_b.c-d", "a" * 63)),
        tuple({"accountSelector": {"matchLabels": {"tier": bad}}} for bad in ("-", "a b", "a" * 64, True, 1)),
        "spec.accountSelector.matchLabels.tier",
    ),
    Rule(
        POLICY,
        "nulls count as absent",
        (
            {"rotation": None, "maximumAge": None},
            {"rotation": {"overlap": None}},
            {"accountSelector": {"matchLabels": {"tier": "bulk", "gone": None}}},
        ),
        ({"accountSelector": {"matchLabels": None}},),
        "spec.accountSelector.matchLabels",
    ),
    Rule(
        POLICY,
        "selector not empty",
        ({"accountSelector": GONE},),
        ({"accountSelector": {}},),
        "spec.accountSelector.matchLabels",
    ),
)

KEY_RULES = (
    *cidr_list(KEY, "sourceCIDRs", any_source=False),
    Rule(
        KEY,
        "account",
        ({"account": "a-1"},),
        ({"account": "a.b"}, {"account": ""}, {"account": GONE}),
        "spec.account",
    ),
    Rule(KEY, "policy", ({"policy": "a"},), ({"policy": "ns/a"},), "spec.policy"),
    Rule(
        KEY,
        "nonce",
        ({"rotateNonce": "2026-03-01T00:00Z"}, {"rotateNonce": "~" * 64}),
        ({"rotateNonce": "a b"}, {"rotateNonce": "é"}, {"rotateNonce": "a\n"}, {"rotateNonce": "~" * 65}),
        "spec.rotateNonce",
    ),
    bounds(KEY, "revokeThrough", (0, 1_000_000), (-1, 1_000_001)),
    Rule(
        KEY,
        "operations",
        ({"operations": ["send"]},),
        ({"operations": ["send", "send"]}, {"operations": []}),
        "spec.operations",
    ),
)

LIMIT_RULES = (
    Rule(
        LIMITS,
        "limits something",
        ({"account": GONE, "key": [{"messages": 1}]},),
        ({"account": GONE}, {"account": [], "key": []}),
        "spec",
        "limits nothing",
    ),
    *(
        Rule(
            LIMITS,
            f"periods of {path} differ",
            ({path: [{"messages": 1, "per": "1s"}, {"messages": 30, "per": "1m"}]},),
            (
                {path: [{"messages": 1}, {"messages": 2, "per": "1s"}]},
                {path: [{"messages": 1, "per": "1m"}, {"messages": 1, "per": "60s"}]},
                {
                    path: [
                        {"messages": 1, "per": "24h"},
                        {"messages": 1, "per": "1h"},
                        {"messages": 1, "per": "1d"},
                    ]
                },
            ),
            f"spec.{path}",
            "two limits with the same period",
        )
        for path in ("account", "key")
    ),
    Rule(
        LIMITS,
        "period's bound",
        ({"account.0.per": "31d"}, {"account.0.per": "744h"}),
        ({"account.0.per": "32d"}, {"account.0.per": "745h"}),
        "spec.account[0].per",
        "at most 31d",
    ),
    Rule(
        LIMITS,
        "messages' bounds",
        ({"account.0.messages": 1}, {"account.0.messages": 1.0}, {"account.0.messages": 10_000_000}),
        tuple({"account.0.messages": bad} for bad in (0, 10_000_001, "5", 1.5, True, 2**63, GONE)),
        "spec.account[0].messages",
    ),
    Rule(
        LIMITS,
        "burst's bounds",
        ({"account.0.burst": 1}, {"account.0.burst": 10_000_000}),
        ({"account.0.burst": 0}, {"account.0.burst": 10_000_001}),
        "spec.account[0].burst",
    ),
    Rule(
        LIMITS,
        "number of limits",
        ({"key": [{"messages": 1, "per": f"{n}s"} for n in range(1, 5)]},),
        ({"key": [{"messages": 1, "per": f"{n}s"} for n in range(1, 6)]},),
        "spec.key",
    ),
)
