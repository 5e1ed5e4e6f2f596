"""Owned objects: whose drift it is, and namespaces that Kubernetes is removing."""

import pytest

from sendward.apply import kinds
from sendward.apply.kube import KubeClient
from sendward.apply.objects import Objects, Target
from sendward.errors import NotFound
from tests.fakes.kube import FakeKube

HELD = Target(kinds.CONFIG_MAP, "tenant", "held")


def config(name: str) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": "tenant"},
        "data": {"a": "b"},
    }


async def test_nothing_is_written_or_deleted_in_a_namespace_that_ends() -> None:
    ends: set[str] = set()
    async with FakeKube() as fake:
        kube = KubeClient(fake.url)
        objects = Objects(kube, lambda owner, target: None, lambda namespace: namespace in ends)
        assert await objects.ensure(kinds.CONFIG_MAP, config("held"), "owner")
        ends.add("tenant")
        assert not await objects.ensure(kinds.CONFIG_MAP, config("late"), "owner")
        await objects.remove(HELD)
        assert (await kube.get(kinds.CONFIG_MAP, "tenant", "held"))["data"] == {"a": "b"}
        assert HELD not in objects
        with pytest.raises(NotFound):
            await kube.get(kinds.CONFIG_MAP, "tenant", "late")
        await kube.close()


async def test_drift_is_told_to_the_owner_that_was_known() -> None:
    """Also when the edit took away the label that names it."""
    told: list[str] = []
    async with FakeKube() as fake:
        kube = KubeClient(fake.url)
        objects = Objects(kube, lambda owner, target: told.append(owner))
        await objects.ensure(kinds.CONFIG_MAP, config("held"), "owner")
        edited = await kube.get(kinds.CONFIG_MAP, "tenant", "held")
        version = str(int(edited["metadata"]["resourceVersion"]) + 1)
        objects.seen(HELD, {"metadata": {**edited["metadata"], "resourceVersion": version}}, "")
        assert told == ["owner"]
        assert await objects.ensure(kinds.CONFIG_MAP, config("held"), "owner")
        await kube.close()
