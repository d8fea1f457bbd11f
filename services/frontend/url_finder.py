"""Finds the function behind an address: the index says whose it is or was, the function whether it still is."""

from __future__ import annotations

from collections import OrderedDict

from lambent.domain.function_urls import UrlPlace
from lambent.domain.names import LATEST
from lambent.infra.functions.directory import FunctionDirectory
from lambent.infra.functions.port import FunctionStore, UrlIndex
from services.frontend.transport.url_door import Found

# Places that are remembered; an address never has another one.
_REMEMBERED = 10_000


class UrlFinder:
    """A `Finder` over index, directory and store."""

    def __init__(self, index: UrlIndex, directory: FunctionDirectory, store: FunctionStore) -> None:
        self._index = index
        self._directory = directory
        self._store = store
        self._places: OrderedDict[str, UrlPlace] = OrderedDict()

    async def find(self, id_: str) -> Found | None:
        place = self._places.get(id_)
        if place is None:
            place = await self._index.find(id_)
            if place is None:
                return None
            self._places[id_] = place
            if len(self._places) > _REMEMBERED:
                self._places.popitem(last=False)
        known = await self._directory.find(place.tenant, place.name, place.alias)
        if known is not None and known.url is not None and known.url.id == id_:
            return Found(place, known.url, known.policy)
        # What is known here may be older than the address.
        scope = place.alias or LATEST
        function = await self._store.find(place.tenant, place.name, scope)
        url = None if function is None else function.urls.get(scope)
        if function is None or url is None or url.id != id_:
            self._places.pop(id_, None)
            await self._index.forget(id_)
            return None
        return Found(place, url, function.policies.get(scope))
