"""The server certificate, read from the mounted Secret.

The listener names the secret and the file that carries it; the secret names the certificate's files.
Both are watched as directories, because the kubelet swaps a symbolic link and a watch on the file
itself would see nothing.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Final

from sendward import names
from sendward.compile.envoy.resource import Json, typed

SERVER: Final = "server"


def server() -> Json:
    """The SDS resource: certificate chain and private key by file name, never their content."""
    return typed(
        "envoy.extensions.transport_sockets.tls.v3.Secret",
        name=SERVER,
        tls_certificate={
            "certificate_chain": {"filename": f"{names.PATH_TLS}/tls.crt"},
            "private_key": {"filename": f"{names.PATH_TLS}/tls.key"},
            "watched_directory": {"path": names.PATH_TLS},
        },
    )


def reference() -> Json:
    """Where a listener finds the secret. No certificate, no listener: `initial_fetch_timeout` 0."""
    return {
        "name": SERVER,
        "sds_config": {
            "resource_api_version": "V3",
            "initial_fetch_timeout": "0s",
            "path_config_source": {
                "path": names.PATH_SDS,
                "watched_directory": {"path": str(PurePosixPath(names.PATH_SDS).parent)},
            },
        },
    }
