"""The wheel: one name in site-packages, and a cluster that starts from it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from tests.conftest import free_port

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    [built] = folder.glob("*.whl")
    return built


def test_the_wheel_adds_one_import_name(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == {"lambent"}
    assert "lambent/infra/functions/create_function.lua" in names
    assert "lambent/_bundle/services/worker/guest/zygote.py" in names
    assert "lambent/py.typed" in names


def test_a_cluster_starts_from_the_installed_wheel(wheel: Path, short_tmp: Path) -> None:
    """In an environment that sees this one's libraries, and of Lambent nothing but the wheel."""
    venv.create(short_tmp / "venv", with_pip=False)
    python = short_tmp / "venv/bin/python"
    [site] = (short_tmp / "venv/lib").glob("python*/site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    libraries = short_tmp / "libraries"
    libraries.mkdir()
    [here] = {Path(p) for p in sys.path if p.endswith("site-packages") and Path(p).is_relative_to(sys.prefix)}
    for entry in here.iterdir():
        if entry.suffix != ".pth" and not entry.name.startswith(("lambent", "__editable__", "_lambent")):
            (libraries / entry.name).symlink_to(entry)
    (site / "libraries.pth").write_text(f"{libraries}\n")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("LAMBENT_", "AWS_", "PYTHON"))}
    where = subprocess.run(
        [str(python), "-c", "import lambent; print(lambent.__file__)"],
        capture_output=True,
        text=True,
        cwd="/",
        env=environment,
        check=True,
    )
    assert where.stdout.startswith(str(site))
    little = ("--functions", "2", "--hours", "0.1", "--setting", "a", "--setting", "b")
    simulated = subprocess.run(
        [str(python), "-m", "lambent.cli.main", "simulate", *little], capture_output=True, text=True, cwd="/",
        env=environment, check=False,
    )  # fmt: skip
    assert simulated.returncode == 0, simulated.stderr
    up = subprocess.Popen(
        [
            str(python), "-m", "lambent.cli.main", "up", "--data", str(short_tmp / "data"), "--http",
            f"127.0.0.1:{free_port()}", "--grpc", f"127.0.0.1:{free_port()}",
        ],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd="/", env=environment,
    )  # fmt: skip
    try:
        assert up.stdout is not None
        said = []
        for line in up.stdout:
            said.append(line)
            if line.startswith("Ctrl-C"):
                break
        assert 'hello answered {"greeting": "Hello, world!"}' in "".join(said)
    finally:
        up.send_signal(signal.SIGINT)
        up.communicate(timeout=60)
    assert up.returncode == 0
