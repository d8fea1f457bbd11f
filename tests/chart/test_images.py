"""What the images are made of. That they build is seen where they are used, on a cluster."""

from __future__ import annotations

import importlib.metadata
import re
import tomllib
from pathlib import Path

import pytest

from tools import sbom

ROOT = Path(__file__).resolve().parents[2]
IMAGES = ("control", "worker")


def stages(image: str) -> list[str]:
    """The stages of an image's file, the last of which is the image; comments left out."""
    text = (ROOT / "images" / image / "Dockerfile").read_text()
    text = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ")
    return re.split(r"^(?=FROM )", text, flags=re.MULTILINE)[1:]


@pytest.mark.parametrize("image", IMAGES)
def test_the_image_says_what_it_is(image: str) -> None:
    labels = set(re.findall(r"org\.opencontainers\.image\.(\w+)=", stages(image)[-1]))
    assert labels >= {"title", "description", "licenses", "vendor", "version", "revision"}
    assert f"/tmp/sbom.py lambent-{image} > /usr/share/lambent/sbom.json" in stages(image)[-1]


@pytest.mark.parametrize("image", IMAGES)
def test_nothing_is_left_that_only_building_needs(image: str) -> None:
    base, final = stages(image)[0], stages(image)[-1]
    (run,) = re.findall("^RUN .*", final, re.MULTILINE)
    assert "sbom.py" in run
    installs = re.findall(r"apt-get install", base)
    assert len(installs) == len(re.findall(r"--no-install-recommends", base)) == len(re.findall(r"rm -rf", base))
    assert not re.search(r"gcc|build-essential|\bmake\b|python3?-dev", base + final)
    pip = [line for stage in stages(image) for line in stage.splitlines() if "-m pip " in line]
    assert len(pip) == 2
    assert all("--no-cache-dir" in line for line in pip)


def test_the_dependencies_are_the_pinned_ones() -> None:
    for image in IMAGES:
        assert "-c constraints.txt -r dependencies.txt" in stages(image)[1]
        assert "--no-deps ." in stages(image)[1]


def test_what_both_images_share_is_made_once() -> None:
    """A builder takes a stage from its cache only where every line of it is the same."""
    control, worker = stages("control"), stages("worker")
    assert control[1] == worker[1]


def test_only_the_worker_is_root() -> None:
    users = {image: re.findall(r"^USER (\d+):(\d+)$", stages(image)[-1], re.MULTILINE) for image in IMAGES}
    assert users == {"control": [("65532", "65532")], "worker": [("0", "0")]}


def test_the_context_has_what_the_wheel_is_made_of() -> None:
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {*wheel["packages"], *wheel["force-include"], "pyproject.toml", "constraints.txt", "README.md", "LICENSE"}
    shown = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert shown == needed | {"tools/sbom.py"}


def test_the_list_of_contents_has_every_distribution_and_package() -> None:
    python = sbom.python_components(importlib.metadata.distributions())
    assert {"name": "grpcio", "purl": f"pkg:pypi/grpcio@{importlib.metadata.version('grpcio')}"}.items() <= (
        next(each for each in python if each["name"] == "grpcio").items()
    )
    debian = sbom.debian_components("openssl\t3.0.20-1~deb12u2\tamd64\nadduser\t3.134\tall\n")
    assert [each["purl"] for each in debian] == [
        "pkg:deb/debian/adduser@3.134?arch=all",
        "pkg:deb/debian/openssl@3.0.20-1~deb12u2?arch=amd64",
    ]
    whole = sbom.document("lambent-control", "1.2.3", python + debian)
    assert whole["bomFormat"] == "CycloneDX"
    assert whole["metadata"]["component"]["version"] == "1.2.3"
