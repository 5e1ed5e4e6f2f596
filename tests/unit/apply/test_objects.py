"""Owned objects: whose drift it is, and namespaces that Kubernetes is removing."""

import pytest

from sendward import names
from sendward.apply import kinds
from sendward.apply.kube import KubeClient
from sendward.apply.objects import Objects, Target
from sendward.errors import NotFound, Rejected
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


def secret(labels: dict[str, str]) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "bank-api-key", "namespace": "tenant", "labels": labels},
        "data": {"mine": "dmFsdWU="},
    }


OURS = {names.LABEL_MANAGED_BY: "sendward", names.LABEL_OWNER_UID: "owner"}
HAND_OVER = Target(kinds.SECRET, "tenant", "bank-api-key")


async def test_a_secret_of_somebody_else_is_neither_taken_over_nor_deleted() -> None:
    """Whoever may declare an APIKey could else overwrite and delete Secrets that it may not even read."""
    async with FakeKube() as fake:
        kube = KubeClient(fake.url)
        objects = Objects(kube, lambda owner, target: None)
        before = await kube.create(kinds.SECRET, secret({}))
        with pytest.raises(Rejected, match="not Sendward's"):
            await objects.ensure(kinds.SECRET, secret(OURS), "owner", take_over=False)
        await objects.remove(HAND_OVER)
        assert await kube.get(kinds.SECRET, "tenant", "bank-api-key") == before
        assert HAND_OVER not in objects
        await kube.close()


async def test_one_of_ours_that_no_watch_has_shown_yet_is_written_and_deleted() -> None:
    async with FakeKube() as fake:
        kube = KubeClient(fake.url)
        await kube.create(kinds.SECRET, secret(OURS))
        objects = Objects(kube, lambda owner, target: None)
        assert await objects.ensure(kinds.SECRET, secret(OURS), "owner", take_over=False)
        await Objects(kube, lambda owner, target: None).remove(HAND_OVER)
        with pytest.raises(NotFound):
            await kube.get(kinds.SECRET, "tenant", "bank-api-key")
        assert await objects.ensure(kinds.CONFIG_MAP, config("held"), "owner", take_over=False)
        await kube.close()


async def test_one_of_ours_whose_labels_somebody_removed_is_written_and_deleted() -> None:
    """The owner that we write tells it from a Secret of somebody else."""
    async with FakeKube() as fake:
        kube = KubeClient(fake.url)
        bare = secret({})
        bare["metadata"] = {
            "name": "bank-api-key",
            "namespace": "tenant",
            "ownerReferences": [
                {"apiVersion": names.API_VERSION, "kind": "APIKey", "name": "bank", "uid": "owner"}
            ],
        }
        await kube.create(kinds.SECRET, bare)
        objects = Objects(kube, lambda owner, target: None)
        ours = secret({names.LABEL_MANAGED_BY: "sendward"})
        assert await objects.ensure(kinds.SECRET, ours, "owner", take_over=False)
        fresh = Objects(kube, lambda owner, target: None)
        await fresh.remove(Target(kinds.SECRET, "tenant", "bank-api-key"), "owner")
        with pytest.raises(NotFound):
            await kube.get(kinds.SECRET, "tenant", "bank-api-key")
        await kube.close()
