"""Parts: only genuine and newer ones, and what outlives a restart."""

from __future__ import annotations

from pathlib import Path

import pytest

from sendward import document
from sendward.document import DocumentError
from sendward.guard.store import Mount, Store
from tests.guard import builders

SHARD = builders.shard()


def store(directory: Path) -> Store:
    return Store(builders.SIGNER.public_key(), builders.GATEWAY_UID, directory)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "not an envelope"),
        (b"garbage", "not an envelope"),
        (builders.sealed(SHARD, 1)[:-20], "not an envelope"),
        (builders.sealed(SHARD, 1, signer=builders.FORGER), "signature"),
        (builders.sealed(SHARD, 1, gateway_uid="another"), "belongs to gateway another"),
        (builders.sealed(SHARD, 1, part="../../etc"), "no such part"),
        (builders.sealed(SHARD, 1, part="00"), "no such part"),
        (builders.sealed(SHARD, 1).replace(b'"part":"0"', b'"part":"1"'), "signature"),
        (builders.sealed(SHARD, 1).replace(b'"revision":1', b'"revision":2'), "signature"),
    ],
)
def test_what_is_not_genuine_is_refused(tmp_path: Path, raw: bytes, reason: str) -> None:
    with pytest.raises(DocumentError, match=reason):
        store(tmp_path).examine(raw)


@pytest.mark.parametrize(
    ("epoch", "revision", "newer"), [(2, 5, False), (2, 4, False), (1, 9, False), (2, 6, True), (3, 1, True)]
)
def test_only_newer_ones_replace(tmp_path: Path, epoch: int, revision: int, *, newer: bool) -> None:
    subject = store(tmp_path)
    subject.hold(subject.examine(builders.sealed(SHARD, 5, epoch=2)))
    offered = subject.examine(builders.sealed(SHARD, revision, epoch=epoch))
    assert (subject.outdated(offered) == "") is newer


def test_other_parts_may_be_of_an_older_epoch(tmp_path: Path) -> None:
    subject = store(tmp_path)
    subject.hold(subject.examine(builders.sealed(SHARD, 1, epoch=7)))
    assert subject.outdated(subject.examine(builders.sealed(SHARD, 1, part="1", epoch=3))) == ""


def test_parts_and_memory_outlive_a_restart(tmp_path: Path) -> None:
    subject = store(tmp_path)
    raw = builders.sealed(SHARD, 1, epoch=4)
    envelope = subject.examine(raw)
    subject.see(4)
    subject.memory.last_contact = 17
    subject.persist(envelope)
    after = store(tmp_path)
    assert [after.examine(found) for found in after.read_disk()] == [envelope]
    assert (after.memory.highest_epoch, after.memory.last_contact) == (4, 17)
    after.hold(envelope)
    assert after.have()["0"].digest == document.decode(raw).digest


def test_truncated_memory_is_ignored(tmp_path: Path) -> None:
    for damaged in (b'{"highest', b'{"x":"\xff"}', b'{"x":' + b"[" * 100_000):
        (tmp_path / "memory.json").write_bytes(damaged)
        assert store(tmp_path).memory.highest_epoch == 0


def test_mounted_files_are_read_when_they_change(tmp_path: Path) -> None:
    mount = Mount(tmp_path / "document")
    assert mount.changed() == []
    for name, content in (("one", b"1"), ("two", b"2")):  # as the kubelet does it
        folder = tmp_path / "document" / f"..{name}"
        folder.mkdir(parents=True)
        (folder / "0").write_bytes(content)
    link = tmp_path / "document" / "..data"
    link.symlink_to("..one")
    (tmp_path / "document" / "0").symlink_to("..data/0")
    (tmp_path / "document" / "notes").write_bytes(b"not a part")
    assert mount.changed() == [b"1"]
    assert mount.changed() == []
    (tmp_path / "document" / "..new").symlink_to("..two")
    (tmp_path / "document" / "..new").rename(link)
    assert mount.changed() == [b"2"]
