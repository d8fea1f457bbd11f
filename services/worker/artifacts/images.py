"""The container images of a worker: each fetched once, however many environments ask for it (image_fetch.py)."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

import msgspec

from lambent.domain.images import ImageError, parse_name
from lambent.domain.limits import Limits
from lambent.domain.names import Tenant
from lambent.infra.connections import Connections
from lambent.infra.registries import connection_to
from services.worker.artifacts.cache import Unpacked
from services.worker.artifacts.image_fetch import Request, fetch_apart, image_folder
from services.worker.artifacts.image_shelf import ROOT, ImageShelf, read_note
from services.worker.artifacts.making import Making, PackageUnavailable

_log = logging.getLogger(__name__)


class ImageCache:
    """Those of one worker."""

    def __init__(
        self, connections: Connections, folder: Path, limits: Limits, architecture: str, shelf: ImageShelf
    ) -> None:
        """`connections`: where registries are. `architecture`: AWS's name for this machine's processors."""
        self._connections = connections
        self._folder = folder
        self._limits = limits
        self._architecture = architecture
        self._shelf = shelf
        self._made: Making[Unpacked] = Making("images")

    def known(self, tenant: Tenant, uri: str) -> Unpacked | None:
        """An image by its resolved URI, if it has been unpacked."""
        found = self._made.known.get(_key(tenant, uri))
        if found is not None:
            self._shelf.used(found.code.parent.name)
        return found

    async def unpacked(self, tenant: Tenant, uri: str) -> Unpacked:
        """An image by its resolved URI, fetched now if need be. Raises PackageUnavailable."""
        found = await self._made.obtain(_key(tenant, uri), lambda: self._make(tenant, uri))
        self._shelf.used(found.code.parent.name)
        return found

    def trim(self, in_use: Iterable[tuple[Tenant, str]]) -> None:
        """Take images away that are too much, of those that no tenant's URI `in_use` stands for. Nobody else may be
        about to use one."""
        if self._made.idle:
            known = self._made.known
            used = [known[key] for key in {_key(tenant, uri) for tenant, uri in in_use} if key in known]
            gone = self._shelf.trim({found.code.parent.name for found in used})
            for key in [key for key, found in known.items() if found.code.parent.name in gone]:
                del known[key]

    def _make(self, tenant: Tenant, uri: str) -> Unpacked:
        try:
            name = parse_name(uri)
            connection = connection_to(self._connections, tenant, name.host)
            target = image_folder(self._folder, connection, name.digest or "")
            if not target.is_dir():
                limits = self._limits
                size = fetch_apart(
                    Request(
                        connection, uri, self._architecture, str(self._folder), limits.image_bytes, limits.image_entries
                    )
                )
                _log.info("image unpacked", extra={"image": uri, "bytes": size})
            built = read_note(target).built
        except (ImageError, OSError, msgspec.MsgspecError) as error:
            raise PackageUnavailable(f"image {uri} cannot be had: {error}") from error
        return Unpacked(target / ROOT, None, built)

    async def close(self) -> None:
        """Give up what is under way."""
        await self._made.close()
        self._shelf.close()


def _key(tenant: Tenant, uri: str) -> str:
    """What one account may have, another need not be let to."""
    return f"{tenant.account} {uri}"
