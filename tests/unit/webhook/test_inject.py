import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sendward import names
from sendward.webhook.inject import GatewayInfo, Parameters, RefusedError, inject, patch

Object = dict[str, Any]
GATEWAY = GatewayInfo(
    "messaging", "sms", "uid-of-sms", https_port=8443, shards=2, tls_secret="sendward-sms-tls"
)
PARAMETERS = Parameters("sendward:1", "envoy:1", "2", "hub:9443", "key")

OWN = st.sampled_from(["app", "worker", names.GUARD_CONTAINER, names.PROXY_CONTAINER])
PORTS = st.integers(1, 65535).filter(lambda port: port not in names.RESERVED_PORTS)
PROBES = st.one_of(
    st.fixed_dictionaries({"tcpSocket": st.fixed_dictionaries({"port": PORTS})}),
    st.fixed_dictionaries(
        {"httpGet": st.fixed_dictionaries({"port": PORTS, "path": st.text(max_size=8)})},
        optional={"periodSeconds": st.integers(1, 60)},
    ),
    st.fixed_dictionaries({"exec": st.fixed_dictionaries({"command": st.just(["true"])})}),
)
CONTAINERS = st.lists(
    st.fixed_dictionaries(
        {"name": OWN, "image": st.just("own:1")},
        optional={
            "readinessProbe": PROBES,
            "livenessProbe": PROBES,
            "volumeMounts": st.lists(
                st.fixed_dictionaries({"name": st.sampled_from(["data", "sendward-run", "sendward-x"])}),
                max_size=3,
            ),
        },
    ),
    max_size=4,
    unique_by=lambda container: str(container["name"]),
)
VOLUMES = st.lists(
    st.fixed_dictionaries(
        {"name": st.sampled_from(["data", *(f"sendward-{n}" for n in "ab"), "sendward-tls"])}
    )
)
PODS = st.fixed_dictionaries(
    {
        "metadata": st.fixed_dictionaries({}, optional={"annotations": st.just({"team": "a"})}),
        "spec": st.fixed_dictionaries(
            {"containers": CONTAINERS}, optional={"initContainers": CONTAINERS, "volumes": VOLUMES}
        ),
    }
)


@given(PODS)
def test_injecting_twice_is_injecting_once(pod: Object) -> None:
    before = copy.deepcopy(pod)
    once = inject(pod, GATEWAY, PARAMETERS)
    assert pod == before
    assert inject(once, GATEWAY, PARAMETERS) == once
    assert patch(once, inject(once, GATEWAY, PARAMETERS)) == []


@given(PODS)
def test_nothing_of_our_names_is_the_users(pod: Object) -> None:
    spec = inject(pod, GATEWAY, PARAMETERS)["spec"]
    first, second, *others = spec["initContainers"]
    others += spec["containers"]
    assert (first["image"], second["image"]) == ("sendward:1", "envoy:1")
    assert not {c["name"] for c in others} & {names.GUARD_CONTAINER, names.PROXY_CONTAINER}
    mounted = {m["name"] for c in others for m in c.get("volumeMounts", [])}
    assert not any(name.startswith(names.VOLUME_PREFIX) for name in mounted)
    ours = [v["name"] for v in spec["volumes"] if v["name"].startswith(names.VOLUME_PREFIX)]
    assert len(ours) == len(set(ours)) == 8


@given(PODS)
def test_only_the_guard_can_log_in_to_the_counters(pod: Object) -> None:
    spec = inject(pod, GATEWAY, PARAMETERS)["spec"]
    [volume] = [v for v in spec["volumes"] if v["name"] == names.VOLUME_COUNTERS]
    assert volume["secret"] == {"secretName": "sendward-sms-counters", "optional": True}
    mounts = {
        container["name"]: mount
        for container in (*spec["initContainers"], *spec["containers"])
        for mount in container.get("volumeMounts", [])
        if mount["name"] == names.VOLUME_COUNTERS
    }
    expected = {"name": names.VOLUME_COUNTERS, "mountPath": names.PATH_COUNTERS, "readOnly": True}
    assert mounts == {names.GUARD_CONTAINER: expected}


@given(PODS)
def test_no_network_probe_goes_to_the_application(pod: Object) -> None:
    injected = inject(pod, GATEWAY, PARAMETERS)
    recorded = json.loads(injected["metadata"]["annotations"].get(names.ANNOTATION_APP_PROBES, "{}"))
    for container in [*injected["spec"]["initContainers"][2:], *injected["spec"]["containers"]]:
        for kind in ("readiness", "liveness"):
            probe = container.get(f"{kind}Probe")
            if probe and "exec" not in probe:
                assert probe["httpGet"]["port"] == names.PORT_PROBE
                assert f"{container['name']}/{kind}" in recorded


@given(PODS)
def test_the_patch_says_the_whole_change(pod: Object) -> None:
    injected = inject(pod, GATEWAY, PARAMETERS)
    patched = copy.deepcopy(pod)
    for operation in patch(pod, injected):
        *parents, field = operation["path"].split("/")[1:]
        holder = patched
        for parent in parents:
            holder = holder[parent]
        holder[field] = operation["value"]
    if not injected["metadata"]["annotations"]:
        del injected["metadata"]["annotations"]
    assert patched == injected


def _forged(annotation: str) -> Object:
    probe = {"httpGet": {"port": names.PORT_PROBE, "path": "/app/app/readiness"}}
    return {
        "metadata": {"annotations": {names.ANNOTATION_APP_PROBES: annotation}},
        "spec": {"containers": [{"name": "app", "readinessProbe": probe}]},
    }


@pytest.mark.parametrize(
    "annotation",
    [
        "",
        "{",
        "[]",
        '{"app/readiness":{}}',
        '{"app/readiness":{"port":70000,"tcp":true}}',
        '{"app/readiness":{"port":15021,"tcp":true}}',
        '{"app/readiness":{"port":15090,"path":"/quit"}}',
        '{"app/readiness":{"port":1,"path":"/","tcp":true}}',
        '{"app/readiness":{"port":1,"path":"/","scheme":"FILE"}}',
        '{"app/liveness":{"port":8080,"tcp":true}}',
        "[" * 100_000,
    ],
)
def test_a_forged_record_of_probes_is_refused(annotation: str) -> None:
    with pytest.raises(RefusedError, match="give the application's own port"):
        inject(_forged(annotation), GATEWAY, PARAMETERS)


def test_a_record_counts_only_for_probes_of_our_form() -> None:
    pod = _forged('{"app/readiness":{"port":22,"tcp":true},"app/startup":{"port":22,"tcp":true}}')
    pod["spec"]["containers"][0]["readinessProbe"] = {"tcpSocket": {"port": 8080}}
    recorded = inject(pod, GATEWAY, PARAMETERS)["metadata"]["annotations"][names.ANNOTATION_APP_PROBES]
    assert json.loads(recorded) == {"app/readiness": {"port": 8080, "tcp": True}}
