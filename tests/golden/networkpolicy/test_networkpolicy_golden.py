from pathlib import Path
from typing import Any

import pytest

from sendward import names
from sendward.compile.networkpolicy import network_policy
from sendward.resources.messaging_gateway import MessagingGatewaySpec
from tests.golden.golden import Golden, cases, read_input
from tests.lab.oracle import Flow, Peer, allowed

CASES = cases(Path(__file__).parent)
GATEWAY = Peer(ip="10.1.0.5", namespace="messaging", labels={names.LABEL_GATEWAY: "sms", "app": "sms"})
OTHER_POD = Peer(ip="10.1.0.6", namespace="messaging", labels={"app": "other"})
PEERS = {
    "hub": Peer("10.1.9.1", names.OPERATOR_NAMESPACE, names.HUB_POD_LABELS),
    "webhook": Peer("10.1.9.2", names.OPERATOR_NAMESPACE, {"app.kubernetes.io/name": "sendward"}),
    "impostor": Peer("10.1.9.3", "tenant", names.HUB_POD_LABELS),
    "dns": Peer("10.1.8.1", "kube-system", {"k8s-app": "kube-dns"}),
    "prometheus": Peer("10.1.7.1", "monitoring", {"app": "prometheus"}),
    "redis": Peer("10.1.6.1", "messaging", {"app": "redis", "role": "primary"}),
    "replica": Peer("10.1.6.2", "messaging", {"app": "redis", "role": "replica"}),
    "redis elsewhere": Peer("10.1.6.3", "tenant", {"app": "redis", "role": "primary"}),
    "neighbour": OTHER_POD,
    "same gateway": GATEWAY,
}


def _flow(question: dict[str, Any]) -> Flow:
    """`from: X` goes into a gateway's pod, `to: X` out of it; X is an address or a name of PEERS."""
    protocol = question.get("protocol", "TCP")
    if "from" in question:
        return Flow(_peer(question["from"]), GATEWAY, question["port"], protocol)
    return Flow(GATEWAY, _peer(question["to"]), question["port"], protocol)


def _peer(text: str) -> Peer:
    return PEERS.get(text) or Peer(text)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_compiles_to_what_the_oracle_confirms(case: Path, golden: Golden) -> None:
    given = read_input(case)
    policy, findings = network_policy(
        name="sms",
        namespace="messaging",
        uid="uid-of-sms",
        spec=MessagingGatewaySpec.model_validate(given["spec"]),
        account_cidrs=given["accounts"],
    )
    golden.check(
        case,
        {
            "networkpolicy.yaml": policy,
            "findings.yaml": [{"reason": str(reason), "message": text} for reason, text in findings],
        },
    )
    oracle = given["oracle"]
    questions = [(True, q) for q in oracle["allowed"]] + [(False, q) for q in oracle["refused"]]
    verdicts = allowed([policy], [_flow(question) for _, question in questions])
    wrong = [
        question for (expected, question), found in zip(questions, verdicts, strict=True) if found != expected
    ]
    assert wrong == []


def test_other_pods_are_not_touched() -> None:
    given = read_input(CASES[0])
    policy, _ = network_policy(
        name="sms",
        namespace="messaging",
        uid="uid-of-sms",
        spec=MessagingGatewaySpec.model_validate(given["spec"]),
        account_cidrs=[],
    )
    world = Peer("192.0.2.9")
    assert allowed([policy], [Flow(world, OTHER_POD, 80), Flow(world, GATEWAY, 80)]) == [True, False]
