import base64

import pytest

from sendward import names
from sendward.webhook.inject import GATEWAY_NAME, RefusedError
from sendward.webhook.review import parse_parameters

DATA = {
    names.PARAM_GUARD_IMAGE: "sendward:1",
    names.PARAM_PROXY_IMAGE: "envoy:1",
    names.PARAM_PROXY_CONCURRENCY: "2",
    names.PARAM_HUB: "hub:9443",
    names.PARAM_DOCUMENT_KEY: base64.b64encode(bytes(32)).decode(),
}


def test_parameters() -> None:
    parameters = parse_parameters(DATA, "ConfigMap")
    assert parameters.guard_image == "sendward:1"
    assert parameters.document_key == DATA[names.PARAM_DOCUMENT_KEY]


@pytest.mark.parametrize("key", DATA)
def test_a_missing_parameter_is_named(key: str) -> None:
    with pytest.raises(RefusedError, match=key):
        parse_parameters({k: v for k, v in DATA.items() if k != key}, "ConfigMap")


@pytest.mark.parametrize("value", ["x", "AAAA", base64.b64encode(bytes(33)).decode(), "é"])
def test_a_document_key_of_another_kind(value: str) -> None:
    with pytest.raises(RefusedError, match="no Ed25519 public key"):
        parse_parameters(DATA | {names.PARAM_DOCUMENT_KEY: value}, "ConfigMap")


@pytest.mark.parametrize("name", ["", "..", "a/b", "../secrets/x", "a" * 41, "A", "a\n", "a?x=1"])
def test_a_label_that_is_no_name_never_becomes_a_path(name: str) -> None:
    assert not GATEWAY_NAME.fullmatch(name)
