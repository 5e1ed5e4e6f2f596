"""X.509 for the operator's own two servers: a small CA and its leaves. No I/O; time is an argument."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CA_LIFE: Final = timedelta(days=365)
LEAF_LIFE: Final = timedelta(days=30)
_CLOCK_SKEW: Final = timedelta(hours=2)  # a peer's clock may be behind, or ours ahead


@dataclass(frozen=True)
class Pair:
    """A certificate and its private key, which its repr does not show."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(compare=False)

    def __repr__(self) -> str:
        return f"Pair(serial={self.certificate.serial_number:x})"

    @property
    def certificate_pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    def is_valid(self, now: datetime) -> bool:
        return self.certificate.not_valid_before_utc <= now < self.certificate.not_valid_after_utc

    def is_due(self, now: datetime) -> bool:
        """Two thirds of its life are over."""
        start, end = self.certificate.not_valid_before_utc, self.certificate.not_valid_after_utc
        return now >= start + (end - start) * 2 / 3


def new_authority(now: datetime) -> Pair:
    """A self-signed CA that may sign leaves only."""
    key = ec.generate_private_key(ec.SECP256R1())
    # A name of its own: verifiers tell two authorities apart by name first.
    name = _name(f"Sendward CA {secrets.token_hex(4)}")
    certificate = (
        _builder(name, name, key, now, now + CA_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Pair(certificate, key)


def new_leaf(authority: Pair, dns_names: tuple[str, ...], now: datetime) -> Pair:
    """A server certificate that does not outlive its authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    end = min(now + LEAF_LIFE, authority.certificate.not_valid_after_utc)
    issuer = authority.certificate.subject
    certificate = (
        _builder(_name(dns_names[0]), issuer, key, now, end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(n) for n in dns_names]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), critical=False
        )
        .sign(authority.key, hashes.SHA256())
    )
    return Pair(certificate, key)


def load_pair(certificate: bytes, key: bytes) -> Pair | None:
    """None when these are not a certificate and its own P-256 key."""
    try:
        parsed = x509.load_pem_x509_certificate(certificate)
        private = serialization.load_pem_private_key(key, password=None)
        matches = parsed.public_key() == private.public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None
    if not matches or not isinstance(private, ec.EllipticCurvePrivateKey):
        return None
    return Pair(parsed, private)


def is_leaf_of(leaf: Pair, authorities: list[Pair], dns_names: tuple[str, ...]) -> bool:
    """Whether one of `authorities` issued it, for exactly these names."""
    try:
        extension = leaf.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return False
    if set(extension.value.get_values_for_type(x509.DNSName)) != set(dns_names):
        return False
    return any(_issued(leaf, authority) for authority in authorities)


def _issued(leaf: Pair, authority: Pair) -> bool:
    try:
        leaf.certificate.verify_directly_issued_by(authority.certificate)
    except Exception:  # noqa: BLE001  # the library raises three unrelated types
        return False
    return True


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name[:64])])


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    now: datetime,
    end: datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(end)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )
