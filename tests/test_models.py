"""The frozen words of the domain."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime, timedelta

import attrs
import pytest

from topaz_async.errors import InvalidInputError
from topaz_async.models import (
    ImageUpscaleInput,
    TaskInput,
    TaskRecord,
    TaskState,
    UploadedFile,
    UpscaleFactor,
    UpscaleInput,
    UpscaleResult,
)

START = datetime(2026, 10, 1, tzinfo=UTC)
RECORD = TaskRecord("t1", "success", result_urls=("https://r.example/o.mp4",), credits_consumed=80)


@pytest.mark.parametrize(
    ("value", "factor"),
    [
        (1, UpscaleFactor.X1),
        (2, UpscaleFactor.X2),
        (4, UpscaleFactor.X4),
        ("1", UpscaleFactor.X1),
        ("4", UpscaleFactor.X4),
        (UpscaleFactor.X4, UpscaleFactor.X4),
    ],
)
def test_a_factor_is_read_from_what_people_write(value: int | str, factor: UpscaleFactor) -> None:
    """Numbers, digits in text and factors themselves are factors."""
    assert factor is UpscaleFactor.parse(value)
    assert factor is UpscaleInput("https://a.example/c.mp4", value).factor


@pytest.mark.parametrize(
    "value",
    [0, 3, 8, -2, "8", "2x", "x2", "", " 2", "02", "２", 2.0, True, False, None, [], 10**5000,
     "2" * 9999],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_any_other_factor_is_refused(value: object) -> None:
    """The error says what was given, in short, and which factors the service knows."""
    with pytest.raises(InvalidInputError) as caught:
        UpscaleFactor.parse(value)  # type: ignore[arg-type]
    assert caught.value.message.endswith("; the service knows 1, 2 and 4.")
    assert len(caught.value.message) < 120


def test_a_factor_is_sent_as_its_digit() -> None:
    """In text, a factor is what the wire wants."""
    assert [str(factor) for factor in UpscaleFactor] == ["1", "2", "4"]


@pytest.mark.parametrize(
    ("make", "field"), [(UpscaleInput, "video_url"), (ImageUpscaleInput, "image_url")]
)
def test_an_input_checks_its_url(make: type[TaskInput], field: str) -> None:
    """The field's own name stands in the error."""
    with pytest.raises(InvalidInputError, match=f"^{field} is plain http to a.example"):
        make("http://a.example/c.mp4")  # type: ignore[call-arg]


def test_an_input_shows_no_signature() -> None:
    """The repr leaves out what makes a link private; the value keeps it."""
    url = "https://a.example/c.mp4?Signature=s3cret"
    assert (
        repr(UpscaleInput(url, 4))
        == "UpscaleInput(video_url='https://a.example/c.mp4', factor=<UpscaleFactor.X4: '4'>)"
    )
    assert url == UpscaleInput(url).video_url


@pytest.mark.parametrize(
    ("word", "known", "success", "fail"),
    [
        ("waiting", True, False, False),
        ("queuing", True, False, False),
        ("queued", True, False, False),
        ("generating", True, False, False),
        ("processing", True, False, False),
        ("success", True, True, False),
        ("completed", True, True, False),
        ("SUCCESS", True, True, False),
        (" Success ", True, True, False),
        ("fail", True, False, True),
        ("failed", True, False, True),
        ("Error", True, False, True),
        ("successful", False, False, False),
        ("", False, False, False),
        ("cancelled", False, False, False),
    ],
)
def test_the_words_of_a_state(word: str, known: bool, success: bool, fail: bool) -> None:
    """Known words in any case are understood; an unknown one is pending, and stays as it is."""
    state = TaskState(word)
    assert (known, success, fail, success or fail) == (
        state.is_known,
        state.is_success,
        state.is_fail,
        state.is_terminal,
    )
    assert word == state


def test_a_duration_needs_both_ends() -> None:
    """Seconds between two moments of the service's clock; nonsense is None."""
    end = START + timedelta(seconds=64)
    record = attrs.evolve(RECORD, created_at=START, completed_at=end)
    assert record.duration == 64.0
    assert [
        RECORD.duration,
        attrs.evolve(record, completed_at=None).duration,
        attrs.evolve(record, created_at=end, completed_at=START).duration,
    ] == [None, None, None]


def test_records_are_compared_by_what_they_say() -> None:
    """Unknown fields in `raw` make no change; a new state does."""
    assert attrs.evolve(RECORD, raw={"new": 1}, result={"x": 1}) == RECORD
    assert attrs.evolve(RECORD, state="waiting") != RECORD


@pytest.mark.parametrize(
    "value",
    [
        UpscaleInput("https://a.example/c.mp4", 4),
        ImageUpscaleInput("https://a.example/c.png"),
        TaskState("waiting"),
        attrs.evolve(RECORD, raw={"a": [1]}),
        UpscaleResult("t1", RECORD.result_urls, RECORD, reference="r"),
        UploadedFile("https://u.example/c.mp4", size=3, uploaded_at=START),
    ],
)
def test_every_value_pickles(value: object) -> None:
    """What comes back is equal, of the same class and prints the same."""
    twin = pickle.loads(pickle.dumps(value))
    assert (type(value), value, repr(value)) == (type(twin), twin, repr(twin))


def test_values_are_frozen() -> None:
    """A change is `attrs.evolve`."""
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        RECORD.state = "fail"  # type: ignore[misc]


def test_a_result_speaks_for_its_record() -> None:
    """The first link and the cost are at hand."""
    result = UpscaleResult("t1", ("https://r.example/1", "https://r.example/2"), RECORD)
    assert (result.url, result.credits_consumed) == ("https://r.example/1", 80)


def test_an_uploaded_file_does_not_show_the_account() -> None:
    """The link holds the account's number: the repr leaves it and `raw` out."""
    file = UploadedFile("https://u.example/kieai/100001/c.mp4", "c.mp4", raw={"filePath": "100001"})
    assert "100001" not in repr(file)
