"""Packages are compiled once when they are unpacked, by a process that nothing in them can hurt."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

PROGRAM = Path(__file__).resolve().parents[2] / "services/worker/guest/precompile.py"
TAG = sys.implementation.cache_tag


def precompile(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(PROGRAM), str(folder), "/var/task"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_every_source_gets_code_that_names_the_place_where_functions_see_it(tmp_path: Path) -> None:
    (tmp_path / "pkg").mkdir()
    (tmp_path / "app.py").write_text("def handler(event, context):\n    raise ValueError\n")
    (tmp_path / "pkg/part.py").write_text("x = 1\n")
    precompile(tmp_path)
    compiled = tmp_path / f"__pycache__/app.{TAG}.pyc"
    assert (tmp_path / f"pkg/__pycache__/part.{TAG}.pyc").exists()
    flags = int.from_bytes(compiled.read_bytes()[4:8], "little")
    assert flags == 1, "the source's time is not looked at: it is not kept over unpacking"
    spec = importlib.util.spec_from_file_location("app", compiled)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.handler.__code__.co_filename == "/var/task/app.py"


def test_what_does_not_compile_or_is_compiled_already_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("def handler(:\n")
    (tmp_path / "null.py").write_bytes(b"x = 1\0")
    (tmp_path / "deep.py").write_text("x = " + "(" * 5000 + ")" * 5000)
    (tmp_path / "brought.py").write_text("x = 1\n")
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / f"__pycache__/brought.{TAG}.pyc").write_bytes(b"brought")
    (tmp_path / "good.py").write_text("x = 1\n")
    precompile(tmp_path)
    assert {path.name for path in (tmp_path / "__pycache__").iterdir()} == {f"brought.{TAG}.pyc", f"good.{TAG}.pyc"}
    assert (tmp_path / f"__pycache__/brought.{TAG}.pyc").read_bytes() == b"brought"
    assert (tmp_path / "broken.py").read_text() == "def handler(:\n"


def test_nothing_outside_the_package_is_written(tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "outside.py").write_text("x = 1\n")
    (tmp_path / "package/link.py").symlink_to("../outside.py")
    precompile(tmp_path / "package")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["outside.py", "package"]
    assert not (tmp_path / "package/__pycache__").exists()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "package/app.py").write_text("x = 1\n")
    (tmp_path / "package/__pycache__").symlink_to("../elsewhere")
    precompile(tmp_path / "package")
    assert not list((tmp_path / "elsewhere").iterdir())
