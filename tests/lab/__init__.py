"""The lab: real servers as plain processes inside namespaces of our own; no container engine.

    host      `python -m tests.lab.builds etcd vault ...`  compiles what is missing, once
      |       `python -m tests.lab.enter -- CMD`           runs CMD in fresh network, mount and pid namespaces
      v
    namespace  lo  127.0.0.1
               lab0 10.123.0.1/16  the bridge: pods are attached to it, servers listen on it and on loopback
                 etcd 2379 | kube-apiserver 6443 | kube-controller-manager 10257 | vault 8200

Nothing inside reaches the host's network, so ports are fixed and two runs never meet. When the first
process of the pid namespace ends, the kernel kills every other one.
"""

from typing import Final

BRIDGE: Final = "lab0"
"""Name of the bridge to which pods are attached."""

BRIDGE_ADDRESS: Final = "10.123.0.1"
"""Address of the bridge: where pods reach the servers."""

POD_CIDR: Final = "10.123.0.0/16"
"""Addresses of the bridge and of all pods."""

SERVICE_CIDR: Final = "10.96.0.0/16"
"""Cluster IPs; nothing routes them, webhooks are called at the addresses of their endpoints."""

APISERVER_PORT: Final = 6443
VAULT_PORT: Final = 8200
