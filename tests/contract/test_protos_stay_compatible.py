"""Processes of two versions talk while an upgrade goes on, and clients outlive servers: what released.binpb.gz has stays.

The file is the protos as they were last released: `buf build --exclude-source-info -o tests/contract/released.binpb.gz`. It is
made anew with each release, and never to have this pass.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RELEASED = Path(__file__).parent / "released.binpb.gz"
BUF = Path(sys.executable).parent / "buf"


def broken(protos: Path, *options: str) -> str:
    """What is not as it was; empty: nothing."""
    command = [str(BUF), "breaking", str(protos), "--against", str(RELEASED), *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout


def wire(protos: Path) -> tuple[str, str]:
    """Options for rules that bytes depend on, and names do not."""
    rules = {"version": "v2", "modules": [{"path": str(protos)}], "breaking": {"use": ["WIRE"]}}
    return "--config", json.dumps(rules)


def test_the_public_api_is_what_it_was() -> None:
    assert broken(ROOT) == ""


def test_what_processes_say_to_each_other_is_understood_by_those_of_the_version_before() -> None:
    assert broken(ROOT, *wire(Path("protos"))) == ""


def test_a_change_that_old_processes_misread_is_seen(tmp_path: Path) -> None:
    copy = tmp_path / "protos"
    for path in (ROOT / "protos").rglob("*.proto"):
        target = copy / path.relative_to(ROOT / "protos")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(path.read_text())
    changed = copy / "lambent" / "internal" / "v1" / "worker_service.proto"
    changed.write_text(re.sub(r"string pool = 7;", "int64 pool = 7;", changed.read_text()))
    assert "worker_service.proto" in broken(copy)
