"""Constraints of MessagingGateway."""

from __future__ import annotations

from dataclasses import replace

from tests.crds.cases import BAD_LABELS, GATEWAY, GONE, Changes, Rule, bounds, cidr_list, duration

_OPERATION = {"name": "other", "path": "/other"}
_TWO = [{"name": "a", "path": "/a"}, {"name": "b", "path": "/a"}]
_PKI = {"tls.secretName": GONE}
_REDIS = {"limits.redis.host": "redis"}
_HOSTS = (
    *("a", "redis-0.redis.messaging.svc.cluster.local", "1a.2b", "3.example"),
    *("192.0.2.7", "10.0.0.1", "255.255.255.254", "2001:db8::7", "::102:304", "fd00::1"),
)
_NO_HOSTS = (
    *("", "a b", "a\n", "A", "a_b", "a..b", "a.", "-a", "a-", "é", "*.a", "a" * 64),
    *("a:6379", "redis://a", "a/b", "1.2.3.4/32", "[::1]", "fe80::1%eth0", "::ffff:1.2.3.4"),
    *("1", "10.1", "0x7f.1", "a.0x", "a.7", "1.2.3.256", "1.2.3.4.5", "01.2.3.4"),
    *("2001:DB8::7", "2001:db8:0::7", "::1.2.3.4"),
)
_LOCAL_HOSTS = (
    *("localhost", "a.localhost", "127.0.0.1", "127.9.9.9", "0.0.0.0", "169.254.20.10"),
    *("224.0.0.1", "255.255.255.255", "::", "::1", "fe80::1", "ff02::1"),
)


def _behind(changes: tuple[Changes, ...]) -> tuple[Changes, ...]:
    """The same behind a load balancer: frontCIDRs must not stand alone."""
    return tuple({**change, "trustedHops": 1} for change in changes)


