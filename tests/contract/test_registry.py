"""The contract of registries of container images as we read them: the twin in this process, and the distribution
project's own."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import msgspec
import pytest
import urllib3

from lambent.domain.images import Blob, Fault, ImageError, parse_name
from lambent.infra.clock import SystemClock
from lambent.infra.connections import Connection
from lambent.infra.ecr_login import EcrLogin
from lambent.infra.registries import Registry
from tests import registry
from tests.conftest import free_port
from tests.registry import Image, layer

HELLO = Image(
    [layer({"hello": b"hello"}), layer({"more": b"x" * 100_000})],
    {"Entrypoint": ["/hello"], "Cmd": ["a", "b"], "WorkingDir": "/srv", "Env": ["A=1", "B=x=y", "none"]},
)


@pytest.fixture(params=["twin", "real"], scope="module")
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[registry.Registry]:
    if request.param == "twin":
        with registry.twin(f"{registry.USER}:{registry.PASSWORD}") as made:
            yield made
    elif not registry.PROGRAM:
        pytest.skip("TEST_REGISTRY names no registry")
    else:
        with registry.real(tmp_path_factory.mktemp("registry"), login=True) as made:
            yield made


def reader(place: registry.Registry, password: str = registry.PASSWORD) -> Registry:
    return Registry(Connection(f"http://{place.host}", registry.USER, password, "ecr"), SystemClock())


def test_an_image_is_found_by_its_tag_and_by_its_digest(place: registry.Registry) -> None:
    digest = place.push("team/hello:v1", HELLO)
    for reference in (":v1", f"@sha256:{digest}", f":v1@sha256:{digest}"):
        found = reader(place).resolve(parse_name(f"{place.host}/team/hello{reference}"), "x86_64")
        assert found.digest == digest
        assert [each.blob.digest for each in found.manifest.layers] == [
            hashlib.sha256(data).hexdigest() for data in HELLO.layers
        ]
        assert (found.built.entry_point, found.built.command) == (("/hello",), ("a", "b"))
        assert (found.built.working_directory, found.built.environ()) == ("/srv", {"A": "1", "B": "x=y"})


def test_a_layer_comes_in_pieces_that_are_checked(place: registry.Registry) -> None:
    place.push("team/pieces:v1", HELLO)
    name = parse_name(f"{place.host}/team/pieces:v1")
    blob = reader(place).resolve(name, "x86_64").manifest.layers[1].blob
    assert b"".join(reader(place).blob(name, blob, 1 << 30)) == HELLO.layers[1]
    with pytest.raises(ImageError) as too_large:
        b"".join(reader(place).blob(name, blob, 10))
    assert too_large.value.fault is Fault.TOO_LARGE
    with pytest.raises(ImageError) as other:
        b"".join(reader(place).blob(name, Blob(blob.digest, blob.size + 1), 1 << 30))
    assert other.value.fault is Fault.MALFORMED


def test_what_is_not_there_is_missing(place: registry.Registry) -> None:
    place.push("team/some:v1", HELLO)
    for missing in ("team/none:v1", "team/some:v2", f"team/some@sha256:{'0' * 64}"):
        with pytest.raises(ImageError) as error:
            reader(place).resolve(parse_name(f"{place.host}/{missing}"), "x86_64")
        assert error.value.fault is Fault.MISSING
    with pytest.raises(ImageError) as error:
        list(reader(place).blob(parse_name(f"{place.host}/team/some"), Blob("0" * 64, 5), 10))
    assert error.value.fault is Fault.MISSING


def test_who_may_not_read_is_told_so(place: registry.Registry) -> None:
    place.push("team/closed:v1", HELLO)
    name = parse_name(f"{place.host}/team/closed:v1")
    for reading in (reader(place, "wrong"), Registry(Connection(f"http://{place.host}", service="ecr"), SystemClock())):
        with pytest.raises(ImageError) as error:
            reading.resolve(name, "x86_64")
        assert error.value.fault is Fault.DENIED


def test_a_registry_that_is_not_there_is_unreachable() -> None:
    host = f"127.0.0.1:{free_port()}"
    with pytest.raises(ImageError) as error:
        Registry(Connection(f"http://{host}", service="ecr"), SystemClock()).resolve(
            parse_name(f"{host}/some:v1"), "x86_64"
        )
    assert (error.value.fault, str(error.value)) == (
        Fault.UNREACHABLE, f"{host} cannot be reached: NewConnectionError",
    )  # fmt: skip


def test_an_index_leads_to_the_image_for_the_processors(place: registry.Registry) -> None:
    images = {name: Image(HELLO.layers, HELLO.config, name) for name in ("amd64", "arm64")}
    digests = {name: place.push(f"team/both:{name}", image) for name, image in images.items()}
    place.put_manifest("team/both:all", registry.index(images), registry.INDEX)
    name = parse_name(f"{place.host}/team/both:all")
    assert reader(place).resolve(name, "x86_64").digest == digests["amd64"]
    assert reader(place).resolve(name, "arm64").digest == digests["arm64"]
    alone = parse_name(f"{place.host}/team/both:arm64")
    with pytest.raises(ImageError) as error:
        reader(place).resolve(alone, "x86_64")
    assert error.value.fault is Fault.ARCHITECTURE


def test_passwords_of_ecr_are_asked_for_with_the_keys_of_aws(moto: str) -> None:
    with registry.twin("AWS:123456789012-auth-token") as ecr:
        ecr.push("team/hello:v1", HELLO)
        name = parse_name(f"{ecr.host}/team/hello:v1")
        connection = Connection(f"http://{ecr.host}", "k", "s", "ecr", tokens=moto)
        assert Registry(connection, SystemClock()).resolve(name, "x86_64").built.command == ("a", "b")
        elsewhere = msgspec.structs.replace(connection, tokens=f"http://127.0.0.1:{free_port()}")
        with pytest.raises(ImageError) as error:
            Registry(elsewhere, SystemClock()).resolve(name, "x86_64")
        assert error.value.fault is Fault.UNREACHABLE
        none = msgspec.structs.replace(connection, tokens=f"http://{ecr.host}")
        with pytest.raises(ImageError) as error:
            Registry(none, SystemClock()).resolve(name, "x86_64")
        assert error.value.fault is Fault.DENIED


def test_which_connections_ask_for_them() -> None:
    def place(endpoint: str, **more: str) -> str | None:
        found = EcrLogin.of(Connection(endpoint, "k", "s", "ecr", **more), urllib3.PoolManager(), SystemClock())
        return None if found is None else found.place

    assert place("https://123456789012.dkr.ecr.eu-west-1.amazonaws.com") == "https://api.ecr.eu-west-1.amazonaws.com"
    china = "https://123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn"
    assert place(china) == "https://api.ecr.cn-north-1.amazonaws.com.cn"
    assert place("https://harbor.example") is None
    assert place("https://harbor.example", tokens="http://moto") == "http://moto"
    assert EcrLogin.of(Connection(china, service="ecr"), urllib3.PoolManager(), SystemClock()) is None
