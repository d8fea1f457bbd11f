"""What is generated is current, the closure is as pinned and free of Rust, and files keep to one subject."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools import pages, protos

ROOT = Path(__file__).resolve().parents[2]
RUST = re.compile(rb"/rustc/[0-9a-f]{40}|\.cargo/registry|rust_begin_unwind")


def test_generated_code_is_what_the_protos_make(tmp_path: Path) -> None:
    protos.generate(tmp_path)
    made = {path.relative_to(tmp_path): path.read_text() for path in tmp_path.rglob("*.py*") if path.is_file()}
    assert made
    for path, text in made.items():
        assert (ROOT / path).read_text() == text, f"{path} is not current: run `make protos`"
    for package in protos.PACKAGES:
        here = {path.relative_to(ROOT) for path in (ROOT / package).glob("*.py*")}
        assert here <= set(made), here - set(made)


@pytest.mark.parametrize("name", pages.PAGES)
def test_generated_pages_are_current(name: str) -> None:
    assert (pages.REFERENCE / name).read_text() == pages.PAGES[name](), f"{name} is not current: run `make docs`"


def closure(names: list[str]) -> Iterator[importlib.metadata.Distribution]:
    """Everything that the named distributions bring, themselves included."""
    seen: set[str] = set()
    while names:
        name = re.sub(r"[-_.]+", "-", names.pop()).lower()
        if name in seen:
            continue
        seen.add(name)
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # needed only on other platforms
        yield distribution
        needs = [requirement for requirement in distribution.requires or () if "extra ==" not in requirement]
        names.extend(re.split(r"[ ;<>=!~\[(]", requirement, maxsplit=1)[0] for requirement in needs)


def test_no_runtime_dependency_brings_rust() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = [re.split(r"[=<>\[]", item, maxsplit=1)[0] for item in project["dependencies"]]
    found, looked = [], 0
    for distribution in closure(names):
        for file in distribution.files or ():
            path = Path(str(distribution.locate_file(file)))
            if path.suffix in (".so", "") and path.is_file() and path.read_bytes()[:4] == b"\x7fELF":
                looked += 1
                if RUST.search(path.read_bytes()):
                    found.append(f"{distribution.name}: {file}")
    assert looked > 5
    assert found == []


def test_every_dependency_has_its_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    record = (ROOT / "docs/decisions/0003-dependencies.md").read_text()
    for item in project["dependencies"]:
        assert f"`{item.partition('==')[0]}`" in record, f"{item} has no line in docs/decisions/0003-dependencies.md"


def test_the_guest_needs_only_the_standard_library() -> None:
    """It runs in a sandbox, under whatever interpreter the function asks for."""
    guest = ROOT / "services/worker/guest"
    own = {path.stem for path in guest.glob("*.py")} | {"services"}
    for path in guest.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                assert name.partition(".")[0] in sys.stdlib_module_names | own, f"{path.name} imports {name}"
                assert not name.startswith("services") or name.startswith("services.worker.guest")


def sources() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / line for line in listed.splitlines() if not line.startswith(("lambent/v1/", "lambent/internal/v1/"))]


def test_files_keep_to_one_subject() -> None:
    assert {
        str(path): n for path in sources() if path.exists() and (n := len(path.read_text().splitlines())) > 500
    } == {}
    assert [path for path in sources() if path.stem in ("utils", "helpers", "common", "manager", "misc")] == []


def test_the_architecture_page_fits_a_reading() -> None:
    assert len((ROOT / "ARCHITECTURE.md").read_text().splitlines()) <= 150


def test_make_help_lists_every_target() -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    said = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert len(targets) <= 16
    assert all(re.search(rf"^{target}\s", said, re.MULTILINE) for target in targets)