GATEWAY_RULES = (
    *cidr_list(GATEWAY, "sourceCIDRs", any_source=True),
    *(
        replace(rule, good=_behind(rule.good), bad=_behind(rule.bad))
        for rule in cidr_list(GATEWAY, "frontCIDRs", any_source=False)
    ),
    Rule(
        GATEWAY,
        "any source is explicit",
        (
            {"sourceCIDRs": ["0.0.0.0/0", "::/0"], "allowAnySource": True},
            {"sourceCIDRs": ["10.0.0.0/8"], "allowAnySource": True},
        ),
        ({"sourceCIDRs": ["0.0.0.0/0"]}, {"sourceCIDRs": ["10.0.0.0/8", "::/0"], "allowAnySource": False}),
        "spec.sourceCIDRs",
        "set allowAnySource: true",
    ),
    Rule(
        GATEWAY,
        "sources given",
        ({"sourceCIDRs": [f"10.0.{n}.0/24" for n in range(256)]},),
        (
            {"sourceCIDRs": []},
            {"sourceCIDRs": GONE},
            {"sourceCIDRs": [f"10.1.{n}.0/25" for n in range(256)] + ["10.0.0.0/16"]},
        ),
        "spec.sourceCIDRs",
    ),
    Rule(
        GATEWAY,
        "hops or PROXY protocol",
        (
            {"trustedHops": 1, "frontCIDRs": ["10.0.0.0/8"]},
            {"proxyProtocol": True, "frontCIDRs": ["10.0.0.0/8"]},
        ),
        ({"trustedHops": 1, "proxyProtocol": True, "frontCIDRs": ["10.0.0.0/8"]},),
        "spec.proxyProtocol",
        "Set one of the two",
    ),
    Rule(
        GATEWAY,
        "front CIDRs needed",
        ({"trustedHops": 2, "frontCIDRs": ["10.0.0.0/8"]},),
        ({"trustedHops": 1}, {"proxyProtocol": True}, {"proxyProtocol": True, "frontCIDRs": []}),
        "spec.frontCIDRs",
        "List the networks of the load balancer",
    ),
    Rule(
        GATEWAY,
        "front CIDRs alone",
        ({"frontCIDRs": []},),
        ({"frontCIDRs": ["10.0.0.0/8"]},),
        "spec.frontCIDRs",
        "without trustedHops or proxyProtocol",
    ),
    Rule(
        GATEWAY,
        "listener is not the application",
        ({"http.port": 8443, "http.applicationPort": 8444},),
        ({"http.port": 8080}, {"http.applicationPort": 8443}),
        "spec.http.applicationPort",
        "the listener's own port",
    ),
    Rule(
        GATEWAY,
        "listener is not the sidecar's",
        ({"http.port": 15020},),
        ({"http.port": 15021}, {"http.port": 15090}),
        "spec.http.port",
        "is a port of the sidecar",
    ),
    Rule(
        GATEWAY,
        "application is not the sidecar's",
        ({"http.applicationPort": 15089},),
        ({"http.applicationPort": 15021}, {"http.applicationPort": 15090}),
        "spec.http.applicationPort",
        "is a port of the sidecar",
    ),
    bounds(GATEWAY, "http.port", (1, 65535), (0, 65536)),
    bounds(GATEWAY, "http.maxBodyBytes", (1024, 1048576), (1023, 1048577)),
    bounds(GATEWAY, "http.maxConnections", (1, 50000), (0, 50001)),
    bounds(GATEWAY, "trustedHops", (0, 0), (-1, 9)),
    bounds(GATEWAY, "shards", (1, 64), (0, 65)),
    duration(GATEWAY, "http.requestTimeout", "1s", "999999d"),
    duration(GATEWAY, "staleAfter", "90d", "Never"),
    bounds(GATEWAY, "staleAfter", ("60s", "1m"), ("59s", "1s")),
    Rule(
        GATEWAY,
        "one certificate source",
        ({**_PKI, "tls.vaultPKI": {"dnsNames": ["sms.example.com"]}},),
        (_PKI, {"tls.vaultPKI": {"dnsNames": ["sms.example.com"]}}),
        "spec.tls",
        "Set exactly one of secretName and vaultPKI",
    ),
    Rule(
        GATEWAY,
        "name of the certificate's Secret",
        ({"tls.secretName": "a.b-c"},),
        ({"tls.secretName": "A"}, {"tls.secretName": "a..b"}, {"tls.secretName": "../x"}),
        "spec.tls.secretName",
    ),
    *(
        Rule(
            GATEWAY,
            f"certificate's life {number}",
            ({**_PKI, "tls.vaultPKI": {"dnsNames": ["a.example"], "duration": good}},),
            ({**_PKI, "tls.vaultPKI": {"dnsNames": ["a.example"], "duration": bad}},),
            "spec.tls.vaultPKI.duration",
            says,
        )
        for number, (good, bad, says) in enumerate(
            [("1h", "59m", "at least 1h"), ("60m", "3599s", "at least 1h"), ("90d", "91d", "at most 90d")]
        )
    ),
    Rule(
        GATEWAY,
        "certificate's names",
        ({**_PKI, "tls.vaultPKI": {"dnsNames": ["*.example.com", "example.com"]}},),
        tuple(
            {**_PKI, "tls.vaultPKI": {"dnsNames": [bad]}} for bad in ("a..b", "*", "a.*.b", "A.example", "")
        ),
        "spec.tls.vaultPKI.dnsNames[0]",
    ),
    Rule(
        GATEWAY,
        "certificate's names unique",
        ({**_PKI, "tls.vaultPKI": {"dnsNames": ["a.example", "b.example"]}},),
        ({**_PKI, "tls.vaultPKI": {"dnsNames": ["a.example", "a.example"]}},),
        "spec.tls.vaultPKI.dnsNames",
    ),
    Rule(
        GATEWAY,
        "operations given",
        ({"http.operations": [_OPERATION]},),
        ({"http.operations": []}, {"http.operations": GONE}),
        "spec.http.operations",
    ),
    Rule(
        GATEWAY,
        "operation names unique",
        ({"http.operations": [_OPERATION, {"name": "more", "path": "/more"}]},),
        ({"http.operations": [_OPERATION, {"name": "other", "path": "/more"}]},),
        "spec.http.operations",
    ),
    Rule(
        GATEWAY,
        "operations differ",
        (
            {"http.operations": [_TWO[0], {**_TWO[1], "method": "GET"}]},
            {"http.operations": [_TWO[0], {**_TWO[1], "pathMatch": "Prefix"}]},
        ),
        ({"http.operations": _TWO}, {"http.operations": [_TWO[0], {**_TWO[1], "method": "POST"}]}),
        "spec.http.operations",
        "the same method, path and pathMatch",
    ),
    Rule(
        GATEWAY,
        "operation name",
        ({"http.operations.0.name": "a-1"},),
        tuple({"http.operations.0.name": bad} for bad in ("A", "1a", "a_b", "", "a" * 32)),
        "spec.http.operations[0].name",
    ),
    Rule(
        GATEWAY,
        "path segments",
        tuple({"http.operations.0.path": good} for good in ("/", "/a/", "/a/...", "/a/.b", "/a/b..", "/..a")),
        tuple(
            {"http.operations.0.path": bad}
            for bad in ("//", "/a//b", "/.", "/..", "/a/./b", "/a/../b", "/a/..")
        ),
        "spec.http.operations[0].path",
        "an empty, . or .. segment",
    ),
    Rule(
        GATEWAY,
        "path characters",
        ({"http.operations.0.path": "/cgi-bin/sendsms~1.php"},),
        tuple({"http.operations.0.path": bad} for bad in ("a", "", "/a?b", "/%2e", "/a b", "/é", "/a\n")),
        "spec.http.operations[0].path",
    ),
    Rule(
        GATEWAY,
        "prefix without slash",
        ({"http.operations.1.path": "/"}, {"http.operations.1.path": "/v1"}),
        ({"http.operations.1.path": "/v1/"},),
        "spec.http.operations[1].path",
        "ends in a slash",
    ),
    Rule(
        GATEWAY,
        "one place",
        (
            {"http.operations.0.message.recipient": {"queryParameter": "to"}},
            {"http.operations.0.message.recipient": {"formField": "to[]"}},
        ),
        (
            {"http.operations.0.message.recipient": {}},
            {"http.operations.0.message.recipient": {"queryParameter": "to", "formField": "to"}},
            {"http.operations.0.message.recipient.formField": "to"},
        ),
        "spec.http.operations[0].message.recipient",
        "exactly one of jsonPointer, queryParameter, formField",
    ),
    Rule(
        GATEWAY,
        "JSON pointer",
        tuple(
            {"http.operations.0.message.recipient.jsonPointer": good} for good in ("/a/0", "/", "/a~1b", "/ü")
        ),
        tuple({"http.operations.0.message.recipient.jsonPointer": bad} for bad in ("to", "", "/a~2", "/a~")),
        "spec.http.operations[0].message.recipient.jsonPointer",
    ),
    Rule(
        GATEWAY,
        "egress rule",
        ({"egress": {"dns": "None", "rules": [{"cidr": "0.0.0.0/0", "port": 443, "protocol": "UDP"}]}},),
        ({"egress": {"rules": [{"cidr": "10.0.0.1/8", "port": 443}]}},),
        "spec.egress.rules[0].cidr",
    ),
    Rule(
        GATEWAY,
        "Redis has a host",
        ({"limits": {}}, {"limits.redis": {"host": "redis"}}),
        ({"limits.redis": {}}, {"limits.redis": {"port": 6379}}),
        "spec.limits.redis.host",
    ),
    Rule(
        GATEWAY,
        "host of Redis",
        tuple({"limits.redis.host": good} for good in _HOSTS),
        tuple({"limits.redis.host": bad} for bad in _NO_HOSTS),
        "spec.limits.redis.host",
        "is no host. Write",
    ),
    Rule(
        GATEWAY,
        "host of Redis is the same for all pods",
        ({"limits.redis.host": "localhost.example"}, {"limits.redis.host": "mylocalhost"}),
        tuple({"limits.redis.host": bad} for bad in _LOCAL_HOSTS),
        "spec.limits.redis.host",
        "is another host in each pod",
    ),
    Rule(
        GATEWAY,
        "length of the host of Redis",
        ({"limits.redis.host": ".".join("a" * 127)},),
        ({"limits.redis.host": ".".join("a" * 128)},),
        "spec.limits.redis.host",
    ),
    *(
        Rule(
            GATEWAY,
            f"{path} of Redis",
            tuple({**_REDIS, f"limits.redis.{path}": value} for value in good),
            tuple({**_REDIS, f"limits.redis.{path}": value} for value in bad),
            f"spec.limits.redis.{path}",
        )
        for path, good, bad in (
            ("port", (1, 6380, 65535), (0, 65536, -1, "6379")),
            ("tls", (True, False), ("yes", 1)),
            ("podLabels", ({f"l{n}": "" for n in range(8)},), ({}, {f"l{n}": "" for n in range(9)})),
        )
    ),
    Rule(
        GATEWAY,
        "keys and values of podLabels of Redis",
        tuple(
            {**_REDIS, "limits.redis.podLabels": labels}
            for labels in (
                {"app.kubernetes.io/name": "redis"},
                {f"{'.'.join('a' * 127)}/{'b' * 63}": "c" * 63, "A_1": "A._-0"},
                {"app": ""},
            )
        ),
        tuple(
            {**_REDIS, "limits.redis.podLabels": labels}
            for labels in (
                *({key: "x"} for key in BAD_LABELS),
                *({"app": value} for value in ("a b", "-a", "c" * 64, 1)),
            )
        ),
        "spec.limits.redis.podLabels",
    ),
    Rule(
        GATEWAY,
        "metrics namespace",
        ({"metricsNamespace": "a" * 63},),
        ({"metricsNamespace": "a.b"}, {"metricsNamespace": "a" * 64}),
        "spec.metricsNamespace",
    ),
    *(
        Rule(GATEWAY, path, tuple({path: value} for value in values), ({path: "other"},), f"spec.{path}")
        for path, values in {
            "mode": ("Enforce", "Audit"),
            "applicationExposure": ("Refuse", "RelyOnNetworkPolicy"),
            "egress.dns": ("Cluster", "None"),
            "tls.minimumVersion": ("TLSv1_2", "TLSv1_3"),
        }.items()
    ),
)
