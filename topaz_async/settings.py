"""Timeouts, policies, quotas: every number, its unit, its source."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import attrs

from .errors import ConfigurationError

__all__ = ["PollPolicy", "Quotas", "RetryPolicy", "Timeouts"]


def _number(low: float, *, above: bool = False, whole: bool = False, optional: bool = False) -> Any:
    """Make a validator: a number of at least (or above) `low`."""

    def check(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
        name = f"{type(instance).__name__}.{attribute.name}"
        if optional and value is None:
            return
        kinds = int if whole else (int, float)
        if isinstance(value, bool) or not isinstance(value, kinds):
            raise ConfigurationError(
                f"{name} must be a {'whole ' if whole else ''}number, not {value!r:.40}."
            )
        if not math.isfinite(value) or value < low or (above and value == low):
            word = "above" if above else "at least"
            raise ConfigurationError(f"{name} is {value!r:.40}; it must be {word} {low:g}.")

    return check


def _below_one(instance: object, attribute: attrs.Attribute[Any], value: float) -> None:
    if value >= 1:
        raise ConfigurationError(f"PollPolicy.jitter is {value!r}; it must be below 1.")


def _as_tuple(pairs: Iterable[Iterable[float]]) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(pair) for pair in pairs)


def _pairs(
    instance: object, attribute: attrs.Attribute[Any], value: tuple[tuple[float, ...], ...]
) -> None:
    for pair in value:
        if len(pair) != 2 or not (pair[0] > 0 and 0 < pair[1] < math.inf):
            raise ConfigurationError(
                "PollPolicy.steps holds pairs (until, pause) of seconds above 0."
            )


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
    steps: tuple[tuple[float, ...], ...] = attrs.field(
        default=(), converter=_as_tuple, validator=_pairs
    )
    #: Seconds without any successful poll of the whole client, and failures in a row of one
    #: task, that end the wait for it; both must be reached.
    outage: float = _seconds(120.0)
    failures: int = attrs.field(default=5, validator=_number(1, whole=True))
    #: Seconds for which "recordInfo is null" means pending: after our own submit, and after the
    #: task was last seen.
    grace: float = attrs.field(default=30.0, validator=_number(0))
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
    #: Uploads under way at once.
    uploads: int = attrs.field(default=4, validator=_number(1, whole=True))
    #: Downloads under way at once.
    downloads: int = attrs.field(default=4, validator=_number(1, whole=True))
    #: Largest result, in bytes.
    max_download_bytes: int = attrs.field(default=16 * 1024**3, validator=_number(1, whole=True))
