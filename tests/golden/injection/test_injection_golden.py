from pathlib import Path

import pytest

from sendward.webhook.inject import Parameters, RefusedError, inject, parse_gateway
from tests.golden.golden import Golden, cases, read_input

CASES = cases(Path(__file__).parent)
PARAMETERS = Parameters(
    guard_image="registry.example/sendward:1",
    proxy_image="registry.example/envoy:1",
    proxy_concurrency="2",
    hub="sendward-hub.sendward-system.svc:9443",
    document_key="AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_injects(case: Path, golden: Golden) -> None:
    given = read_input(case)
    meta = {"namespace": "messaging", "name": "sms", "uid": "uid-of-sms"}
    gateway = parse_gateway({"metadata": meta, "spec": given["gateway"]})
    try:
        pod = inject(given["pod"], gateway, PARAMETERS)
    except RefusedError as refusal:
        golden.check(case, {"refused.yaml": refusal.problems})
        return
    golden.check(case, {"pod.yaml": pod})
    assert inject(pod, gateway, PARAMETERS) == pod
