import json
from datetime import UTC, datetime
from typing import Any

import pytest

from sendward import names
from sendward.apply import kinds
from sendward.apply.statuses import Statuses, canonical, canonical_of
from sendward.errors import Conflict
from sendward.graph.store import Store
from sendward.resources.base import Meta, ObjectKey
from sendward.resources.parse import parse
from sendward.resources.status import APIKeyStatus, KeyVersion
from tests.fakes.memory import MemoryKube

KEY = ObjectKey("APIKey", "ns", "k")
STATUS = APIKeyStatus(
    observed_generation=1,
    versions=[
        KeyVersion(
            number=1, id="v1", state="Current", issued_at=datetime(2026, 1, 1, tzinfo=UTC), vault_version=1
        )
    ],
)


@pytest.fixture
def kube() -> MemoryKube:
    kube = MemoryKube()
    kube.put(kinds.API_KEY, {"metadata": {"namespace": "ns", "name": "k"}, "spec": {"account": "a"}})
    return kube


def _store(kube: MemoryKube) -> tuple[Store, Meta]:
    store = Store()
    for obj in kube.of(kinds.API_KEY):
        store.apply(parse(obj), canonical_of(obj), obj["metadata"]["resourceVersion"])
    record = store.get(KEY)
    assert record is not None
    return store, record.meta


def test_canonical_survives_the_api_server() -> None:
    written: dict[str, Any] = {"kind": "APIKey", "status": STATUS.model_dump(mode="json", by_alias=True)}
    assert canonical_of(written) == canonical(STATUS)
    written["status"]["ofANewerVersion"] = 1
    written["status"]["versions"][0]["retireAt"] = None
    written["status"]["versions"][0]["issuedAt"] = "2026-01-01T00:00:00+00:00"
    assert canonical_of(written) == canonical(STATUS)


def test_the_order_of_conditions_is_no_difference() -> None:
    """The API server appends what is new, whatever the order in which it was applied."""
    types = ["Revoked", "Stalled", "Accepted", "SomebodyElses", "Ready"]
    status = {
        "conditions": [
            {
                "type": type_,
                "status": "True",
                "reason": "Ready",
                "message": "",
                "observedGeneration": 1,
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            }
            for type_ in types
        ]
    }
    turned = {"conditions": status["conditions"][::-1]}
    one = canonical_of({"kind": "APIKey", "status": status})
    assert one == canonical_of({"kind": "APIKey", "status": turned})
    order = [condition["type"] for condition in json.loads(one)["conditions"]]
    assert order == ["Accepted", "Ready", "Stalled", "Revoked"]


async def test_an_equal_status_is_not_written_again(kube: MemoryKube) -> None:
    store, meta = _store(kube)
    statuses = Statuses(kube, store, lambda: True)
    assert await statuses.write(meta, STATUS)
    assert not await statuses.write(meta, STATUS)
    again, meta = _store(kube)
    assert not await Statuses(kube, again, lambda: True).write(meta, STATUS)
    assert kube.writes == ["APIKey/status"]


async def test_an_old_view_is_a_conflict(kube: MemoryKube) -> None:
    store, meta = _store(kube)
    kube.put(kinds.API_KEY, {"metadata": {"namespace": "ns", "name": "k"}, "spec": {"account": "b"}})
    with pytest.raises(Conflict):
        await Statuses(kube, store, lambda: True).write(meta, STATUS)


async def test_who_does_not_lead_writes_nothing(kube: MemoryKube) -> None:
    store, meta = _store(kube)
    statuses = Statuses(kube, store, lambda: False)
    assert not await statuses.write(meta, STATUS)
    await statuses.set_finalizer(meta, present=True)
    assert kube.writes == []


async def test_the_finalizer_is_set_once_and_released(kube: MemoryKube) -> None:
    store, meta = _store(kube)
    statuses = Statuses(kube, store, lambda: True)
    await statuses.set_finalizer(meta, present=True)
    record = store.get(KEY)
    assert record is not None
    assert record.meta.finalizers == (names.FINALIZER,)
    await statuses.set_finalizer(record.meta, present=True)
    kube.erase(kinds.API_KEY, "ns", "k")
    store, meta = _store(kube)
    await Statuses(kube, store, lambda: True).set_finalizer(meta, present=False)
    assert kube.of(kinds.API_KEY) == []
    assert kube.writes == ["APIKey", "APIKey"]


async def test_an_object_that_is_gone_is_forgotten(kube: MemoryKube) -> None:
    store, meta = _store(kube)
    kube.erase(kinds.API_KEY, "ns", "k")
    await Statuses(kube, store, lambda: True).write(meta, STATUS)
    assert store.get(KEY) is None
