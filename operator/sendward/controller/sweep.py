"""What the operator remembers of objects that exist no more is forgotten, every ten minutes."""

from __future__ import annotations

from sendward.apply.objects import Objects
from sendward.controller.accounts import Accounts
from sendward.controller.dirty import Dirty
from sendward.controller.documents import Documents
from sendward.controller.findings import Patience
from sendward.controller.gateways import Gateways
from sendward.controller.keysteps import KeySteps
from sendward.graph.store import Store


def sweep(
    store: Store,
    dirty: Dirty,
    documents: Documents,
    accounts: Accounts,
    gateways: Gateways,
    steps: KeySteps,
    objects: Objects,
    patience: Patience,
) -> None:
    """Call while this process leads, so that what it does not see does not exist."""
    store.sweep()
    present, declared = store.uids(), {found.uid for found in documents}
    patience.sweep(present)
    steps.sweep(present, declared)
    accounts.sweep(present)
    gateways.sweep(present | declared)
    dirty.sweep(declared)
    objects.sweep(store.namespaces)
