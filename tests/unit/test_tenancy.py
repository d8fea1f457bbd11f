"""What runs for one tenant of a function's callers."""

from __future__ import annotations

import pytest

from lambent.domain.errors import AwsError
from lambent.domain.names import Tenant
from lambent.domain.tenancy import MISSING, UNWANTED
from lambent.infra.invoker.invoker import Target
from lambent.internal.v1.deployment_pb2 import Deployment

TENANT = Tenant("000000000000", "us-east-1")


def target(*, isolated: bool) -> Target:
    whole = Deployment(deployment_id="d1", function_name="f", memory_mb=256, variables={"A": "1"})
    return Target(TENANT, "f", "$LATEST", "d1", 7, 256, whole.SerializeToString(), isolated=isolated)


def test_each_tenant_has_a_deployment_of_its_own() -> None:
    found = {tenant_id: target(isolated=True).of_tenant(tenant_id) for tenant_id in ("blue", "green", "a b")}
    assert len({each.deployment_id for each in found.values()} | {"d1"}) == 4
    for tenant_id, each in found.items():
        told = Deployment.FromString(each.deployment)
        assert (told.deployment_id, told.tenant_id) == (each.deployment_id, tenant_id)
        assert (told.function_name, told.memory_mb, dict(told.variables)) == ("f", 256, {"A": "1"})
        assert each.need().deployment_id == each.deployment_id
        assert (each.generation, each.mark) == (7, target(isolated=True).mark), "changes of the function are its own"


@pytest.mark.parametrize(("isolated", "tenant_id", "says"), [(True, None, MISSING), (False, "blue", UNWANTED)])
def test_a_tenant_is_named_where_it_counts_and_nowhere_else(isolated: bool, tenant_id: str | None, says: str) -> None:
    with pytest.raises(AwsError) as refused:
        target(isolated=isolated).of_tenant(tenant_id)
    assert (refused.value.name, refused.value.message) == ("InvalidParameterValueException", says)
    plain = target(isolated=False)
    assert plain.of_tenant(None) is plain
