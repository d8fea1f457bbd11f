"""AWS's Query protocol: POST / with a form that has `Action`, `Version` and the members; answers are XML.

What is served has members that are texts, and nothing within others. Errors are told under the names that services of
this protocol have for them.
Source: https://docs.aws.amazon.com/STS/latest/APIReference/CommonErrors.html
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

from google.protobuf.descriptor import FieldDescriptor

from lambent.domain.errors import AwsError
from lambent.infra.http_messages import RETRY_AFTER, HttpRequest, HttpResponse
from lambent.v1 import options_pb2
from services.frontend.transport.call import Door
from services.frontend.transport.dispatch import DispatchError, Entry
from services.frontend.transport.named_door import NamedDoor, Target

_CONTENT_TYPE = (b"Content-Type", b"text/xml")
# Most members of one form.
_MEMBERS = 100
# What this protocol calls errors, and their status; of others, as on the other doors.
CODES: Mapping[str, tuple[str, int]] = {
    "InvalidSignatureException": ("SignatureDoesNotMatch", 403),
    "UnrecognizedClientException": ("InvalidClientTokenId", 403),
    "MissingAuthenticationTokenException": ("MissingAuthenticationToken", 403),
    "IncompleteSignatureException": ("IncompleteSignature", 400),
    "ExpiredTokenException": ("ExpiredToken", 400),
    "AccessDeniedException": ("AccessDenied", 403),
    "UnknownOperationException": ("InvalidAction", 400),
    "ValidationException": ("ValidationError", 400),
    "ServiceException": ("InternalFailure", 500),
    "ServiceUnavailableException": ("ServiceUnavailable", 503),
}


class QueryDoor(NamedDoor):
    """Serves the services that have a query version."""

    door: Door = "query"
    body_bytes = 16 * 1024

    def unwelcome(self, head: HttpRequest) -> HttpResponse | None:
        return None  # only the body names the operation, and one that is large is not read

    def _name(self, entry: Entry, rule: options_pb2.ServiceRule) -> bytes | None:
        if not rule.query_version:
            return None
        fields = [*entry.request_class.DESCRIPTOR.fields, *entry.response_class.DESCRIPTOR.fields]
        if any(field.is_repeated or field.type != FieldDescriptor.TYPE_STRING for field in fields):
            raise DispatchError(f"{entry.full_name}: members other than texts are not read by the Query protocol here")
        return f"{rule.query_version}.{entry.name}".encode()

    def _named(self, request: HttpRequest) -> bytes | None:
        form = _form(request.body)
        return f"{form.get('Version', '')}.{form.get('Action', '')}".encode()

    def _read(self, target: Target, request: HttpRequest) -> Any:
        form = _form(request.body)
        fields = {field.json_name: field.name for field in target.entry.request_class.DESCRIPTOR.fields}
        return target.entry.request_class(**{fields[name]: form[name] for name in fields.keys() & form.keys()})

    def _answer(self, target: Target, message: Any, request_id: str) -> HttpResponse:
        name = target.entry.name
        members = "".join(_element(field.json_name, value) for field, value in message.ListFields())
        text = (
            f'<{name}Response xmlns="{target.service.query_namespace}"><{name}Result>{members}</{name}Result>'
            f"<ResponseMetadata>{_element('RequestId', request_id)}</ResponseMetadata></{name}Response>"
        )
        return _response(200, text, request_id)

    def _error(self, error: AwsError, request_id: str, target: Target | None) -> HttpResponse:
        code, status = CODES.get(error.name, (error.name, error.row.status))
        space = f' xmlns="{target.service.query_namespace}"' if target is not None else ""
        told = (
            _element("Type", "Sender" if status < 500 else "Receiver")
            + _element("Code", code)
            + _element("Message", error.message)
        )
        text = f"<ErrorResponse{space}><Error>{told}</Error>{_element('RequestId', request_id)}</ErrorResponse>"
        response = _response(status, text, request_id)
        if status == 503:
            response.headers.append(RETRY_AFTER)
        return response


def _form(body: bytes) -> dict[str, str]:
    """What a form says. One that says nothing that can be read says nothing."""
    try:
        return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=_MEMBERS))
    except ValueError:  # not UTF-8, or too many members
        return {}


def _element(name: str, text: str) -> str:
    return f"<{name}>{escape(text)}</{name}>"


def _response(status: int, text: str, request_id: str) -> HttpResponse:
    return HttpResponse(status, [_CONTENT_TYPE, (b"x-amzn-RequestId", request_id.encode())], text.encode())
