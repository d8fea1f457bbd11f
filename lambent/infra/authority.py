"""A certificate authority of the cluster's own, kept by the `openssl` program: for clusters whose certificates nobody
else makes. Keys are ECDSA on P-256, certificates PEM.
"""

from __future__ import annotations

import ssl
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lambent.infra.certificates import NAME

AUTHORITY_DAYS = 3650
CERTIFICATE_DAYS = 365
_SECONDS = 30
_DAY = 86_400


class AuthorityError(Exception):
    """A certificate that cannot be made or read; the text is one line."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A key and the certificate for it, PEM."""

    key: bytes
    certificate: bytes


def make_authority() -> Pair:
    """A new authority, which signs itself."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _make_key(folder / "key")
        _openssl(
            "req", "-new", "-x509", "-key", folder / "key", "-out", folder / "crt", "-days", AUTHORITY_DAYS,
            "-subj", "/CN=Lambent cluster authority", "-addext", "basicConstraints=critical,CA:TRUE,pathlen:0",
            "-addext", "keyUsage=critical,keyCertSign,cRLSign",
        )  # fmt: skip
        return Pair((folder / "key").read_bytes(), (folder / "crt").read_bytes())


def issue(authority: Pair, names: Sequence[str] = (), days: int = CERTIFICATE_DAYS) -> Pair:
    """A certificate for processes of the cluster, as clients and as servers. `names`: DNS names beside NAME."""
    with tempfile.TemporaryDirectory() as folder_name:
        folder = Path(folder_name)
        (folder / "ca.key").write_bytes(authority.key)
        (folder / "ca.crt").write_bytes(authority.certificate)
        alternatives = ",".join(f"DNS:{name}" for name in dict.fromkeys((NAME, *names)))
        (folder / "extensions").write_text(
            f"subjectAltName={alternatives}\nbasicConstraints=critical,CA:FALSE\n"
            "keyUsage=critical,digitalSignature\nextendedKeyUsage=serverAuth,clientAuth\n"
        )
        _make_key(folder / "key")
        _openssl("req", "-new", "-key", folder / "key", "-subj", f"/CN={NAME}", "-out", folder / "request")
        _openssl(
            "x509", "-req", "-in", folder / "request", "-CA", folder / "ca.crt", "-CAkey", folder / "ca.key",
            "-CAcreateserial", "-days", days, "-extfile", folder / "extensions", "-out", folder / "crt",
        )  # fmt: skip
        return Pair((folder / "key").read_bytes(), (folder / "crt").read_bytes())


def valid_for(certificate: bytes, days: float) -> bool:
    """Whether a certificate is still valid in so many days."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(certificate)
        file.flush()
        return _run("x509", "-in", file.name, "-noout", "-checkend", int(days * _DAY)).returncode == 0


def expires(certificate: bytes) -> int:
    """Until when a certificate is valid: epoch seconds. Raises AuthorityError."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(certificate)
        file.flush()
        said = _openssl("x509", "-in", file.name, "-noout", "-enddate")
    return ssl.cert_time_to_seconds(said.decode().strip().removeprefix("notAfter="))


def signed_by(certificate: bytes, authority: bytes) -> bool:
    """Whether a certificate is one of this authority's, and valid now."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "crt").write_bytes(certificate)
        (folder / "ca").write_bytes(authority)
        return _run("verify", "-CAfile", folder / "ca", folder / "crt").returncode == 0


def _make_key(path: Path) -> None:
    _openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", path)


def _openssl(*arguments: object) -> bytes:
    result = _run(*arguments)
    if result.returncode:
        lines = result.stderr.decode(errors="replace").strip().splitlines()
        raise AuthorityError(f"openssl {arguments[0]} failed: {lines[-1] if lines else result.returncode}")
    return result.stdout


def _run(*arguments: object) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(["openssl", *map(str, arguments)], capture_output=True, timeout=_SECONDS, check=False)
    except FileNotFoundError:
        raise AuthorityError("there is no openssl program here; install it, or give the certificates") from None
    except subprocess.TimeoutExpired:
        raise AuthorityError(f"openssl {arguments[0]} did not end") from None
