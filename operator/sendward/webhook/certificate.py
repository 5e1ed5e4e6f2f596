"""The webhook's serving certificate: files that the kubelet swaps, one TLS context that follows them."""

from __future__ import annotations

import ssl
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography import x509

CERTIFICATE: Final = "tls.crt"
KEY: Final = "tls.key"


class ServingCertificate:
    """`context` always holds the last sound pair; `not_after` is its end, None before the first load."""

    def __init__(self, directory: Path) -> None:
        self._certificate = directory / CERTIFICATE
        self._key = directory / KEY
        self._loaded: tuple[bytes, bytes] | None = None
        self.not_after: datetime | None = None
        self.context = _context()

    def refresh(self) -> bool:
        """Load the files if they changed; True when it did. Raises OSError or ValueError.

        After an error the last sound pair stays in use. New handshakes take the new pair.
        """
        content = (self._certificate.read_bytes(), self._key.read_bytes())
        if content == self._loaded:
            return False
        not_after = x509.load_pem_x509_certificate(content[0]).not_valid_after_utc
        # Loading is not atomic: a pair that does not match would leave the live context unusable.
        for context in (_context(), self.context):
            context.load_cert_chain(self._certificate, self._key)
        self._loaded, self.not_after = content, not_after
        return True


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context
