"""What a task costs, and what is left on the account."""

from __future__ import annotations

import math
from typing import Final

from .engine import MediaInfo

VIDEO_MODEL: Final = "topaz/video-upscale"
IMAGE_MODEL: Final = "topaz/image-upscale"

#: Credits per second of video (catalog of 2026-10; price lists agree).
VIDEO_PRICES: Final = {1: 8.0, 2: 8.0, 4: 14.0}
#: Credits per image by the longest side of the result: up to 2K, 4K, and above.
IMAGE_PRICES: Final = ((2048, 10.0), (4096, 20.0))
IMAGE_PRICE_ABOVE: Final = 40.0
#: Sound is padded to whole frames of its codec; that much overhang is not a further second.
SLACK_SECONDS: Final = 0.05


def price(model: str, factor: int, info: MediaInfo) -> float:
    """Return the credits of one task.

    The service does not document its rounding. We round the length up to whole seconds, as a
    reseller does, and charge one second at least.
    """
    if model == IMAGE_MODEL:
        side = max(info.width, info.height) * factor
        return next((cost for limit, cost in IMAGE_PRICES if side <= limit), IMAGE_PRICE_ABOVE)
    return VIDEO_PRICES[factor] * max(1, math.ceil(info.seconds - SLACK_SECONDS))


def least_price(model: str, factor: int) -> float:
    """Return what a task costs at least, before its input was seen."""
    return IMAGE_PRICES[0][1] if model == IMAGE_MODEL else VIDEO_PRICES[factor]


class Account:
    """Credits: held while a task runs, kept on success, returned on failure."""

    def __init__(self, balance: float) -> None:
        self.left = float(balance)

    def hold(self, amount: float) -> bool:
        """Take ``amount`` off the balance, if it is there."""
        if amount > self.left:
            return False
        self.left = round(self.left - amount, 4)
        return True

    def give_back(self, amount: float) -> None:
        """Return what was held."""
        self.left = round(self.left + amount, 4)
