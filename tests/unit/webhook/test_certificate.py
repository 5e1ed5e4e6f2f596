import ssl
from pathlib import Path

import pytest

from sendward.webhook.certificate import ServingCertificate
from tests.lab.pki import CertificateAuthority


@pytest.fixture
def authority(tmp_path: Path) -> CertificateAuthority:
    return CertificateAuthority(tmp_path, "ca")


def test_loads_once_and_again_when_the_files_change(tmp_path: Path, authority: CertificateAuthority) -> None:
    authority.issue("tls", "one")
    certificate = ServingCertificate(tmp_path)
    assert certificate.not_after is None
    assert certificate.refresh()
    assert not certificate.refresh()
    first = certificate.not_after
    authority.issue("tls", "two")
    assert certificate.refresh()
    assert first is not None


def test_a_broken_pair_leaves_the_last_one(tmp_path: Path, authority: CertificateAuthority) -> None:
    certificate = ServingCertificate(tmp_path)
    with pytest.raises(OSError, match=r"tls\.crt"):
        certificate.refresh()
    authority.issue("tls", "one")
    certificate.refresh()
    before = certificate.not_after
    other = authority.issue("other", "two")
    (tmp_path / "tls.key").write_bytes(other.key.read_bytes())
    with pytest.raises(ssl.SSLError):
        certificate.refresh()
    (tmp_path / "tls.crt").write_text("no certificate")
    with pytest.raises(ValueError, match="PEM"):
        certificate.refresh()
    assert certificate.not_after == before
