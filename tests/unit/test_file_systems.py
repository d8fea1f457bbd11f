"""What FileSystemConfigs may name, and what the operator says of it."""

from __future__ import annotations

import re

import pytest

from lambent.domain.errors import AwsError
from lambent.domain.file_systems import FileSystems, parse
from lambent.domain.functions import FileSystemMount
from lambent.domain.names import Tenant

OWN, OTHER = Tenant("111111111111", "us-east-1"), Tenant("222222222222", "us-east-1")
ARN = f"arn:aws:elasticfilesystem:us-east-1:{OWN.account}:access-point/fsap-0123456789abcdef0"


def test_an_access_point_is_mounted_by_its_own_account() -> None:
    known = FileSystems(parse(f"{ARN}=/srv/models"))
    for path in ("/mnt/models", "/mnt/mnt", "/mnt/a.b-c_d", "/mnt/..."):
        assert known.mount(OWN, ARN, path) == FileSystemMount(ARN, path)
    for tenant, arn, path in (
        (OTHER, ARN, "/mnt/x"), (OWN, ARN[:-1] + "1", "/mnt/x"), (OWN, ARN, "/mnt/.."), (OWN, ARN, "/mnt/."),
    ):  # fmt: skip
        with pytest.raises(AwsError):
            known.mount(tenant, arn, path)


def test_folders_are_named_by_arns() -> None:
    assert parse("") == {}
    assert parse(f" {ARN}=/a , {ARN[:-1]}1=/b,{ARN}=/a") == {ARN: "/a", f"{ARN[:-1]}1": "/b"}
    for text, says in (
        ("/srv", "is not ARN=/FOLDER"),
        (f"{ARN}=relative", "is not ARN=/FOLDER"),
        (f"{ARN}=", "is not ARN=/FOLDER"),
        (f"{ARN}=/a,{ARN}=/b", "is two folders"),
    ):
        with pytest.raises(ValueError, match=re.escape(says)):
            parse(text)
