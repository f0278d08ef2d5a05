"""Refuse what the budget does not cover, before it is sent."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping

from .errors import BudgetError, clean
from .ports import Intent
from .settings import Budget

__all__ = ["Purse", "estimate"]


def estimate(intent: Intent, prices: Mapping[str, Mapping[str, float]]) -> float | None:
    """Return what a submit may cost, in credits; None when nobody can say.

    Rounding is not documented; like a reseller's, the clip's seconds are rounded up.
    """
    price = prices.get(intent.model, {}).get(intent.factor or "")
    if price is None:
        return None
    if "video" not in intent.model:
        return price
    return None if intent.seconds is None else price * math.ceil(intent.seconds)


class Purse:
    """One client's budget: estimates are reserved first, so submits at once cannot overrun it.

    Args:
        budget: The bounds.
        balance: Asks for the account's balance, in credits.
    """

    def __init__(self, budget: Budget, balance: Callable[[], Awaitable[float]]) -> None:
        self._budget = budget
        self._balance = balance
        self._lock = asyncio.Lock()
        #: Reserved and spent by this client, in all; and reserved for submits under way.
        self.tasks = 0
        self.credits = 0.0
        self._under_way = 0.0

    async def reserve(self, intent: Intent) -> float:
        """Set the cost of a submit aside and return it, in credits.

        Raises:
            BudgetError: A bound would be broken; nothing is set aside.
        """
        budget, cost = self._budget, estimate(intent, self._budget.prices)
        async with self._lock:
            if budget.max_tasks is not None and self.tasks >= budget.max_tasks:
                raise self._refusal(
                    intent, f"{self.tasks} tasks are submitted and max_tasks is {budget.max_tasks}"
                )
            if cost is None and (budget.max_credits, budget.min_balance) != (None, None):
                raise self._unknown_cost(intent)
            cost = cost or 0.0
            if budget.max_credits is not None and self.credits + cost > budget.max_credits:
                raise self._refusal(
                    intent,
                    f"it may cost {cost:g} credits, {self.credits:g} are spent or reserved, "
                    f"and max_credits is {budget.max_credits:g}",
                )
            if budget.min_balance is not None:
                await self._check_balance(intent, cost, budget.min_balance)
            self.tasks += 1
            self.credits += cost
            self._under_way += cost
        return cost

    async def _check_balance(self, intent: Intent, cost: float, least: float) -> None:
        while True:
            # Of what is under way now, nobody knows whether it is in the balance that is told.
            under_way = self._under_way
            left = await self._balance() - under_way - cost
            if left >= least:
                return
            if self._under_way == under_way:
                raise self._refusal(
                    intent,
                    f"{left:g} credits would be left in the account, and min_balance is {least:g}",
                )

    def spent(self, cost: float) -> None:
        """The submit has left, or may have: what was set aside stays so."""
        self._under_way -= cost

    def release(self, cost: float) -> None:
        """The submit bought nothing: what was set aside is free again."""
        self.tasks -= 1
        self.credits -= cost
        self._under_way -= cost

    def _unknown_cost(self, intent: Intent) -> BudgetError:
        bound = "min_balance" if self._budget.max_credits is None else "max_credits"
        if intent.factor in self._budget.prices.get(intent.model, {}):
            why, hint = " without the length", "Pass seconds=..., the length of the clip."
        else:
            why, hint = f": {clean(intent.model, 80)} has no price", "Pass Budget(prices=...)."
        return self._refusal(
            intent, f"{bound} is set and the cost cannot be estimated{why}", hint=hint
        )

    @staticmethod
    def _refusal(intent: Intent, why: str, hint: str | None = None) -> BudgetError:
        return BudgetError(
            f"The budget refuses the submit: {why}.",
            reference=intent.reference,
            hint=hint or "Raise the Budget, or wait until it is wanted.",
        )
