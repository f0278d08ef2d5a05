"""Timeouts, policies, quotas: every number, its unit, its source."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any

import attrs

from .errors import ConfigurationError
from .texts import quoted

__all__ = ["PRICES", "Budget", "PollPolicy", "Quotas", "RetryPolicy", "Timeouts"]


def _number(low: float, *, above: bool = False, whole: bool = False, optional: bool = False) -> Any:
    """Make a validator: a number of at least (or above) `low`."""

    def check(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
        name = f"{type(instance).__name__}.{attribute.name}"
        if optional and value is None:
            return
        kinds = int if whole else (int, float)
        if isinstance(value, bool) or not isinstance(value, kinds):
            raise ConfigurationError(
                f"{name} must be a {'whole ' if whole else ''}number, not {quoted(value)}."
            )
        if not _is_finite(value) or value < low or (above and value == low):
            word = "above" if above else "at least"
            raise ConfigurationError(
                f"{name} is {quoted(value)}; it must be finite and {word} {low:g}."
            )

    return check


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number that no float can hold
        return False


def _below_one(instance: object, attribute: attrs.Attribute[Any], value: float) -> None:
    if value >= 1:
        raise ConfigurationError(f"PollPolicy.jitter is {value!r}; it must be below 1.")


def _steps(pairs: Iterable[Iterable[float]]) -> tuple[tuple[float, float], ...]:
    try:
        steps = tuple((until + 0.0, pause + 0.0) for until, pause in pairs)
        good = all(until > 0 and 0 < pause < math.inf for until, pause in steps)
    except (TypeError, ValueError, OverflowError):  # no pairs, or not of numbers
        steps, good = (), False
    if not good or any(later[0] <= former[0] for former, later in pairwise(steps)):
        raise ConfigurationError(
            f"PollPolicy.steps is {quoted(pairs, 80)}; it must hold pairs (until, pause) of "
            "seconds above 0, the first numbers rising."
        )
    return steps


def _seconds(default: float) -> Any:
    return attrs.field(default=default, validator=_number(0, above=True))


@attrs.frozen(kw_only=True)
class Timeouts:
    """How long one exchange may take, in seconds; each clock starts when the exchange does."""

    #: Making a connection, name look-up and TLS included.
    connect: float = _seconds(10.0)
    #: One createTask, from the connection's start to the last byte of the answer.  Long, because
    #: an answer that came too late is a task that may be paid and is not known.
    submit: float = _seconds(60.0)
    #: One question: recordInfo, credits, download-url.
    poll: float = _seconds(15.0)
    #: One whole upload.
    upload: float = _seconds(900.0)
    #: One upload that the host fetches from a URL; the host gives itself 30 s.
    #: Source: docs.kie.ai/file-upload-api, read 2026-11-22.
    fetch: float = _seconds(60.0)
    #: One whole download.
    download: float = _seconds(3600.0)
    #: Silence in the middle of an upload or download.
    stall: float = _seconds(60.0)
    #: How long `aclose()` waits for a createTask that is under way.
    close: float = _seconds(5.0)


@attrs.frozen(kw_only=True)
class RetryPolicy:
    """How often one request is sent, and how long the pauses are.

    createTask is sent again only when it is certain that nothing was bought.
    """

    #: Attempts at one request, the first included.
    attempts: int = attrs.field(default=3, validator=_number(1, whole=True))
    #: The first pause, its growth and the longest pause, in seconds.
    first: float = _seconds(0.5)
    growth: float = attrs.field(default=2.0, validator=_number(1))
    longest: float = _seconds(8.0)
    #: The longest `Retry-After` that is believed, in seconds.
    longest_retry_after: float = _seconds(60.0)
    #: Tokens for retries that the whole client shares, in the manner of botocore's retry quota:
    #: a retry takes 5, one after a timeout 10, and success gives them back.
    tokens: int = attrs.field(default=500, validator=_number(0, whole=True))


@attrs.frozen(kw_only=True)
class PollPolicy:
    """When a waiting task is asked for.

    The pauses grow from `first` by `growth` up to `longest` (2 s, 3 s, 4.5 s, then 6 s), each
    spread by `jitter`.  `steps` replaces them by a cadence of its own.
    """

    #: Seconds from the submit to the first look.
    first: float = _seconds(2.0)
    growth: float = attrs.field(default=1.5, validator=_number(1))
    longest: float = _seconds(6.0)
    #: Each pause is multiplied by a random number within 1 - jitter and 1 + jitter.
    jitter: float = attrs.field(default=0.1, validator=[_number(0), _below_one])
    #: Pairs (until, pause): up to so many seconds after the first look the pause is this long;
    #: the last pair holds for ever.  Empty for the growing pauses.
    steps: tuple[tuple[float, float], ...] = attrs.field(default=(), converter=_steps)
    #: Seconds without any successful poll of the whole client, and failures in a row of one
    #: task, that end the wait for it; both must be reached.
    outage: float = _seconds(120.0)
    failures: int = attrs.field(default=5, validator=_number(1, whole=True))
    #: Seconds for which "recordInfo is null" means pending: after our own submit, and after the
    #: task was last seen.
    grace: float = attrs.field(default=30.0, validator=_number(0))
    #: Seconds between looks at a task whose callback is relied on, once callbacks have been seen
    #: to arrive.
    reconcile: float = _seconds(60.0)
    #: Questions under way at once.
    in_flight: int = attrs.field(default=10, validator=_number(1, whole=True))

    @classmethod
    def documented(cls) -> PollPolicy:
        """Return the cadence that the service's documentation recommends.

        Every 2.5 s for the first 30 s, 7.5 s up to two minutes, 22.5 s after that: the middle
        of each documented range.

        Source:
            docs.kie.ai/market/common/get-task-detail, read 2026-11-22.
        """
        return cls(first=2.5, steps=((30.0, 2.5), (120.0, 7.5), (math.inf, 22.5)))


@attrs.frozen(kw_only=True)
class Quotas:
    """What the service allows one account."""

    #: createTask calls in any `submit_window` seconds, as the service sees them arrive; None
    #: switches the limiter off.
    #: Source: docs.kie.ai (getting started), read 2026-11-22: 20 new requests per 10 seconds.
    submits: int | None = attrs.field(default=20, validator=_number(1, whole=True, optional=True))
    submit_window: float = _seconds(10.0)
    #: Questions (recordInfo) in any `poll_window` seconds; None switches the limiter off.
    #: Source: an older docs.kie.ai/market/common/get-task-detail: 10 per second and key; two
    #: are left for other programs.
    polls: int | None = attrs.field(default=8, validator=_number(1, whole=True, optional=True))
    poll_window: float = _seconds(1.0)
    #: Largest local file, in bytes.  10 MB (counted as 10 x 1024 x 1024) is the oldest and
    #: smallest published limit of topaz/video-upscale; pages since 2026-08-19 say 50 MB.
    max_upload_bytes: int = attrs.field(default=10 * 1024 * 1024, validator=_number(1, whole=True))
    #: Seconds for which the host keeps an upload.
    #: Source: docs.kie.ai/file-upload-api, read 2026-11-22: the newest pages say 24 hours, older
    #: ones 3 days.
    upload_life: float = _seconds(24 * 3600.0)
    #: Seconds for which the bytes of a local file are not uploaded again, by this client or by
    #: others with the same journal; 0 uploads them each time.  Half of the shortest life that the
    #: service has published, so that a task which waits still finds its input.
    reuse_uploads: float = attrs.field(default=12 * 3600.0, validator=_number(0))
    #: Seconds for which a result's link lives.
    #: Source: docs.kie.ai/market/common/get-task-detail, read 2026-11-22: usually 24 hours.
    result_life: float = _seconds(24 * 3600.0)
    #: Uploads under way at once.
    uploads: int = attrs.field(default=4, validator=_number(1, whole=True))
    #: Downloads under way at once.
    downloads: int = attrs.field(default=4, validator=_number(1, whole=True))
    #: Largest result, in bytes.
    max_download_bytes: int = attrs.field(default=16 * 1024**3, validator=_number(1, whole=True))

    def __attrs_post_init__(self) -> None:
        if self.reuse_uploads >= self.upload_life:
            raise ConfigurationError(
                f"Quotas.reuse_uploads is {self.reuse_uploads:g} s; it must be below upload_life "
                f"({self.upload_life:g} s)."
            )


#: US dollars for one credit, about.
#: Source: docs.kie.ai/common-api/get-account-credits and the price page, read 2026-11-22.
CREDIT_DOLLARS = 0.005

#: Published prices, in credits: for each second of a video, for each image.  Estimates only;
#: what a task really cost is in its record.  An image costs 10 to 40 by the size of its result,
#: and the most is assumed.
#: Source: the service's model catalog and price lists, read 2026-11-22.
PRICES: Mapping[str, Mapping[str, float]] = {
    "topaz/video-upscale": {"1": 8.0, "2": 8.0, "4": 14.0},
    "topaz/image-upscale": {"1": 40.0, "2": 40.0, "4": 40.0},
}


def _prices(instance: object, attribute: object, value: Any) -> None:
    try:
        prices: list[Any] = [p for table in dict(value).values() for p in dict(table).values()]
        is_fit = all(isinstance(price, (int, float)) and price >= 0 for price in prices)
    except (TypeError, ValueError):
        is_fit = False
    if not is_fit:
        raise ConfigurationError("Budget.prices maps a model to a mapping of factor to credits.")


@attrs.frozen(kw_only=True)
class Budget:
    """What one client may spend over its whole life; None sets no bound.

    A submit that would break a bound is refused before it is sent.
    """

    #: Tasks.
    max_tasks: int | None = attrs.field(
        default=None, validator=_number(0, whole=True, optional=True)
    )
    #: Credits, estimated: the clip's seconds, rounded up, times the published price.  A clip
    #: whose length nobody knows is refused.
    max_credits: float | None = attrs.field(default=None, validator=_number(0, optional=True))
    #: Credits that must be left in the account after the estimated cost; asked before each
    #: submit.  A clip whose length nobody knows is refused.
    min_balance: float | None = attrs.field(default=None, validator=_number(0, optional=True))
    #: Model to factor to price; credits a second for videos, credits each for images.
    prices: Mapping[str, Mapping[str, float]] = attrs.field(
        factory=lambda: PRICES, validator=_prices, repr=False, hash=False
    )
