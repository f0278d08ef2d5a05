"""Timeouts, policies, quotas, budget: what they are by default and what they refuse."""

from __future__ import annotations

import math

import attrs
import pytest
from hypothesis import given, settings as hypothesis_settings, strategies as st

from topaz_async.durations import check_timeout
from topaz_async.errors import ConfigurationError
from topaz_async.settings import Budget, PollPolicy, Quotas, RetryPolicy, Timeouts

KINDS = [Timeouts, RetryPolicy, PollPolicy, Quotas, Budget]


def test_the_defaults() -> None:
    """Every number as the documents have it; a change here is a change of behaviour."""
    assert attrs.asdict(Timeouts()) == {
        "connect": 10.0,
        "submit": 60.0,
        "poll": 15.0,
        "upload": 900.0,
        "fetch": 60.0,
        "download": 3600.0,
        "stall": 60.0,
        "close": 5.0,
    }
    assert attrs.asdict(RetryPolicy()) == {
        "attempts": 3,
        "first": 0.5,
        "growth": 2.0,
        "longest": 8.0,
        "longest_retry_after": 60.0,
        "tokens": 500,
    }
    assert attrs.asdict(PollPolicy()) == {
        "first": 2.0,
        "growth": 1.5,
        "longest": 6.0,
        "jitter": 0.1,
        "steps": (),
        "outage": 120.0,
        "failures": 5,
        "grace": 30.0,
        "reconcile": 60.0,
        "in_flight": 10,
    }
    assert attrs.asdict(Quotas()) == {
        "submits": 20,
        "submit_window": 10.0,
        "polls": 8,
        "poll_window": 1.0,
        "max_upload_bytes": 10_485_760,
        "upload_life": 86_400.0,
        "reuse_uploads": 43_200.0,
        "result_life": 86_400.0,
        "uploads": 4,
        "downloads": 4,
        "max_download_bytes": 17_179_869_184,
    }


def test_the_published_prices() -> None:
    """8 credits a second for 1x and 2x, 14 for 4x."""
    assert Budget().prices["topaz/video-upscale"] == {"1": 8.0, "2": 8.0, "4": 14.0}


def test_the_documented_cadence() -> None:
    """The service's own advice, as a policy with a name."""
    assert ((30.0, 2.5), (120.0, 7.5), (math.inf, 22.5)) == PollPolicy.documented().steps


FIELDS = [
    (kind, field.name)
    for kind in KINDS
    for field in attrs.fields(kind)
    if field.name not in ("steps", "prices")
]
OPTIONAL = {"submits", "polls", "max_tasks", "max_credits", "min_balance"}


@pytest.mark.parametrize(("kind", "name"), FIELDS)
def test_no_number_may_be_nonsense(kind: type, name: str) -> None:
    """Texts, booleans, NaN, infinities and negative numbers are refused by name."""
    wrong = ["2", True, math.nan, math.inf, -math.inf, -1, -(10**400), 10**400, [], object()]
    for value in wrong if name in OPTIONAL else [*wrong, None]:
        with pytest.raises(ConfigurationError) as caught:
            kind(**{name: value})
        assert f"{kind.__name__}.{name} " in caught.value.message
        assert len(caught.value.message) < 120


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (Timeouts, {"poll": 0}, "Timeouts.poll is 0; it must be finite and above 0."),
        (Timeouts, {"poll": "5"}, "Timeouts.poll must be a number, not '5'."),
        (RetryPolicy, {"attempts": 0}, "RetryPolicy.attempts is 0; it must be finite and at "
         "least 1."),
        (RetryPolicy, {"attempts": 1.5}, "RetryPolicy.attempts must be a whole number, not 1.5."),
        (RetryPolicy, {"growth": 0.5}, "RetryPolicy.growth is 0.5; it must be finite and at "
         "least 1."),
        (PollPolicy, {"jitter": 1.0}, "PollPolicy.jitter is 1.0; it must be below 1."),
        (Quotas, {"submits": 0}, "Quotas.submits is 0; it must be finite and at least 1."),
    ],
)  # fmt: skip
def test_a_refusal_names_option_value_and_bound(kind: type, values: dict, message: str) -> None:
    """Whoever set it wrongly reads what to set."""
    with pytest.raises(ConfigurationError) as caught:
        kind(**values)
    assert message == str(caught.value)


@pytest.mark.parametrize("name", sorted(OPTIONAL))
def test_a_bound_can_be_switched_off(name: str) -> None:
    """None means without."""
    kind = Quotas if name in ("submits", "polls") else Budget
    assert getattr(kind(**{name: None}), name) is None


@pytest.mark.parametrize(
    ("steps", "kept"),
    [
        ((), ()),
        ([[30, 2]], ((30.0, 2.0),)),
        (((1, 2), (math.inf, 3)), ((1.0, 2.0), (math.inf, 3.0))),
    ],
)
def test_steps_are_pairs_of_seconds(steps: object, kept: object) -> None:
    """Lists and whole numbers will do."""
    assert kept == PollPolicy(steps=steps).steps  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "steps",
    [None, 5, "ab", [5], [(1,)], [(1, 2, 3)], [(1, 0)], [(0, 1)], [(-1, 1)], [(1, -1)],
     [(1, math.inf)], [(math.nan, 1)], [(1, math.nan)], [("1", "2")], [(2, 1), (1, 1)],
     [(1, 1), (1, 1)], [(10**400, 1)]],
    ids=repr,
)  # fmt: skip
def test_other_steps_are_refused(steps: object) -> None:
    """No pairs, pauses that never end or never pass, and steps that go back."""
    with pytest.raises(ConfigurationError, match=r"^PollPolicy.steps is "):
        PollPolicy(steps=steps)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(None, None), (1, 1.0), (0.5, 0.5), (math.inf, None), (10**400, None), (1e300, 1e300)],
    ids=["None", "1", "0.5", "inf", "huge", "1e300"],
)
def test_a_timeout_is_seconds_or_none(value: object, seconds: float | None) -> None:
    """Longer than any float can say is as good as none."""
    assert seconds == check_timeout(value)


@given(
    st.booleans()
    | st.text()
    | st.floats(max_value=0)
    | st.integers(max_value=0)
    | st.just(math.nan)
    | st.just(-(10**400))
    | st.lists(st.integers())
)
@hypothesis_settings(deadline=None, database=None)
def test_any_other_timeout_is_refused(value: object) -> None:
    """The error names the argument."""
    with pytest.raises(ConfigurationError, match=r"^total_timeout "):
        check_timeout(value, "total_timeout")
