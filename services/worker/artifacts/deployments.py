"""What a deployment is made of, unpacked on this worker: a package with its layers, or a container image."""

from __future__ import annotations

from collections.abc import Iterable

from lambent.domain.names import Tenant
from lambent.internal.v1.deployment_pb2 import Deployment
from services.worker.artifacts.cache import ArtifactCache, Unpacked
from services.worker.artifacts.images import ImageCache


class Artifacts:
    """Both."""

    def __init__(self, packages: ArtifactCache, images: ImageCache) -> None:
        self._packages = packages
        self._images = images

    def known(self, deployment: Deployment) -> Unpacked | None:
        """What there is already."""
        if deployment.image:
            return self._images.known(_tenant(deployment), deployment.image)
        return self._packages.known(deployment.code_sha256, deployment.layer_sha256)

    async def unpacked(self, deployment: Deployment) -> Unpacked:
        """The same, made now if need be. Raises PackageUnavailable."""
        if deployment.image:
            return await self._images.unpacked(_tenant(deployment), deployment.image)
        return await self._packages.unpacked(deployment.code_sha256, deployment.layer_sha256)

    def trim(self, in_use: Iterable[Deployment]) -> None:
        """Take images away that are too much, of those that no deployment `in_use` is made of. Nobody else may be about
        to use one."""
        self._images.trim([(_tenant(deployment), deployment.image) for deployment in in_use if deployment.image])

    async def close(self) -> None:
        """Give up what is under way."""
        await self._packages.close()
        await self._images.close()


def _tenant(deployment: Deployment) -> Tenant:
    return Tenant(deployment.account, deployment.region)
