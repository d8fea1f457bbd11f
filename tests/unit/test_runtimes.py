"""Runtime names: what they are of, which a cluster takes, and which interpreters a machine has for them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from lambent.domain.errors import AwsError
from lambent.domain.runtimes import ACCEPTED, SERVED, family
from lambent.infra.interpreters import UnusableInterpreter, interpreters
from services.frontend.operations.configuration import check_runtime, runtimes

OWN = f"python{sys.version_info[0]}.{sys.version_info[1]}"


@pytest.mark.parametrize(
    ("name", "kind"),
    [("python3.11", "python"), ("nodejs20.x", "nodejs"), ("provided.al2", "provided"), ("provided.al2023", "provided")],
)
def test_a_name_is_of_a_family(name: str, kind: str) -> None:
    assert family(name) == kind
    assert name in SERVED


def test_a_cluster_takes_what_its_setting_names() -> None:
    assert runtimes("") == SERVED
    only = runtimes("python3.11, nodejs20.x")
    check_runtime("nodejs20.x", only)
    for name, text in (
        ("provided.al2", "not served by this cluster; served: nodejs20.x, python3.11."),
        ("java21", "not served by this cluster"),
        ("cobol", "Member must satisfy enum value set"),
        ("python2.7", "no longer supported"),
    ):
        with pytest.raises(AwsError, match=text) as caught:
            check_runtime(name, only)
        assert caught.value.name == "InvalidParameterValueException"
    with pytest.raises(ValueError, match=r"runtimes: cobol is none of nodejs16\.x"):
        runtimes("python3.11,cobol")


def test_interpreters_that_are_named_are_taken_and_the_rest_shares_with_a_warning() -> None:
    found, warnings = interpreters(f"nodejs22.x={sys.executable}")
    assert found["nodejs22.x"] == Path(sys.executable).resolve()
    assert found.keys() >= {name for name in ACCEPTED if family(name) == "python"}
    assert "provided.al2" not in found
    told = " ".join(warnings)
    assert "nodejs22.x" not in told
    assert OWN not in told.replace(f"run on {OWN}", "")
    assert f"run on {OWN}" in told


@pytest.mark.parametrize(
    "given",
    ["cobol=/bin/sh", "python3.11=/nothing/there", "provided.al2=/bin/sh", "python3.11", "nodejs20.x=/opt/node"],
)
def test_what_is_no_interpreter_is_refused_with_one_line(given: str) -> None:
    with pytest.raises(UnusableInterpreter, match=r"worker.interpreters: .*"):
        interpreters(given)
