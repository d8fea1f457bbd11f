"""`lambent keys ensure`: what is missing is made, what is there stays, a certificate is renewed in time."""

from __future__ import annotations

import ssl

import pytest

from lambent.cli.keys import ensure_certificate, ensure_credentials, ensure_keys, ensure_password
from lambent.infra.authority import AuthorityError, expires, issue, make_authority, signed_by, valid_for
from lambent.infra.clock import SystemClock
from lambent.infra.kubernetes_secrets import MemorySecrets
from lambent.infra.secrets import KEY_BYTES


def test_what_is_made_once_stays() -> None:
    store = MemorySecrets()

    def ensure() -> list[str]:
        return [
            *ensure_keys(store, "keys"),
            *ensure_credentials(store, "root"),
            *ensure_password(store, "redis"),
            *ensure_certificate(store, "tls", ["lambent-frontend"]),
        ]

    assert ensure() == [
        "secret keys: keys made",
        "secret root: access key made",
        "secret redis: password made",
        "secret tls: certificate made",
    ]
    before = {name: dict(data) for name, data in store.secrets.items()}
    assert all(line.endswith("there already") for line in ensure())
    assert store.secrets == before
    assert {len(key) for key in before["keys"].values()} == {KEY_BYTES}
    root = {name: value.decode() for name, value in before["root"].items()}
    assert root["root-credentials"] == f"{root['access-key-id']}:{root['secret-access-key']}"
    assert signed_by(before["tls"]["tls.crt"], before["tls"]["ca.crt"])
    assert before["tls"]["ca.crt"] == before["tls-ca"]["tls.crt"]
    assert "tls.key" not in before["tls"] or before["tls"]["tls.key"] != before["tls-ca"]["tls.key"]


def test_a_certificate_is_replaced_before_it_expires_by_one_of_the_same_authority() -> None:
    store = MemorySecrets()
    ensure_certificate(store, "tls", [])
    authority, first = store.secrets["tls-ca"], dict(store.secrets["tls"])
    assert valid_for(first["tls.crt"], 364)
    assert not valid_for(first["tls.crt"], 366)
    assert 364 < (expires(first["tls.crt"]) - SystemClock().epoch()) / 86_400 <= 365
    assert ensure_certificate(store, "tls", [], renew_days=366) == ["secret tls: certificate renewed"]
    second = store.secrets["tls"]
    assert second["tls.crt"] != first["tls.crt"]
    assert second["ca.crt"] == first["ca.crt"] == authority["tls.crt"]
    assert signed_by(second["tls.crt"], authority["tls.crt"])


def test_a_certificate_that_somebody_gave_is_left_alone() -> None:
    store = MemorySecrets()
    other = make_authority()
    given = issue(other)
    store.create("tls", {"tls.key": given.key, "tls.crt": given.certificate, "ca.crt": other.certificate})
    before = dict(store.secrets["tls"])
    assert ensure_certificate(store, "tls", []) == ["secret tls: certificate of another authority, left as it is"]
    assert store.secrets["tls"] == before
    assert not signed_by(given.certificate, make_authority().certificate)


def test_an_authority_without_its_key_is_said() -> None:
    store = MemorySecrets()
    store.create("tls-ca", {"tls.crt": b"x"})
    with pytest.raises(AuthorityError, match="openssl x509 failed"):
        expires(b"no certificate")
    with pytest.raises(AuthorityError, match=r"secret tls-ca has no tls\.key and tls\.crt; delete it"):
        ensure_certificate(store, "tls", [])


def test_certificates_are_such_as_python_reads() -> None:
    authority = make_authority()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=authority.certificate.decode())
    (read,) = context.get_ca_certs()
    assert read["subject"] == ((("commonName", "Lambent cluster authority"),),)
