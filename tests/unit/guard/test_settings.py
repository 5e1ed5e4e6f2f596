"""Settings from the environment: complete or refused, without echoing values."""

from __future__ import annotations

import pytest

from sendward.guard.settings import AppProbe, SettingsError, load
from tests.guard import builders

GOOD = {
    "SENDWARD_GATEWAY": "main",
    "SENDWARD_GATEWAY_UID": builders.GATEWAY_UID,
    "SENDWARD_NAMESPACE": "sms",
    "SENDWARD_POD": "main-0",
    "SENDWARD_HUB": "sendward-hub.sendward-system.svc:9443",
    "SENDWARD_DOCUMENT_KEY": builders.PUBLIC_KEY,
}


def test_defaults() -> None:
    settings = load(GOOD)
    assert (settings.hub_host, settings.hub_port) == ("sendward-hub.sendward-system.svc", 9443)
    assert (settings.probe_port, settings.metrics_port) == (15021, 15090)
    assert str(settings.path("/run/sendward")) == "/run/sendward"
    assert settings.app_probes == {}


def test_root_and_probes() -> None:
    settings = load(
        {
            **GOOD,
            "SENDWARD_ROOT": "/tmp/x",
            "SENDWARD_APP_PROBES": '{"app/liveness": {"port": 8080, "path": "/healthz", "scheme": "HTTP"}}',
        }
    )
    assert str(settings.path("/run/sendward")) == "/tmp/x/run/sendward"
    assert settings.app_probes == {"app/liveness": AppProbe(8080, "/healthz")}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SENDWARD_HUB", "no-port"),
        ("SENDWARD_HUB", ":9443"),
        ("SENDWARD_DOCUMENT_KEY", "c2hvcnQ="),
        ("SENDWARD_DOCUMENT_KEY", "%%%"),
        ("SENDWARD_APP_PROBES", "[]"),
        ("SENDWARD_PROBE_PORT", "x"),
        *((name, "") for name in GOOD),
    ],
)
def test_what_is_missing_or_broken_is_named(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name):
        load({**GOOD, name: value})
