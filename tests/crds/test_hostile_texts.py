"""Hostile texts in every field: the API server and `parse` come to the same verdict on each."""

from __future__ import annotations

import copy
import json

import pytest

from sendward.resources.base import Resource
from sendward.resources.kinds import BY_NAME
from sendward.resources.parse import parse
from sendward.resources.schema import structural
from tests.crds.api import Judge
from tests.crds.cases import MINIMAL, an_object
from tests.fuzz import hostile
from tests.unit.fuzz.test_resource_inputs import placed, text_fields

_TEXTS = (
    *(
        "",
        "n",
        "1e3",
        "{{ .x }}",
        "$(id)",
        "%s",
        "a\nb",
        "a\x00b",
        "\u202egnp.exe",
        "\U0001f4a3",
        "\u0130",
        "../../x",
    ),
    *(
        "*",
        "^(a+)+$",
        "a" * 10_000,
        "\u2028",
        "b\u0430nk",
        " a",
        "a ",
        "A",
        "\u0661\u0660s",
        "+1\u0665\u0665\u0665",
    ),
    *hostile.CIDRS,
)


@pytest.mark.lab
@pytest.mark.parametrize("kind", MINIMAL)
def test_both_judges_agree_on_hostile_texts(kind: str, judge: Judge) -> None:
    for path in text_fields(structural(BY_NAME[kind].spec)):
        texts = _TEXTS if "CIDR" in str(path) or "cidr" in path else _TEXTS[:22]
        for text in texts:
            obj = an_object(kind, placed(copy.deepcopy(MINIMAL[kind]), path, text))
            status, body = judge.create(obj)
            ours = parse(obj)
            assert isinstance(ours, Resource) == (status == 200), (
                path,
                json.dumps(text),
                body.get("message"),
                ours,
            )
