from pathlib import Path

import pytest

from sendward.compile.envoy import files
from sendward.resources.messaging_gateway import MessagingGatewaySpec
from tests.envoy.stand import Layout, validate
from tests.golden.golden import Golden, cases, read_input

CASES = cases(Path(__file__).parent)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_compiles_to_what_envoy_accepts(case: Path, golden: Golden, tmp_path: Path) -> None:
    compiled = files(MessagingGatewaySpec.model_validate(read_input(case)["spec"]))
    golden.check(
        case,
        {
            "listeners.yaml": compiled.listeners,
            "clusters.yaml": compiled.clusters,
            "secrets.yaml": compiled.secrets,
        },
    )
    assert await validate(Layout(tmp_path), compiled) == ""
