from pathlib import Path

import pytest

from sendward.cli.reference import generate
from sendward.conditions import ConditionType, EventReason, Reason
from sendward.verdict import ProxyReason
from sendward.verdict import Reason as Refusal

DOCS = Path(__file__).parents[3] / "docs"


@pytest.mark.parametrize("name", generate())
def test_docs_are_what_the_code_says(name: str) -> None:
    assert (DOCS / name).read_text() == generate()[name], "run `sendward reference --output-dir docs`"


def test_every_word_of_the_vocabulary_has_a_meaning() -> None:
    assert [one for enum in (ConditionType, Reason, EventReason) for one in enum if not one.meaning] == []
    assert [one for one in Reason if one.stands_in.split("=")[0] not in set(ConditionType)] == []


def test_every_code_stands_in_its_page_once() -> None:
    page = generate()["reason-codes.md"]
    codes = {one.code for one in (*Refusal, *ProxyReason)}
    assert {code: page.count(f"| {code} |") for code in codes} == dict.fromkeys(codes, 1)


def test_metrics_have_types_and_labels() -> None:
    page = generate()["metrics.md"]
    for row in (
        "| `sendward_vault_requests_total` | counter | `operation`, `code` | Requests to Vault |",
        "| `sendward_hub_guards` | gauge | `namespace`, `gateway` | Guards that are connected to the hub |",
        "| `sendward_build_info` | info | `version` | Version of the operator |",
    ):
        assert row in page
