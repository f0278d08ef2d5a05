"""Upscale clips until the money is used up: `python budget.py CREDITS CLIP...`."""

import asyncio
import sys

from topaz_async import Budget, BudgetError, TopazClient, TopazError


async def main(most: float, clips: list[str]) -> None:
    spent = 0.0
    budget = Budget(max_credits=most, min_balance=100)  # and leave 100 in the account
    async with TopazClient(budget=budget, journal="topaz.sqlite") as topaz:
        print(f"The account holds {await topaz.credits():g} credits.")
        for clip in clips:
            try:
                result = await topaz.upscale(clip, factor=4, output="upscaled/", reference=clip)
            except BudgetError as error:  # nothing was sent
                print(f"{clip}: {error}")
            except TopazError as error:
                print(f"{clip}: {error}")
                if error.billed != "no":
                    print("  Look at the account before you go on.")
            else:
                spent += result.credits_consumed or 0.0
                print(f"{clip}: {result.path}")
        print(f"{spent:g} credits were spent.")


if __name__ == "__main__":
    asyncio.run(main(float(sys.argv[1]), sys.argv[2:]))
