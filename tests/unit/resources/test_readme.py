"""The resources that the README shows are sound, and belong together."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from sendward import names
from sendward.resources.base import Resource
from sendward.resources.messaging_gateway import MessagingGatewaySpec
from sendward.resources.parse import parse

_README = Path(__file__).parents[3] / "README.md"


def test_the_example_of_shared_counters_is_sound() -> None:
    [shown] = re.findall(r"```yaml\n(.*?)```", _README.read_text(encoding="utf-8"), re.DOTALL)
    gateway, secret = yaml.safe_load_all(shown)
    found = parse(gateway)
    assert isinstance(found, Resource)
    assert isinstance(found.spec, MessagingGatewaySpec)
    assert found.spec.limits.redis is not None
    assert secret["metadata"]["name"] == names.counters_secret(found.meta.key.name)
    assert secret["metadata"]["namespace"] == found.meta.key.namespace
    assert list(secret["stringData"]) == ["username", "password", "ca.crt"]
