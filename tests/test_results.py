"""A task's last record: its result, or the error that says why there is none."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given, settings, strategies as st

from topaz_async.errors import ResultError, TaskFailedError
from topaz_async.models import TaskRecord, UpscaleResult
from topaz_async.results import settle

LINKS = ("https://r.example/1.mp4", "https://r.example/2.mp4")


def failed(**fields: object) -> TaskFailedError:
    record = TaskRecord("t1", "fail", **fields)  # type: ignore[arg-type]
    with pytest.raises(TaskFailedError) as caught:
        settle(record, "order-17")
    assert caught.value.record is record
    return caught.value


@pytest.mark.parametrize("state", ["success", "SUCCESS", "completed"])
def test_a_success_is_a_result(state: str) -> None:
    """With its links, its record and the caller's own name for it."""
    record = TaskRecord("t1", state, result_urls=LINKS)
    result = settle(record, "order-17")
    assert result == UpscaleResult("t1", LINKS, record, reference="order-17")
    assert result.record is record


def test_a_success_without_a_link_is_an_error() -> None:
    """It is billed, and the record is at hand."""
    record = TaskRecord("t1", "success")
    with pytest.raises(ResultError) as caught:
        settle(record, "order-17")
    error = caught.value
    assert (error.task_id, error.reference, error.billed, error.record) == (
        "t1",
        "order-17",
        "yes",
        record,
    )
    assert str(error) == (
        "Task t1 succeeded and names no usable link. The task exists and may be billed. The "
        "record holds what the service said; fetch_task may give more later."
    )


def test_links_do_not_make_a_failure_a_success() -> None:
    """The state decides."""
    assert failed(result_urls=LINKS).message == "Task t1 failed: the service gave no reason."


AGAIN = (
    "A new submit makes a new task, which may well succeed. "
    "Its reference needs resubmit_failed=True for that."
)
CHANGE = "Change the input first: a new task of this one would fail as well."
ENDED = "This task will not change any more; a new submit makes a new one."


@pytest.mark.parametrize(
    ("code", "words", "message", "hint"),
    [
        ("422", "generate playground failed, task id is blank",
         "Task t1 failed with code 422: generate playground failed, task id is blank.", AGAIN),
        ("500", "Upload failed: Server internal error.",
         "Task t1 failed with code 500: Upload failed: Server internal error.", AGAIN),
        ("500", "internal error, please try again later.",
         "Task t1 failed with code 500: internal error, please try again later.", AGAIN),
        (None, "Internal Error", "Task t1 failed: Internal Error.", AGAIN),
        (None, "the server is busy", "Task t1 failed: the server is busy.", AGAIN),
        ("400", "Content was flagged by the safety system. Try again.",
         "Task t1 failed with code 400: Content was flagged by the safety system. Try again.",
         CHANGE),
        ("501", "The input or output was flagged as sensitive!",
         "Task t1 failed with code 501: The input or output was flagged as sensitive!", CHANGE),
        ("GENERATION_FAILED", None,
         "Task t1 failed with code GENERATION_FAILED: the service gave no reason.", ENDED),
        (None, None, "Task t1 failed: the service gave no reason.", ENDED),
    ],
)  # fmt: skip
def test_a_failure_in_the_services_words(
    code: str | None, words: str | None, message: str, hint: str
) -> None:
    """Code, words, what it cost and what helps: a new task, or another input."""
    error = failed(fail_code=code, fail_message=words)
    assert str(error) == f"{message} The task may have been billed. {hint}"
    assert (error.fail_code, error.fail_message) == (code, words)
    assert (error.task_id, error.reference) == ("t1", "order-17")
    assert error.retryable is (hint == AGAIN)


@pytest.mark.parametrize(
    ("cost", "billed", "retryable"),
    [(None, "unknown", True), (0.0, "no", True), (80.0, "yes", False), (-1.0, "unknown", True)],
)
def test_what_a_failure_cost(cost: float | None, billed: str, retryable: bool) -> None:
    """As the record says; what was paid for is not repeated by a loop that trusts `retryable`."""
    error = failed(fail_message="Internal Error", credits_consumed=cost)
    assert (error.billed, error.retryable) == (billed, retryable)


@pytest.mark.parametrize(
    ("fail_code", "code"),
    [("422", 422), ("GENERATION_FAILED", None), (None, None), ("٤٢٢", None), ("9" * 400, None)],
)
def test_the_code_is_a_number_where_it_is_one(fail_code: str | None, code: int | None) -> None:
    """The text stays in `fail_code`."""
    error = failed(fail_code=fail_code)
    assert (error.code, error.fail_code) == (code, fail_code)


@given(st.none() | st.text(), st.none() | st.text(), st.none() | st.floats())
@settings(deadline=None, database=None)
def test_any_failure_prints_and_pickles(
    code: str | None, words: str | None, cost: float | None
) -> None:
    """Whatever the service put there."""
    error = failed(fail_code=code, fail_message=words, credits_consumed=cost)
    assert str(error).isprintable()
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
