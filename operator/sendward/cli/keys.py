"""`sendward keys`: list, revoke and rotate API keys, by changing the resources that declare them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sendward.conditions import ConditionType

if TYPE_CHECKING:
    from sendward.cli.cluster import Cluster

app = typer.Typer(name="keys", no_args_is_help=True, help="List, revoke and rotate API keys.")

Object = dict[str, Any]
Namespace = Annotated[str, typer.Option("--namespace", "-n", help="Default: the context's.")]
Context = Annotated[str, typer.Option(help="Context of the kubeconfig.")]
Kubeconfig = Annotated[str, typer.Option(help="Path of the kubeconfig.")]
KeyName = Annotated[str, typer.Argument(metavar="NAME", help="Name of the APIKey.")]

_POLL_SECONDS = 0.1
_COLUMNS = ("NAMESPACE", "NAME", "ACCOUNT", "CURRENT", "VERSIONS", "NEXT ROTATION", "READY")


@app.command("list")
def list_keys(
    namespace: Namespace = "",
    all_namespaces: Annotated[bool, typer.Option("--all-namespaces", "-A")] = False,
    account: Annotated[str, typer.Option(help="Only keys of this account.")] = "",
    context: Context = "",
    kubeconfig: Kubeconfig = "",
) -> None:
    """Show API keys, their versions and when they rotate. Never shows a value."""
    from sendward.cli.cluster import API_KEYS, Cluster, faults

    with faults():
        cluster = Cluster(context=context, kubeconfig=kubeconfig)
        found = cluster.list(API_KEYS, None if all_namespaces else namespace or cluster.namespace)
    rows = sorted(_row(one) for one in found if account in {"", one["spec"]["account"]})
    if not rows:
        typer.echo("No API keys.", err=True)
        return
    table = [_COLUMNS, *rows]
    widths = [max(len(row[column]) for row in table) for column in range(len(_COLUMNS))]
    for row in table:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


@app.command()
def revoke(
    name: KeyName,
    namespace: Namespace = "",
    through: Annotated[
        int, typer.Option(min=0, help="Revoke versions up to this number; default: all that were issued.")
    ] = 0,
    wait: Annotated[
        float, typer.Option(min=0, help="Seconds to wait until every sidecar acknowledged; 0: do not.")
    ] = 30,
    context: Context = "",
    kubeconfig: Kubeconfig = "",
) -> None:
    """Revoke a key now: every sidecar refuses it, on open connections too.

    Whether a new version is issued at once says `onCompromise` in its APIKeyPolicy.
    """
    from sendward.cli.cluster import API_KEYS, Cluster, faults

    with faults():
        cluster = Cluster(context=context, kubeconfig=kubeconfig)
        key = cluster.get(API_KEYS, namespace or cluster.namespace, name)
        last = through or _newest(key)
        if last == 0:
            typer.echo(f"APIKey {name} has no issued version: there is nothing to revoke.", err=True)
            raise typer.Exit(1)
        started = time.monotonic()
        if key["spec"].get("revokeThrough", 0) >= last:
            typer.echo(f"APIKey {name}: versions up to {last} are declared as revoked already.")
        else:
            key = cluster.set_spec(API_KEYS, key, {"revokeThrough": last})
            typer.echo(f"APIKey {name}: revoking all versions up to {last}.")
        if wait == 0:
            return
        state = _await_revoked(cluster, key, started + wait)
    if state.get("status") != "True":
        reason = f"{state['reason']}: {state['message']}" if state else "the operator said nothing yet"
        typer.echo(f"Not acknowledged by every sidecar within {wait:g} s ({reason}).", err=True)
        raise typer.Exit(1)
    typer.echo(
        f"Revoked: every sidecar acknowledged it, {time.monotonic() - started:.2f} s after the change."
    )


@app.command()
def rotate(
    name: KeyName, namespace: Namespace = "", context: Context = "", kubeconfig: Kubeconfig = ""
) -> None:
    """Issue a new version of a key now; the current one stays accepted for the policy's overlap."""
    import secrets

    from sendward.cli.cluster import API_KEYS, Cluster, faults

    with faults():
        cluster = Cluster(context=context, kubeconfig=kubeconfig)
        key = cluster.get(API_KEYS, namespace or cluster.namespace, name)
        nonce = secrets.token_hex(8)
        cluster.set_spec(API_KEYS, key, {"rotateNonce": nonce})
    current = _status(key).get("currentVersion")
    old = f"version {current} stays accepted for the overlap" if current else "no version was issued before"
    typer.echo(f"APIKey {name}: rotation asked for (rotateNonce {nonce}); {old}.")


def _status(key: Object) -> Object:
    status: Object = key.get("status") or {}
    return status


def _newest(key: Object) -> int:
    """Number of the newest issued version, 0 when there is none."""
    status = _status(key)
    numbers = [int(one["number"]) for one in status.get("versions") or ()]
    return max([*numbers, int(status.get("currentVersion") or 0)])


def _await_revoked(cluster: Cluster, key: Object, deadline: float) -> Object:
    """The condition Revoked of this generation, or what stood there at the deadline ({}: nothing)."""
    from sendward.cli.cluster import API_KEYS

    meta = key["metadata"]
    while True:
        conditions = _status(key).get("conditions") or ()
        state: Object = next((one for one in conditions if one["type"] == ConditionType.REVOKED), {})
        fresh = int(state.get("observedGeneration", -1)) >= int(meta["generation"])
        if (fresh and state["status"] == "True") or time.monotonic() >= deadline:
            return state if fresh else {}
        time.sleep(_POLL_SECONDS)
        key = cluster.get(API_KEYS, meta["namespace"], meta["name"])


def _row(key: Object) -> tuple[str, ...]:
    status = _status(key)
    versions = [f"{one['number']} {one['state']}" for one in status.get("versions") or ()]
    current = status.get("currentVersion")
    ids = {one["number"]: one["id"] for one in status.get("versions") or ()}
    ready = next((one for one in status.get("conditions") or () if one["type"] == ConditionType.READY), None)
    return (
        key["metadata"]["namespace"],
        key["metadata"]["name"],
        key["spec"]["account"],
        f"{current} ({ids.get(current, '?')})" if current else "-",
        ", ".join(versions) or "-",
        status.get("nextRotation") or "-",
        "Unknown" if ready is None else "True" if ready["status"] == "True" else f"False ({ready['reason']})",
    )
