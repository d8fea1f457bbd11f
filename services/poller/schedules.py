"""Acts on the schedules of EventBridge's rules: claims rules that are due, tells their targets, and notes when they are
due next.

A poller that is lost in between leaves a claim that ends; the next one tells targets the same again, and nobody is told
twice: what is queued for a function has the same id and token.
"""

from __future__ import annotations

import logging

from lambent.domain import rules
from lambent.domain.errors import AwsError
from lambent.infra.rules.port import Claim, DueRules, RuleStore
from lambent.infra.rules.telling import RuleTargets, scheduled
from lambent.infra.tasks import TaskOwner, every

_log = logging.getLogger(__name__)

# How often it is looked at what is due, for how many rules at a time, and for how long they are claimed.
LOOK_SECONDS, LOOK_RULES, CLAIM_SECONDS = 1.0, 100, 30.0


class Schedules:
    """Those of all tenants, as far as this poller comes to claim them."""

    def __init__(self, store: RuleStore, due: DueRules, targets: RuleTargets) -> None:
        self._store = store
        self._due = due
        self._targets = targets
        self._tasks = TaskOwner("schedules")

    def start(self) -> None:
        """Begin to look."""
        self._tasks.start("look", every(LOOK_SECONDS, self._look, "schedules cannot be looked at"))

    async def stop(self) -> None:
        """Look no more. What is claimed is left to others."""
        await self._tasks.close()

    async def _look(self) -> None:
        try:
            while await self.act():
                pass
        except AwsError:
            raise
        except Exception:
            # A defect must not end it for all other rules.
            _log.exception("acting on schedules failed")

    async def act(self) -> int:
        """Act on what is due now; answers how many rules there were to look at. Raises ServiceUnavailableException."""
        claims = await self._due.claim(self._targets.now(), CLAIM_SECONDS, LOOK_RULES)
        for claim in claims:
            try:
                await self._act(claim)
            except AwsError:
                raise
            except Exception:
                _log.exception("acting on a schedule failed", extra={"rule": claim.name})
        return len(claims)

    async def _act(self, claim: Claim) -> None:
        rule = await self._store.get(claim.tenant, claim.name)
        now = self._targets.now()
        taken = None if rule is None else rules.turn(rule, now)
        if rule is None or taken is None:
            await self._due.settle(claim, None if rule is None else rule.due)
            return
        await self._targets.tell([(rule, scheduled(rule, taken.at))], once=True)
        after = rules.acted(rule, taken)
        # Where somebody has changed it, it is looked at again at once; nobody is told twice.
        done = await self._store.replace(rule, after, 0, claimed=True) == "done"
        await self._due.settle(claim, after.due if done else now)
