"""How long to pause between two attempts, and how many a whole client may spend."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import backoff

from .errors import RequestTimeoutError, TopazError
from .settings import RetryPolicy

__all__ = ["RetryTokens", "asked_pause", "pauses", "retry_after"]


class RetryTokens:
    """The retries that a whole client may spend, in the manner of botocore's retry quota.

    In an outage the tokens run out and every call is sent once; each success brings some back.
    """

    _RETRY, _AFTER_TIMEOUT, _SUCCESS = 5, 10, 1

    def __init__(self, tokens: int) -> None:
        self._most = self._left = tokens

    def spend(self, after: TopazError) -> int | None:
        """Take the tokens for one retry; None when there are too few."""
        price = self._AFTER_TIMEOUT if isinstance(after, RequestTimeoutError) else self._RETRY
        if self._left < price:
            return None
        self._left -= price
        return price

    def give_back(self, spent: int = 0) -> None:
        """A success returns what its retries took, and a little at least."""
        self._left = min(self._most, self._left + max(spent, self._SUCCESS))


def pauses(policy: RetryPolicy) -> Callable[[], float]:
    """Return a function that gives the next pause between two attempts, in seconds.

    Between half of the growing pause and the whole of it, so that clients spread and none comes
    back at once.
    """
    waits = backoff.expo(base=policy.growth, factor=policy.first, max_value=policy.longest)
    next(waits)  # backoff's generators say nothing at first
    return lambda: next(waits) * random.uniform(0.5, 1.0)  # noqa: S311  # spreads, hides nothing


def asked_pause(failure: TopazError, policy: RetryPolicy, default: float = 0.0) -> float:
    """Return the seconds that the service asked to wait, within reason; else the default."""
    asked = getattr(failure, "retry_after", None)
    return min(asked, policy.longest_retry_after) if asked is not None else default


def retry_after(headers: Mapping[str, str], received_at: datetime) -> float | None:
    """Return the seconds that `Retry-After` asks for; None when it is missing or no sense.

    A date counts from the answer's own `Date`, where there is one: this machine's clock may be
    wrong.

    Args:
        headers: Of the answer, under names in lower case or whatever their case.
        received_at: When it came, by this machine's clock.
    """
    value = headers.get("retry-after", "").strip()
    if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", value):
        return float(value)
    until, since = _date(value), _date(headers.get("date", ""))
    if until is None:
        return None
    return max(0.0, (until - (since or received_at)).total_seconds())


def _date(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text)
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
