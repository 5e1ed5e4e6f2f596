"""An accept and a reject for every constraint, by the API server and by `parse` alike."""

from __future__ import annotations

from typing import Any

import pytest

from sendward.compile.networkpolicy import network_policy
from sendward.resources.base import Invalid, Resource
from sendward.resources.messaging_gateway import MessagingGatewaySpec
from sendward.resources.parse import parse
from tests.crds.api import Judge
from tests.crds.cases import BAD_NAMES, GOOD_NAMES, MINIMAL, Rule, an_object, changed
from tests.crds.cases_gateway import GATEWAY_RULES
from tests.crds.cases_senders import ACCOUNT_RULES, KEY_RULES, LIMIT_RULES, POLICY_RULES

RULES = (*GATEWAY_RULES, *ACCOUNT_RULES, *POLICY_RULES, *KEY_RULES, *LIMIT_RULES)

_EACH = pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.kind}-{rule.name}".replace(" ", "-"))
_KINDS = pytest.mark.parametrize("kind", MINIMAL)


@_EACH
def test_parse_accepts(rule: Rule) -> None:
    for changes in rule.good:
        found = parse(changed(rule.kind, changes))
        assert isinstance(found, Resource), (changes, found)


@_EACH
def test_parse_rejects(rule: Rule) -> None:
    for changes in rule.bad:
        found = parse(changed(rule.kind, changes))
        assert isinstance(found, Invalid), changes
        assert any(error.startswith(rule.path) and rule.says in error for error in found.errors), found.errors


@pytest.mark.lab
@_EACH
def test_the_api_server_accepts(rule: Rule, judge: Judge) -> None:
    for changes in rule.good:
        status, body = judge.create(changed(rule.kind, changes))
        assert status == 200, (changes, body)


@pytest.mark.lab
@_EACH
def test_the_api_server_rejects(rule: Rule, judge: Judge) -> None:
    for changes in rule.bad:
        status, body = judge.create(changed(rule.kind, changes))
        assert status == 422, (changes, body)
        # A rule that fails on bad input, instead of leaving it to the rule about it, says nothing of use.
        assert "evaluating rule" not in body["message"], (changes, body["message"])
        assert any(
            cause.get("field", "").startswith(rule.path) and rule.says in cause["message"]
            for cause in body["details"]["causes"]
        ), (changes, body["message"])


@pytest.mark.lab
def test_pod_labels_that_are_accepted_make_a_network_policy_that_is(judge: Judge) -> None:
    """Else its writing would fail for ever, and no status of the gateway's own would say why."""
    path = "/apis/networking.k8s.io/v1/namespaces/default/networkpolicies?dryRun=All&fieldValidation=Strict"
    [rule] = [rule for rule in GATEWAY_RULES if rule.name == "keys and values of podLabels of Redis"]
    for changes in rule.good:
        found = parse(changed(rule.kind, changes))
        assert isinstance(found, Resource)
        assert isinstance(found.spec, MessagingGatewaySpec)
        policy, _ = network_policy(
            name="sms", namespace="default", uid="u-1", spec=found.spec, account_cidrs=[None]
        )
        status, body = judge.call("POST", path, policy)
        assert status in {200, 201}, (changes, body)


@pytest.mark.lab
def test_a_pattern_is_refused_with_a_remedy(judge: Judge) -> None:
    status, body = judge.create(changed("RateLimitPolicy", {"account.0.per": "1 min"}))
    assert status == 422
    assert "is no duration. Write a whole number and a unit: 30s, 15m, 12h or 90d" in body["message"]


def _judged(judge: Judge, obj: dict[str, Any]) -> tuple[bool, bool]:
    return judge.create(obj)[0] == 200, isinstance(parse(obj), Resource)


@pytest.mark.lab
@_KINDS
def test_names(kind: str, judge: Judge) -> None:
    for name in GOOD_NAMES:
        assert _judged(judge, an_object(kind, MINIMAL[kind], name)) == (True, True), name
    for name in (*BAD_NAMES, "A", "-a", "a/b", ""):
        assert _judged(judge, an_object(kind, MINIMAL[kind], name)) == (False, False), name
    _, body = judge.create(an_object(kind, MINIMAL[kind], BAD_NAMES[0]))
    assert "metadata.name is too long or has a dot. Write a DNS label" in body["message"]


@pytest.mark.lab
@_KINDS
def test_spec_is_required(kind: str, judge: Judge) -> None:
    obj = an_object(kind, None)
    assert _judged(judge, obj) == (False, False)
    del obj["spec"]
    assert _judged(judge, obj) == (False, False)
