"""Whatever a registry says of an image: it is read, or refused as an image."""

from __future__ import annotations

import contextlib
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from lambent.domain.images import ImageError, parse_name, read_config, read_manifest
from tests import registry
from tests.registry import Image, layer

IMAGE = Image([layer({"a": b"b"})], {"Entrypoint": ["/a"], "Cmd": [], "WorkingDir": "/", "Env": ["A=b"]})
MANIFEST, CONFIG = json.loads(IMAGE.manifest()), json.loads(IMAGE.settings())
INDEX = json.loads(registry.index({"amd64": IMAGE}))
_anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def places(document: Any) -> list[tuple[Any, Any]]:
    """Every place in a document: what it is in, and where there."""
    found: list[tuple[Any, Any]] = []
    for key, value in document.items() if isinstance(document, dict) else enumerate(document):
        found.append((document, key))
        if isinstance(value, dict | list):
            found += places(value)
    return found


@given(st.sampled_from([MANIFEST, INDEX, CONFIG]), st.data())
def test_what_is_another_anywhere_is_refused_or_read(sound: dict[str, Any], data: st.DataObject) -> None:
    document = json.loads(json.dumps(sound))
    inside, key = data.draw(st.sampled_from(places(document)))
    inside[key] = data.draw(_anything)
    text = json.dumps(document).encode()
    with contextlib.suppress(ImageError):
        read_manifest(text, registry.MANIFEST, "x86_64")
    with contextlib.suppress(ImageError):
        read_config(text, "x86_64")


@given(st.binary(max_size=50))
def test_no_document_is_refused(data: bytes) -> None:
    for read in (lambda: read_manifest(data, "", "x86_64"), lambda: read_config(data, "x86_64")):
        with contextlib.suppress(ImageError):
            read()


@given(st.text(max_size=300) | st.from_regex(r"[a-z.:/@-]{0,300}", fullmatch=True))
def test_a_name_is_read_or_refused(uri: str) -> None:
    try:
        name = parse_name(uri)
    except ImageError:
        return
    assert uri.startswith(f"{name.host}/{name.repository}")
    again = parse_name(name.resolved("0" * 64))
    assert (again.host, again.repository, again.digest) == (name.host, name.repository, "0" * 64)
