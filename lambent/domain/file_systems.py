"""File systems that functions may mount: access points that the operator names, each a folder of the workers.

There is no EFS behind these names. Whatever a folder is made of (a disk, NFS, a PersistentVolumeClaim of Kubernetes),
all workers have to see the same in it.
Source: https://docs.aws.amazon.com/lambda/latest/dg/configuration-filesystem.html
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from lambent.domain.errors import invalid_parameter
from lambent.domain.functions import FileSystemMount
from lambent.domain.names import Tenant

_ARN = re.compile(r"arn:aws[a-z-]*:elasticfilesystem:[a-z0-9-]+:(\d{12}):access-point/fsap-[a-f0-9]{17}")


@dataclass(frozen=True, slots=True)
class FileSystems:
    """What FileSystemConfigs may name."""

    folders: Mapping[str, str] = field(default_factory=dict)  # ARN of an access point → its folder

    def mount(self, tenant: Tenant, arn: str, path: str) -> FileSystemMount:
        """What a FileSystemConfig asks for. Raises InvalidParameterValueException."""
        found = _ARN.fullmatch(arn)
        if arn not in self.folders or found is None or found[1] != tenant.account:
            raise invalid_parameter(
                f"FileSystemConfigs: the access point {arn} does not exist; file_systems has those that do."
            )
        if path.rpartition("/")[2] in (".", ".."):
            raise invalid_parameter(f"LocalMountPath: {path} is no folder below /mnt.")
        return FileSystemMount(arn, path)


def parse(text: str) -> dict[str, str]:
    """`ARN=/FOLDER,...` as a mapping. Raises ValueError with what is wrong."""
    found: dict[str, str] = {}
    for entry in filter(None, (part.strip() for part in text.split(","))):
        arn, _, folder = (part.strip() for part in entry.partition("="))
        if not _ARN.fullmatch(arn) or not folder.startswith("/"):
            raise ValueError(
                f"file_systems: {entry!r} is not ARN=/FOLDER, such as "
                "arn:aws:elasticfilesystem:us-east-1:000000000000:access-point/fsap-0123456789abcdef0=/srv/models"
            )
        if found.setdefault(arn, folder) != folder:
            raise ValueError(f"file_systems: {arn} is two folders")
    return found
