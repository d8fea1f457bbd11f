"""How a store is named."""

from __future__ import annotations

import pytest

from lambent.infra.redis_urls import addresses, several


def test_urls_with_one_address_are_the_librarys() -> None:
    for url in ("redis://u:p@h:1/2", "rediss://h", "unix:///run/redis.sock"):
        assert several(url) is None


def test_sentinels_are_asked_for_a_master() -> None:
    found = several("rediss+sentinel://u:p%2Fw@a:1,b/main/3?ssl_ca_certs=/ca")
    assert found is not None
    assert (found.addresses, found.master) == ((("a", 1), ("b", 26379)), "main")
    assert found.options == {"db": 3, "username": "u", "password": "p/w", "ssl": True, "ssl_ca_certs": "/ca"}


def test_a_cluster_is_named_by_some_of_its_nodes() -> None:
    found = several("redis+cluster://:p@a,[fd00::1]:7000/0")
    assert found is not None
    assert (found.addresses, found.master) == ((("a", 6379), ("fd00::1", 7000)), "")
    assert found.options == {"password": "p"}


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("redis+other://a", "several addresses"),
        ("http+cluster://a", "several addresses"),
        ("redis+cluster://", "several addresses"),
        ("redis+sentinel://a:1", "of Sentinels is"),
        ("redis+cluster://a/1", "its only database is 0"),
        ("redis+cluster://a:b", "Port"),
    ],
)
def test_what_is_no_such_url_is_said(url: str, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        several(url)


def test_where_a_store_listens() -> None:
    assert addresses("unix:///run/redis.sock") == ()
    assert addresses("redis://:p@h") == (("h", 6379),)
    assert addresses("rediss://[fd00::1]:7/0") == (("fd00::1", 7),)
    assert addresses("redis+sentinel://a,b:2/main") == (("a", 26379), ("b", 2))
