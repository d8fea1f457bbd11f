"""The Query door: forms, signatures, and answers and errors in XML."""

from __future__ import annotations

from urllib.parse import urlencode
from xml.etree import ElementTree

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from lambent.infra.clock import SystemClock, SystemIds
from lambent.infra.http import HttpRequest, HttpResponse
from lambent.infra.sigv4 import Verifier
from lambent.v1 import identity_service_pb2 as pb
from lambent.v1 import options_pb2
from services.frontend.operations.identity import IdentityOperations
from services.frontend.transport.dispatch import Dispatch, DispatchError, Entry
from services.frontend.transport.query_door import QueryDoor
from tests.unit.doors_support import ACCOUNT, KEY, KEYS, REGION, http_doors, services

SERVICE = pb.DESCRIPTOR.services_by_name["IdentityService"]
SPACE = "{https://sts.amazonaws.com/doc/2011-06-15/}"
ASKED = urlencode({"Action": "GetCallerIdentity", "Version": "2011-06-15"}).encode()


class Bench:
    """The HTTP doors without sockets."""

    def __init__(self) -> None:
        self.door, self.outcomes = http_doors((SERVICE, IdentityOperations()))

    async def send(
        self, body: bytes, *, method: str = "POST", key: str = KEY.id, secret: str = KEY.secret, service: str = "sts"
    ) -> HttpResponse:
        return await self.door.handle(request(body, method, key, secret, service))


def request(body: bytes, method: str, key: str, secret: str, service: str) -> HttpRequest:
    headers = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}
    signed = AWSRequest(method, "http://h/", data=body, headers=headers)
    if key:
        SigV4Auth(Credentials(key, secret), service, REGION).add_auth(signed)
    low = {name.lower().encode(): value.encode() for name, value in signed.headers.items()}
    return HttpRequest(method, b"/", b"", {**low, b"host": b"h"}, body)


def error(response: HttpResponse) -> tuple[int, str, str]:
    """Status, code, and who is at fault."""
    assert dict(response.headers)[b"Content-Type"] == b"text/xml"
    root = ElementTree.fromstring(response.body)
    found = {each.tag.rpartition("}")[2]: each.text or "" for each in root.iter()}
    assert found["RequestId"].encode() == dict(response.headers)[b"x-amzn-RequestId"]
    assert found["Message"]
    return response.status, found["Code"], found["Type"]


async def test_a_form_goes_in_and_xml_comes_out() -> None:
    bench = Bench()
    answer = await bench.send(ASKED)
    root = ElementTree.fromstring(answer.body)
    assert (answer.status, root.tag) == (200, f"{SPACE}GetCallerIdentityResponse")
    result = {each.tag.removeprefix(SPACE): each.text for each in root[0]}
    assert result == {"UserId": KEY.principal.access_key_id, "Account": ACCOUNT, "Arn": KEY.principal.arn}
    assert (
        root.findtext(f"{SPACE}ResponseMetadata/{SPACE}RequestId") == dict(answer.headers)[b"x-amzn-RequestId"].decode()
    )
    assert bench.outcomes == [("GetCallerIdentity", "OK")]


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        ({"secret": "wrong"}, (403, "SignatureDoesNotMatch", "Sender")),
        ({"key": "AKIDNOBODY"}, (403, "InvalidClientTokenId", "Sender")),
        ({"key": ""}, (403, "MissingAuthenticationToken", "Sender")),
        ({"service": "lambda"}, (403, "SignatureDoesNotMatch", "Sender")),
        ({"method": "PUT"}, (400, "InvalidAction", "Sender")),
    ],
)
async def test_who_cannot_prove_who_they_are_is_told_in_xml(sent: dict[str, str], told: tuple[int, str, str]) -> None:
    bench = Bench()
    assert error(await bench.send(ASKED, **sent)) == told
    assert len(bench.outcomes) == 1


@pytest.mark.parametrize(
    "body",
    [
        b"", b"Action=GetCallerIdentity", b"Version=2011-06-15", b"Action=AssumeRole&Version=2011-06-15", b"\xff=\xfe",
        b"Action=GetCallerIdentity&Version=2011-06-16", b"&".join([b"a=b"] * 1000), b"<xml/>", b"%", b"Action=%00",
    ],
)  # fmt: skip
async def test_a_form_that_names_no_operation_is_refused(body: bytes) -> None:
    assert error(await Bench().send(body)) == (400, "InvalidAction", "Sender")


async def test_what_is_no_form_is_of_the_other_door() -> None:
    asked = request(ASKED, "POST", KEY.id, KEY.secret, "sts")
    asked.headers = {**asked.headers, b"content-type": b"text/plain"}
    answer = await Bench().door.handle(asked)
    assert dict(answer.headers)[b"Content-Type"] == b"application/x-amz-json-1.1"


def test_large_forms_are_refused_by_their_size() -> None:
    bench = Bench()
    head = request(b"", "POST", KEY.id, KEY.secret, "sts")
    assert bench.door.unwelcome(head) is None
    assert error(bench.door.too_large(head, bench.door.body_limit(head) + 1))[0] == 413


def test_members_that_a_form_cannot_have_here_are_found_when_the_door_is_made() -> None:
    clock, ids = SystemClock(), SystemIds()
    dispatch = Dispatch(services(), clock=clock)

    class Careless(QueryDoor):
        def _name(self, entry: Entry, rule: options_pb2.ServiceRule) -> bytes | None:
            return super()._name(entry, options_pb2.ServiceRule(query_version="2011-06-15"))

    with pytest.raises(DispatchError, match="other than texts"):
        Careless(dispatch, lambda _: Verifier(KEYS, skew_seconds=1, presigned_max_seconds=1), clock=clock, ids=ids)
