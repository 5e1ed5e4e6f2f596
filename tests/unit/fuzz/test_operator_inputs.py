"""What a tenant may write by hand, seen by the whole operator over the fakes: it harms nobody else."""

from __future__ import annotations

from base64 import b64encode

import pytest

from sendward import names
from sendward.apply import kinds
from tests.core.stand import TENANT, Stand

DEEP = b'{"x":' + b"[" * 100_000


@pytest.mark.parametrize(
    "raw", [DEEP, b"", b"\xff\xfe", b"null", b"[]"], ids=["deep", "", "bytes", "null", "list"]
)
async def test_a_forged_document_secret_does_not_stop_the_operator(raw: bytes) -> None:
    """Who may write Secrets in one namespace could end the operator of all, at each of its starts."""
    async with Stand() as stand:
        await stand.stop()
        labels = {names.LABEL_MANAGED_BY: names.FIELD_MANAGER, names.LABEL_PART: "document"}
        metadata = {"namespace": TENANT, "name": "sendward-sms-document-0", "labels": labels}
        stand.kube.put(kinds.SECRET, {"metadata": metadata, "data": {"document": b64encode(raw).decode()}})
        await stand.start()
        assert TENANT in stand.operator.store.opened
