"""FunctionUrlService: addresses at which functions and aliases answer HTTP. What is done at one, transport/url_door.py
does."""

from __future__ import annotations

from lambent.domain import function_urls, tenancy
from lambent.domain.clock import Clock, Ids
from lambent.domain.concurrency import ConcurrencyState
from lambent.domain.errors import invalid_parameter
from lambent.domain.function_urls import BUFFERED, ID_LENGTH, Cors, FunctionUrl, UrlPlace
from lambent.domain.functions import Function
from lambent.domain.limits import Limits
from lambent.domain.names import LATEST, FunctionRef, alias_not_found, is_version, parse
from lambent.infra.functions.port import NOBODY, Edit, FunctionStore, UrlIndex
from lambent.v1 import function_url_service_pb2 as pb
from services.frontend.operations import paging
from services.frontend.operations.editing import Decision, Editor
from services.frontend.operations.timestamps import written
from services.frontend.transport.call import Call

_Change = pb.CreateFunctionUrlConfigRequest | pb.UpdateFunctionUrlConfigRequest
_Request = _Change | pb.GetFunctionUrlConfigRequest | pb.DeleteFunctionUrlConfigRequest


class FunctionUrlOperations:
    """The operations of lambent.v1.FunctionUrlService."""

    def __init__(
        self, *, store: FunctionStore, index: UrlIndex, editor: Editor, base: str, limits: Limits, clock: Clock,
        ids: Ids,
    ) -> None:  # fmt: skip
        """`base`: SCHEME://DOMAIN, below which addresses are."""
        self._store = store
        self._index = index
        self._editor = editor
        self._base = base
        self._limits = limits
        self._clock = clock
        self._ids = ids

    async def create_function_url_config(
        self, request: pb.CreateFunctionUrlConfigRequest, call: Call
    ) -> pb.CreateFunctionUrlConfigResponse:
        """A new address."""
        ref, now = _ref(request, call), self._clock.epoch()
        # Nobody can have guessed an id before it is told (its 32 digits are drawn).
        id_ = self._ids.token(ID_LENGTH // 2)
        url = FunctionUrl(id_, request.auth_type, request.invoke_mode or BUFFERED, _cors(request) or None, now, now)

        def decide(function: Function, settings: ConcurrencyState) -> Edit:
            if not function.stands_for(_scope(ref)):
                raise alias_not_found(ref)
            if function.record.configuration.isolated:
                raise tenancy.unsupported("A function URL")
            if _scope(ref) in function.urls:
                raise function_urls.exists(ref)
            return Edit(ref.tenant, ref.name, NOBODY, urls={_scope(ref): url}, settings=settings)

        function = await self._store.find(ref.tenant, ref.name, _scope(ref))
        if function is None:
            raise function_urls.no_function()
        decide(function, ConcurrencyState())  # what will be refused leaves nothing in the index
        await self._index.note(id_, UrlPlace(ref.tenant, ref.name, ref.qualifier))
        await self._editor.edit(ref, decide)
        made = self._message(ref, url)
        return pb.CreateFunctionUrlConfigResponse(
            function_url=made.function_url,
            function_arn=made.function_arn,
            auth_type=made.auth_type,
            cors=made.cors if made.HasField("cors") else None,
            creation_time=made.creation_time,
            invoke_mode=made.invoke_mode,
        )

    async def get_function_url_config(
        self, request: pb.GetFunctionUrlConfigRequest, call: Call
    ) -> pb.FunctionUrlConfig:
        """What is set."""
        ref = _ref(request, call)
        function = await self._store.find(ref.tenant, ref.name, _scope(ref))
        url = None if function is None else function.urls.get(_scope(ref))
        if url is None:
            raise function_urls.nothing_set()
        return self._message(ref, url)

    async def update_function_url_config(
        self, request: pb.UpdateFunctionUrlConfigRequest, call: Call
    ) -> pb.FunctionUrlConfig:
        """Changes the members that are sent."""
        ref, now = _ref(request, call), self._clock.epoch()
        answer: list[FunctionUrl] = []

        def decide(function: Function, settings: ConcurrencyState) -> Edit:
            before = function.urls.get(_scope(ref))
            if before is None:
                raise function_urls.nothing_set()
            auth_type = request.auth_type if request.HasField("auth_type") else None
            invoke_mode = request.invoke_mode if request.HasField("invoke_mode") else None
            answer[:] = [before.changed(auth_type, invoke_mode, _cors(request), now)]
            return Edit(ref.tenant, ref.name, NOBODY, urls={_scope(ref): answer[0]}, settings=settings)

        await self._edit(ref, decide)
        return self._message(ref, answer[0])

    async def delete_function_url_config(
        self, request: pb.DeleteFunctionUrlConfigRequest, call: Call
    ) -> pb.DeleteFunctionUrlConfigResponse:
        """Takes the address away."""
        ref = _ref(request, call)
        gone: list[str] = []

        def decide(function: Function, settings: ConcurrencyState) -> Edit:
            before = function.urls.get(_scope(ref))
            if before is None:
                raise function_urls.nothing_set()
            gone[:] = [before.id]
            return Edit(ref.tenant, ref.name, NOBODY, urls={_scope(ref): None}, settings=settings)

        await self._edit(ref, decide)
        await self._index.forget(gone[0])
        return pb.DeleteFunctionUrlConfigResponse()

    async def list_function_url_configs(
        self, request: pb.ListFunctionUrlConfigsRequest, call: Call
    ) -> pb.ListFunctionUrlConfigsResponse:
        """One page, the function's own address first. Markers carry the last qualifier of the page before."""
        ref = parse(request.function_name, None, call.tenant)
        function = await self._store.read(ref.tenant, ref.name)
        if function is None:
            raise function_urls.no_function()
        after = paging.marker_after(request) if request.HasField("marker") else ""
        found, marker = paging.page(
            (qualifier for qualifier in sorted(function.urls) if qualifier > after),
            lambda qualifier: qualifier,
            paging.page_size(request, self._limits),
        )
        messages = []
        for qualifier in found:
            named = FunctionRef(ref.tenant, ref.name, None if qualifier == LATEST else qualifier)
            messages.append(self._message(named, function.urls[qualifier]))
        return pb.ListFunctionUrlConfigsResponse(next_marker=marker, function_url_configs=messages)

    async def _edit(self, ref: FunctionRef, decide: Decision) -> None:
        """As `Editor.edit`; a function that is not there has no address either."""
        if await self._store.get(ref.tenant, ref.name) is None:
            raise function_urls.nothing_set()
        await self._editor.edit(ref, decide)

    def _message(self, ref: FunctionRef, url: FunctionUrl) -> pb.FunctionUrlConfig:
        message = pb.FunctionUrlConfig(
            function_url=function_urls.address(self._base, url.id, ref.tenant.region),
            function_arn=ref.arn,
            auth_type=url.auth_type,
            creation_time=written(url.created),
            last_modified_time=written(url.modified),
            invoke_mode=url.invoke_mode,
        )
        if url.cors is not None:
            message.cors.CopyFrom(_cors_message(url.cors))
        return message


def _ref(request: _Request, call: Call) -> FunctionRef:
    """The function or alias that a request is about."""
    ref = parse(request.function_name, request.qualifier if request.HasField("qualifier") else None, call.tenant)
    if ref.qualifier is not None and (ref.qualifier == LATEST or is_version(ref.qualifier)):
        raise invalid_parameter(f"A function URL is of a function or an alias; {ref.qualifier} is neither.")
    return ref


def _scope(ref: FunctionRef) -> str:
    """Under which name the address is kept."""
    return ref.qualifier or LATEST


def _cors(request: _Change) -> Cors | None:
    """What a request says of other sites; None: nothing. Raises ValidationException."""
    if not request.HasField("cors"):
        return None
    cors = request.cors
    return function_urls.checked(
        Cors(
            cors.allow_credentials if cors.HasField("allow_credentials") else None,
            tuple(cors.allow_headers),
            tuple(cors.allow_methods),
            tuple(cors.allow_origins),
            tuple(cors.expose_headers),
            cors.max_age if cors.HasField("max_age") else None,
        )
    )


def _cors_message(cors: Cors) -> pb.Cors:
    return pb.Cors(
        allow_credentials=cors.allow_credentials,
        allow_headers=cors.allow_headers,
        allow_methods=cors.allow_methods,
        allow_origins=cors.allow_origins,
        expose_headers=cors.expose_headers,
        max_age=cors.max_age,
    )
