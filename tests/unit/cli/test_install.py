from pathlib import Path

import typer
import yaml
from typer.testing import CliRunner, Result

from sendward.cli import install

APP = typer.Typer()
for name in ("install", "onboard", "crds"):
    APP.command(name)(getattr(install, name))


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(APP, arguments, terminal_width=200)


def test_install_prints_what_kubectl_applies() -> None:
    result = _run("install", "--vault-address", "https://vault.example:8200", "--namespace", "security")
    assert result.exit_code == 0
    objects = list(yaml.safe_load_all(result.stdout))
    assert {o["kind"] for o in objects} >= {
        "CustomResourceDefinition",
        "Deployment",
        "ValidatingAdmissionPolicy",
    }
    assert {o["metadata"]["namespace"] for o in objects if o["kind"] == "Deployment"} == {"security"}
    assert "&id" not in result.stdout


def test_onboard_prints_the_label_and_the_rights() -> None:
    objects = list(yaml.safe_load_all(_run("onboard", "messaging").stdout))
    assert [o["kind"] for o in objects] == ["Namespace", "Role", "RoleBinding"]


def test_wrong_usage_is_told() -> None:
    for arguments, said in (
        (("install",), "--vault-address"),
        (("install", "--vault-address", "vault:8200"), "no URL"),
        (
            ("install", "--vault-address", "https://v", "--vault-auth", "userpass"),
            "neither kubernetes nor jwt",
        ),
        (("install", "--vault-address", "https://v", "--namespace", "A"), "no name of a namespace"),
        (("onboard", "sendward-system"), "cannot be onboarded"),
    ):
        result = _run(*arguments)
        assert result.exit_code == 2
        assert said in " ".join(result.output.replace("│", " ").split())


def test_crds_print_or_write(tmp_path: Path) -> None:
    printed = list(yaml.safe_load_all(_run("crds").stdout))
    assert _run("crds", "--output-dir", str(tmp_path / "crds")).exit_code == 0
    written = [yaml.safe_load(file.read_text()) for file in (tmp_path / "crds").iterdir()]
    names = sorted(o["metadata"]["name"] for o in printed)
    assert names == sorted(o["metadata"]["name"] for o in written)
    assert "messaginggateways.sendward.io" in names
