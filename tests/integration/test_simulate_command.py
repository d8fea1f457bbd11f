"""`lambent simulate` as a user runs it: the how-to page's commands, the forms of its answer, and what is wrong use."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from tests.e2e.harness import ROOT, code_blocks

_LITTLE = ("--functions", "10", "--hours", "0.5", "--invocations-per-day", "20000")


def environment() -> dict[str, str]:
    """Ours, with the commands of this interpreter first and no settings of a cluster."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LAMBENT_")}
    return kept | {"PATH": f"{Path(sys.executable).parent}:{kept['PATH']}"}


def simulate(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lambent.cli.main", "simulate", *arguments]
    return subprocess.run(
        command, cwd=cwd, env=environment(), capture_output=True, text=True, timeout=100, check=False
    )  # fmt: skip


def shell(script: str) -> str:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], cwd=ROOT, env=environment(), capture_output=True, text=True,
        timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_the_page_on_simulation_can_be_followed(tmp_path: Path) -> None:
    compare, limits, replay = (
        block.replace("/tmp/", f"{tmp_path}/")
        for block in code_blocks((ROOT / "docs/howto/simulate.md").read_text(), "sh")
    )
    said = shell(compare)
    assert "100 functions, 3 hours" in said
    assert "fixed-10m" in said
    assert "histogram" in said
    assert ET.parse(tmp_path / "comparison.svg").getroot().tag.endswith("svg")
    roomy, tight = json.loads(shell(limits))["settings"]
    assert (roomy["throttles"], roomy["name"]) == (0, "roomy")
    assert tight["throttles"] == sum(tight["throttlesByReason"].values()) > 0
    assert tight["ran"] + tight["throttles"] == tight["invocations"] == roomy["invocations"]
    lines = shell(replay).splitlines()
    assert "4 invocations" in lines[0]
    short, long = (line.split() for line in lines if line.startswith(("short", "long")))
    # Setting, invocations, cold.
    assert (short[:3], long[:3]) == (["short", "4", "3"], ["long", "4", "2"])


def test_without_settings_the_two_policies_are_compared() -> None:
    done = simulate(*_LITTLE, "--output", "json")
    assert [one["name"] for one in json.loads(done.stdout)["settings"]] == ["fixed", "break-even", "hybrid-histogram"]
    assert done.stderr == ""


def test_settings_in_force_are_where_it_starts(tmp_path: Path) -> None:
    file = tmp_path / "lambent.toml"
    file.write_text("[timing]\nkeep_alive_seconds = 0\nlease_hold_seconds = 0\n")
    command = [sys.executable, "-m", "lambent.cli.main", "simulate", *_LITTLE, "--setting", "a", "--output", "json"]
    done = subprocess.run(
        command, cwd=ROOT, env=environment() | {"LAMBENT_CONFIG": str(file)}, capture_output=True, text=True, check=False
    )  # fmt: skip
    assert json.loads(done.stdout)["settings"][0]["warmGigabyteSeconds"] == pytest.approx(0.0, abs=1e-6)


def test_a_picture_can_be_a_png(tmp_path: Path) -> None:
    assert simulate(*_LITTLE, "--setting", "a", "--plot", str(tmp_path / "a.png")).returncode == 0
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--setting", "a:keep_alive=1"], 2, "did you mean keep_alive_policy or keep_alive_seconds?"),
        (["--setting", "a", "--setting", "a"], 2, "two of this name"),
        (["--plot", "a.pdf"], 2, "the name must end in .svg or .png"),
        (["--memory", "m.csv"], 2, "--memory belongs to --trace"),
        (["--trace", "nowhere.csv"], 2, "cannot read nowhere.csv: No such file or directory"),
        (["--trace", "README.md"], 2, "README.md:1: the heading is of neither trace"),
        (["--trace", "x.csv", "--invocations-per-day", "5"], 2, "is for a generated trace"),
        (["--functions", "0"], 2, "0 is not in the range"),
        ([*_LITTLE, "--setting", "a", "--plot", "nowhere/a.svg"], 1, "cannot write nowhere/a.svg"),
    ],
)
def test_wrong_use_is_one_line_and_a_code(arguments: list[str], code: int, said: str) -> None:
    done = simulate(*arguments)
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
