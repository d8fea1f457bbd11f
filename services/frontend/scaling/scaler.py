"""Carries out what Application Auto Scaling decides: moves a capacity, and notes what came of it as an activity."""

from __future__ import annotations

from lambent.domain.clock import Clock, Ids
from lambent.domain.errors import AwsError
from lambent.domain.limits import Limits
from lambent.domain.names import FunctionRef, Tenant
from lambent.domain.scaling import Activity, NotScaled, Resource, Target, fire
from lambent.infra.functions.port import FunctionStore
from lambent.infra.tasks import TaskOwner
from lambent.internal.v1 import lease_service_pb2 as pb
from services.frontend.operations.provisioner import Provisioner
from services.frontend.scaling.port import ScalingStore
from services.frontend.scaling.settings import ScalingSettings, ScalingStream


class Scaler:
    """Between the scheduler's orders, the targets' bounds and provisioned concurrency."""

    def __init__(
        self,
        *,
        functions: FunctionStore,
        store: ScalingStore,
        settings: ScalingSettings,
        provisioner: Provisioner,
        stream: ScalingStream,
        limits: Limits,
        clock: Clock,
        ids: Ids,
    ) -> None:
        self._functions = functions
        self._store = store
        self._settings = settings
        self._provisioner = provisioner
        self._stream = stream
        self._limits = limits
        self._clock = clock
        self._ids = ids
        self._orders = TaskOwner("scaling")
        stream.on_order(self.take)

    async def close(self) -> None:
        """End what is being carried out; the scheduler gives it to another."""
        await self._orders.close()

    def take(self, order: pb.ScalingOrder) -> None:
        """Carry an order out, and answer it."""
        self._orders.start(f"order {order.order_id}", self._carry_out(order))

    async def _carry_out(self, order: pb.ScalingOrder) -> None:
        tenant = Tenant(order.account, order.region)
        resource = Resource(order.function_name, order.qualifier)
        try:
            match order.WhichOneof("order"):
                case "capacity":
                    done = await self._set(tenant, resource, order.capacity, order.cause, order.order_id)
                case "action":
                    await self._run(tenant, resource, order)
                    done = True
                case _:
                    await self._note(tenant, resource, order)
                    done = True
        except AwsError:
            done = False
        self._stream.send_outcome(pb.ScalingOutcome(order_id=order.order_id, done=done))

    async def keep_within(self, tenant: Tenant, resource: Resource, target: Target) -> None:
        """Move a capacity into the bounds of its target; nothing happens to what does not exist."""
        function = await self._functions.find(tenant, resource.function_name, resource.qualifier)
        if function is None or not function.stands_for(resource.qualifier):
            return
        current = await self._capacity(tenant, resource)
        wanted = target.within(current)
        if wanted != current:
            bound = "minimum" if wanted > current else "maximum"
            cause = f"{bound} capacity was set to {wanted}"
            await self._set(tenant, resource, wanted, cause, self._ids.uuid())

    async def _run(self, tenant: Tenant, resource: Resource, order: pb.ScalingOrder) -> None:
        """A scheduled action: new bounds, and the capacity within them."""
        name, due = order.action.name, order.action.due
        started = self._clock.epoch()
        before, after = await self._settings.edit(tenant, lambda state: fire(state, resource, name, due))
        target = after.targets.get(resource.id)
        if target is None:
            return
        if after is not before:
            bounds = f"min capacity to {target.minimum} and max capacity to {target.maximum}"
            await self._add(
                tenant,
                resource,
                order.order_id,
                f"Setting {bounds}",
                order.cause,
                started,
                f"Successfully set {bounds}",
            )
        await self.keep_within(tenant, resource, target)

    async def _note(self, tenant: Tenant, resource: Resource, order: pb.ScalingOrder) -> None:
        not_scaled = NotScaled(order.not_scaled, await self._capacity(tenant, resource))
        await self._add(
            tenant, resource, order.order_id, "Attempting to scale due to alarm triggered", order.cause,
            self._clock.epoch(), "", failed=True, not_scaled=not_scaled,
        )  # fmt: skip

    async def _set(self, tenant: Tenant, resource: Resource, capacity: int, cause: str, activity_id: str) -> bool:
        """Provision `capacity`, and note how that went. None is the same as no configuration."""
        ref, started = FunctionRef(tenant, resource.function_name, None), self._clock.epoch()
        aim = f"set desired concurrency to {capacity}"
        message, done = f"Successfully {aim}. Change successfully fulfilled by lambda.", True
        try:
            if capacity:
                await self._provisioner.put(ref, resource.qualifier, capacity)
            else:
                await self._provisioner.delete(ref, resource.qualifier)
        except AwsError as error:
            message, done = f"Failed to {aim}. Reason: {error.message}", False
        description = f"Setting desired concurrency to {capacity}."
        await self._add(tenant, resource, activity_id, description, cause, started, message, failed=not done)
        return done

    async def _capacity(self, tenant: Tenant, resource: Resource) -> int:
        configuration = (await self._functions.settings(tenant)).of(resource.function_name).get(resource.qualifier)
        return 0 if configuration is None else configuration.executions

    async def _add(
        self,
        tenant: Tenant,
        resource: Resource,
        id: str,
        description: str,
        cause: str,
        started: float,
        message: str,
        *,
        failed: bool = False,
        not_scaled: NotScaled | None = None,
    ) -> None:
        activity = Activity(
            id, resource.id, description, cause, started, self._clock.epoch(), "Failed" if failed else "Successful",
            message, not_scaled,
        )  # fmt: skip
        await self._store.add_activity(tenant, activity, self._limits.scaling_activities)
