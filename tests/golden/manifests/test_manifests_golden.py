from pathlib import Path

import pytest

from sendward.manifests.install import install, onboard
from sendward.manifests.options import InstallOptions, VaultOptions
from tests.golden.golden import Golden, cases, read_input

CASES = cases(Path(__file__).parent)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_renders(case: Path, golden: Golden) -> None:
    given = read_input(case)
    options = InstallOptions(vault=VaultOptions(**given["vault"]), **given["options"])
    objects = [o for o in install(options) if o["kind"] != "CustomResourceDefinition"]
    files = {"onboard": onboard(given["onboard"], options.namespace)}
    for obj in objects:
        files.setdefault(_file(obj["kind"]), []).append(obj)
    golden.check(case, {f"{name}.yaml": content for name, content in files.items()})


def _file(kind: str) -> str:
    if "Admission" in kind or "Webhook" in kind:
        return "admission"
    return "rights" if "Role" in kind else "workloads"
