"""What somebody deletes or empties in the operator's own namespace: back within half a minute, and the same,
so that neither a new pod nor the next operator is lost."""

from __future__ import annotations

from typing import Any

from sendward import names
from sendward.apply import kinds
from sendward.apply.ports import Kind
from tests.core.stand import Stand

SYSTEM = names.OPERATOR_NAMESPACE
SECRETS = (names.SECRET_CA, names.SECRET_DOCUMENT_KEY, names.SECRET_WEBHOOK_TLS)


def found(stand: Stand, kind: Kind, name: str) -> dict[str, Any]:
    return next((obj for obj in stand.kube.objects(kind) if obj["metadata"]["name"] == name), {})


def trust(stand: Stand) -> dict[str, object]:
    """What webhook, guards and the next operator depend on; of the webhook's own certificate that it is
    there, since any good one will do."""
    configuration = found(stand, kinds.MUTATING_WEBHOOK_CONFIGURATION, names.WEBHOOK_CONFIGURATION)
    data = {name: found(stand, kinds.SECRET, name).get("data", {}) for name in SECRETS}
    parameters = found(stand, kinds.CONFIG_MAP, names.CONFIGMAP_PARAMETERS).get("data", {})
    return {
        "CA": data[names.SECRET_CA],
        "document key": data[names.SECRET_DOCUMENT_KEY],
        "webhook certificate": sorted(data[names.SECRET_WEBHOOK_TLS]),
        "public key": parameters.get(names.PARAM_DOCUMENT_KEY),
        "bundle": "".join(w["clientConfig"].get("caBundle", "") for w in configuration["webhooks"]),
    }


def forget_bundle(stand: Stand) -> None:
    """The configuration as `sendward install` prints it."""
    configuration = found(stand, kinds.MUTATING_WEBHOOK_CONFIGURATION, names.WEBHOOK_CONFIGURATION)
    webhooks = [{"name": "inject.sendward.io", "clientConfig": {}}]
    stand.kube.put(kinds.MUTATING_WEBHOOK_CONFIGURATION, {**configuration, "webhooks": webhooks})


async def test_what_is_deleted_in_the_operators_namespace_is_back_and_the_same() -> None:
    async with Stand() as stand:
        forget_bundle(stand)
        await stand.until(lambda: all(trust(stand).values()))
        before = trust(stand)
        for name in SECRETS:
            stand.kube.remove(kinds.SECRET, SYSTEM, name)
        stand.kube.remove(kinds.CONFIG_MAP, SYSTEM, names.CONFIGMAP_PARAMETERS)
        forget_bundle(stand)
        assert trust(stand) != before
        await stand.until(lambda: trust(stand) == before)
