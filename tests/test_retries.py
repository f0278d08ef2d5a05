"""How long to pause between two attempts, and how many a client may spend."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings, strategies as st

from topaz_async.errors import (
    MaintenanceError,
    RateLimitError,
    RequestTimeoutError,
    ServerError,
    TopazError,
    TransportError,
)
from topaz_async.retries import RetryTokens, asked_pause, pauses
from topaz_async.settings import RetryPolicy

BROKEN, LATE = TransportError("broke"), RequestTimeoutError("late")


def test_a_retry_takes_5_and_one_after_a_timeout_10() -> None:
    """Until there are too few; then every call is sent once."""
    tokens = RetryTokens(27)
    assert [tokens.spend(error) for error in (BROKEN, LATE, LATE, BROKEN, BROKEN, BROKEN)] == [
        5,
        10,
        10,
        None,
        None,
        None,
    ]


def test_success_gives_back_what_its_retries_took() -> None:
    """And one token at least, never more than there were."""
    tokens = RetryTokens(10)
    assert tokens.spend(LATE) == 10
    tokens.give_back(10)
    tokens.give_back()
    assert [tokens.spend(LATE), tokens.spend(BROKEN)] == [10, None]
    for _ in range(5):
        tokens.give_back()
    assert [tokens.spend(BROKEN), tokens.spend(BROKEN)] == [5, None]


def test_without_tokens_nothing_is_repeated() -> None:
    """0 switches retries off for the whole client."""
    assert RetryTokens(0).spend(BROKEN) is None


def test_an_outage_costs_few_requests() -> None:
    """A thousand calls of up to three attempts in a total outage: under 1.2 requests a call."""
    tokens, sent = RetryTokens(RetryPolicy().tokens), 0
    for _ in range(1000):
        sent += 1
        for _ in range(2):
            if tokens.spend(BROKEN) is None:
                break
            sent += 1
    assert sent == 1100


@given(st.floats(0.01, 10), st.floats(1, 5), st.floats(0.01, 60))
@settings(deadline=None, database=None)
def test_pauses_grow_within_bounds(first: float, growth: float, longest: float) -> None:
    """Between half of the growing pause and the whole of it, never above the longest."""
    next_pause = pauses(RetryPolicy(first=first, growth=growth, longest=longest))
    wanted = first
    for pause in itertools.islice(iter(next_pause, None), 20):
        assert min(wanted, longest) * 0.499 <= pause <= min(wanted, longest) * 1.001
        wanted = min(wanted * growth, longest)


@pytest.mark.parametrize("kind", [RateLimitError, MaintenanceError, ServerError])
@pytest.mark.parametrize(("asked", "pause"), [(None, 1.5), (0.0, 0.0), (7.0, 7.0), (1e9, 60.0)])
def test_what_the_service_asks_for_counts_within_reason(
    kind: type[TopazError], asked: float | None, pause: float
) -> None:
    """`Retry-After` up to the policy's bound; without one the default."""
    error = kind("busy")
    error.retry_after = asked  # type: ignore[attr-defined]
    assert asked_pause(error, RetryPolicy(), 1.5) == pause


def test_an_error_that_asks_for_nothing_gets_the_default() -> None:
    """Most errors know of no pause."""
    assert [asked_pause(BROKEN, RetryPolicy()), asked_pause(LATE, RetryPolicy(), 2.0)] == [0.0, 2.0]
