"""Certificates of the lab pass strict verification."""

from pathlib import Path

from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store

from tests.lab.pki import CertificateAuthority


def test_issued_certificates_verify_for_their_names(tmp_path: Path) -> None:
    ca = CertificateAuthority(tmp_path, "test-ca")
    pair = ca.issue("server", "server", names=("localhost", "10.123.0.1"))
    certificate = x509.load_pem_x509_certificate(pair.certificate.read_bytes())
    store = Store([x509.load_pem_x509_certificate(ca.pem)])
    verifier = PolicyBuilder().store(store).build_server_verifier(x509.DNSName("localhost"))
    assert verifier.verify(certificate, []) == [certificate, x509.load_pem_x509_certificate(ca.pem)]
    assert pair.key.stat().st_mode & 0o077 == 0
