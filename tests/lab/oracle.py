"""An independent judge of NetworkPolicies: cyclonus `analyze`, which needs no cluster.

It knows Kubernetes' rules and nothing of Sendward. Like Kubernetes it allows what no policy selects.
"""

import json
import re
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.lab.builds import ensure
from tests.lab.prerequisites import LabError

_VERDICT = re.compile(r"IS ALLOWED\?\s*\|\s*(TRUE|FALSE)", re.IGNORECASE)
_SECONDS = 60.0
_NAMESPACE_NAME = "kubernetes.io/metadata.name"


@dataclass(frozen=True)
class Peer:
    """One end of a flow. Without a namespace it is outside the cluster, and only `ip` counts."""

    ip: str = "192.0.2.1"
    namespace: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)

    def _as_json(self) -> dict[str, object]:
        if not self.namespace:
            return {"IP": self.ip}
        namespace_labels = {_NAMESPACE_NAME: self.namespace}
        internal = {
            "Namespace": self.namespace,
            "NamespaceLabels": namespace_labels,
            "PodLabels": dict(self.labels),
        }
        return {"IP": self.ip, "Internal": internal}


@dataclass(frozen=True)
class Flow:
    """A connection that somebody tries to open."""

    source: Peer
    destination: Peer
    port: int
    protocol: str = "TCP"

    def _as_json(self) -> dict[str, object]:
        return {
            "Source": self.source._as_json(),
            "Destination": self.destination._as_json(),
            "Protocol": self.protocol,
            "ResolvedPort": self.port,
            "ResolvedPortName": "",
        }


def allowed(policies: Sequence[Mapping[str, Any]], flows: Sequence[Flow]) -> list[bool]:
    """Whether the NetworkPolicies let each flow pass, in the order of `flows`.

    Raises LabError if the oracle cannot be built, or does not answer every question.
    """
    if not flows:
        return []
    binary = ensure("cyclonus")["cyclonus"]
    with tempfile.TemporaryDirectory(prefix="sw-oracle-") as folder:
        policy_folder = Path(folder) / "policies"
        policy_folder.mkdir()
        for number, policy in enumerate(policies):
            (policy_folder / f"{number}.yaml").write_text(json.dumps(policy))  # JSON is YAML
        traffic = Path(folder) / "traffic.json"
        traffic.write_text(json.dumps([flow._as_json() for flow in flows]))
        output = _analyze(binary, policy_folder, traffic)
    verdicts = [verdict.upper() == "TRUE" for verdict in _VERDICT.findall(output)]
    if len(verdicts) != len(flows):
        raise LabError(f"cyclonus answered {len(verdicts)} of {len(flows)} questions:\n{output[-2000:]}")
    return verdicts


def _analyze(binary: Path, policies: Path, traffic: Path) -> str:
    command = [str(binary), "analyze", "--mode", "query-traffic",
               "--policy-path", str(policies), "--traffic-path", str(traffic)]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
    if done.returncode != 0:
        raise LabError(f"cyclonus failed (exit {done.returncode}):\n{done.stderr[-2000:]}")
    return done.stdout
