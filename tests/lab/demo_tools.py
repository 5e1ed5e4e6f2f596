"""Small programs to try a running demo with: each joins the lab's namespaces and runs something there."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

REPOSITORY: Final = Path(__file__).resolve().parents[2]

_SCRIPT: Final = """\
#!/bin/sh
# {what} Made by `make demo`; it is of no use once the demo has ended.
here=$PWD
cd {repository} || exit 1
[ -e /proc/{init}/ns/net ] ||
  {{ echo "error: the demo does not run any more: run \\`make demo\\`" >&2; exit 1; }}
exec {python} -m tests.lab.enter --join {init} -- sh -c 'cd "$1" && shift && exec "$@"' sh "$here" \\
  env {environment} \\
  {command} "$@"
"""

_ADVICE: Final = """
What to try next, from {here}:
  {tools}/kubectl get sendward -n {namespace}
  {tools}/sendward keys list -n {namespace}
  {tools}/send acme-shop                        a message through Envoy and the guard
  {tools}/kubectl patch sender acme -n {namespace} --type=merge -p '{{"spec":{{"suspend":true}}}}'
  {tools}/send acme-shop                        refused now; the same with "suspend":false lets it pass
  {tools}/sendward keys revoke acme-shop -n {namespace}
  {tools}/kubectl describe akey acme-shop -n {namespace}
  {tools}/kubectl delete secret sendward-sms-doc-gateway -n {namespace}     comes back by itself
  {tools}/kubectl get networkpolicy,events -n {namespace}
Logs: {logs} (servers), {logs}/pods/logs (pods).
The lab stays up in the background until `make demo-down`."""


def write_tools(folder: Path, init: int, facts: Mapping[str, Any]) -> str:
    """Write `kubectl`, `sendward` and `send`; returns what to say. `init`: the lab's first process.

    The scripts hold credentials of the lab, so the folder is the owner's alone.
    """
    access = {
        "KUBECONFIG": facts["kubeconfig"],
        "KUBECACHEDIR": str(folder / "kubectl-cache"),
        "VAULT_ADDR": facts["vault_address"],
        "VAULT_TOKEN": facts["vault_token"],
        "VAULT_CACERT": facts["ca_file"],
        "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'operator'}",
    }
    main = [sys.executable, "-c", "from sendward.cli.main import main; main()"]
    send = [sys.executable, "-m", "tests.lab.demo_send", facts["kubectl"], facts["namespace"]]
    _write(folder / "kubectl", "kubectl in the demo, as administrator.", init, access, [facts["kubectl"]])
    _write(folder / "sendward", "sendward in the demo, as administrator.", init, access, main)
    _write(folder / "send", "Sends a message with an API key of the demo.", init, access, send)
    tools = folder.relative_to(REPOSITORY)
    return _ADVICE.format(here=REPOSITORY, tools=tools, namespace=facts["namespace"], logs=facts["directory"])


def _write(path: Path, what: str, init: int, access: Mapping[str, str], command: Sequence[str]) -> None:
    path.write_text(
        _SCRIPT.format(
            what=what,
            init=init,
            repository=shlex.quote(str(REPOSITORY)),
            python=shlex.quote(sys.executable),
            environment=" ".join(f"{name}={shlex.quote(value)}" for name, value in access.items()),
            command=shlex.join(command),
        )
    )
    path.chmod(0o700)
