"""The `sendward` command, also installed as `kubectl-sendward`.

Each command imports what it needs when it runs, so that the guard in every gateway pod pays for
nothing else. Results go to stdout, talk to stderr. Exit codes: 0 done, 1 findings, 2 wrong usage,
3 unreadable input, 4 cluster or Vault unreachable, 70 a bug.
"""

from __future__ import annotations

import typer

from sendward.cli import install, keys, reference, vault

app = typer.Typer(name="sendward", no_args_is_help=True, add_completion=True, pretty_exceptions_enable=False)
app.command("install")(install.install)
app.command("onboard")(install.onboard)
app.command("crds")(install.crds)
app.command("reference")(reference.reference)
app.add_typer(vault.app, name="vault")
app.add_typer(keys.app, name="keys")


@app.command()
def operator() -> None:
    """Run the operator: reconciler and hub. Settings come from SENDWARD_* variables."""
    from sendward.controller.process import run

    run()


@app.command()
def webhook() -> None:
    """Run the injection webhook. Settings come from SENDWARD_* variables."""
    from sendward.webhook.server import run

    run()


@app.command()
def guard() -> None:
    """Run the guard of a gateway pod. Settings come from SENDWARD_* variables, set at injection."""
    from sendward.guard.main import run

    run()


def main() -> None:
    """Entry point of the console scripts."""
    app()
