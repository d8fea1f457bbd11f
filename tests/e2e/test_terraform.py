"""HashiCorp's AWS provider, unmodified, with what the how-to shows.

Where there is no Terraform, or no file that says where its providers are (TF_CLI_CONFIG_FILE), this is skipped: the
provider alone is some hundred megabytes.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest

from tests.e2e.harness import Cluster, code_blocks, run, zipped

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "howto" / "terraform.md"


@pytest.mark.skipif(
    shutil.which("terraform") is None or not Path(os.environ.get("TF_CLI_CONFIG_FILE", "-")).is_file(),
    reason="no Terraform with a provider",
)
def test_what_the_how_to_declares_is_made_kept_changed_and_removed(cluster: Cluster, tmp_path: Path) -> None:
    [declared] = code_blocks(PAGE.read_text(), "terraform")

    def terraform(*arguments: str) -> str:
        done = run("terraform", f"-chdir={tmp_path}", *arguments, "-no-color", env=cluster.environment, timeout=240)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def declare(text: str, says: str) -> None:
        (tmp_path / "main.tf").write_text(text)
        (tmp_path / "greet.zip").write_bytes(zipped({"app.py": f"def handler(event, context):\n    return {says!r}\n"}))

    def unchanged() -> bool:
        return "No changes." in terraform("plan")

    client = cluster.client()
    declare(declared, "first")
    terraform("init")
    terraform("apply", "-auto-approve")
    assert unchanged()
    assert client.invoke(FunctionName="greet", Qualifier="live")["Payload"].read() == b'"first"'
    web = client.get_function_url_config(FunctionName="greet", Qualifier="live")
    assert (web["AuthType"], web["Cors"]["AllowOrigins"]) == ("AWS_IAM", ["https://www.example.com"])
    changed = declared.replace('team = "x"', 'stage = "y"').replace("executions = 2", "executions = 3")
    changed = changed.replace("max_age       = 60", 'max_age       = 0\n    expose_headers = ["x-a"]')
    changed = re.sub(r"(  publish .*\n)", r"\1  memory_size = 256\n  reserved_concurrent_executions = 10\n", changed)
    declare(changed, "second")
    terraform("apply", "-auto-approve")
    assert unchanged()
    assert client.invoke(FunctionName="greet", Qualifier="live")["Payload"].read() == b'"second"'
    function = client.get_function(FunctionName="greet")
    assert (function["Tags"], function["Concurrency"]) == ({"stage": "y"}, {"ReservedConcurrentExecutions": 10})
    terraform("destroy", "-auto-approve")
    assert "greet" not in {each["FunctionName"] for each in client.list_functions()["Functions"]}
