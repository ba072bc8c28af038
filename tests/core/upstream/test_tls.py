import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme

from proxy.core.config import UpstreamSettings
from proxy.core.upstream.tls import context


def of(**tls: Any) -> ssl.SSLContext:
    return context(UpstreamSettings.model_validate({"base_url": "https://up.test/v1", "tls": tls}))


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    path = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(path))
    return path


def test_an_upstream_is_verified_unless_told_otherwise() -> None:
    made = of()
    assert (made.verify_mode, made.check_hostname) == (ssl.CERT_REQUIRED, True)
    made = of(verify=False)
    assert (made.verify_mode, made.check_hostname) == (ssl.CERT_NONE, False)


def test_an_authority_of_ones_own_takes_the_place_of_the_systems(authority: Path) -> None:
    made = of(ca=authority)
    assert (made.verify_mode, made.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert made.cert_store_stats()["x509_ca"] == 1


def test_a_client_certificate_must_be_one(authority: Path, tmp_path: Path) -> None:
    issued = trustme.CA().issue_cert("client.test")
    pair = tmp_path / "client.pem"
    issued.private_key_and_cert_chain_pem.write_to_path(str(pair))
    of(cert=pair, key=pair)
    with pytest.raises(OSError, match="KEY_VALUES_MISMATCH"):
        of(cert=authority, key=pair)  # another's
